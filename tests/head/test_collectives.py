"""What crosses the devices in a step of the head, and in which type."""

import re

import numpy as np
import pytest
from helpers import heads

from facejax.head import api, memory
from facejax.runtime import mesh as mesh_lib


def lowered(implementation, *, model, **options):
  """A step of 1,000 classes and 64 examples on eight devices, as text."""
  head = api.Head(
    heads.COSFACE,
    1000,
    mesh_lib.make_mesh(devices=8, model=model),
    tx=heads.OPTIMIZERS["momentum"],
    implementation=implementation,
    **options,
  )
  return memory.traced_step(head, dim=16, batch=64).lower().as_text()


def sent(text, kind):
  """The types of what the messages of a kind take, as lowered."""
  found = re.findall(
    rf"stablehlo\.{kind}\".*?[}})>] : \(tensor<(\S+)>\) ->", text, re.DOTALL
  )
  return set(found)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
  "implementation", ["fused", "chunked", "partial_fc", "sparse"]
)
def test_queries_are_sent_as_the_products_take_them(implementation, precision):
  """Each device's 8 of the 64; their gradients come back as float32."""
  text = lowered(implementation, model=8, precision=precision)
  narrow = "bf16" if precision == "bfloat16" else "f32"
  assert sent(text, "all_gather") == {f"8x16x{narrow}"}
  assert sent(text, "reduce_scatter") == {"64x16xf32"}


@pytest.mark.parametrize("shape", [(8, 8), (8, 2)])
def test_rounded_queries_give_the_same_on_any_mesh(shape):
  """One device rounds too, though it sends nothing."""
  problem = heads.problem(40)
  options = {"objective": heads.COSFACE, "precision": "bfloat16"}
  out, gradients = heads.evaluate(problem, shape, **options)
  want, wanted = heads.evaluate(problem, (1, 1), **options)
  # Gradients of logits are rounded to 2^-9 of themselves, either way.
  heads.check((out, gradients), (want, wanted), share=2**-8)
  np.testing.assert_allclose(out.loss, want.loss, rtol=1e-5)


@pytest.mark.parametrize("implementation", ["fused", "partial_fc", "sparse"])
def test_gradients_are_summed_one_block_behind(implementation):
  """The sum is of what the loop's turn was given, not of its own products."""
  text = lowered(implementation, model=2, block_size=100)
  summed = re.findall(
    r'"stablehlo\.all_reduce"\(%([\w#]+)\)(?:.(?!"stablehlo))*?'
    r"\}\) : \(tensor<100x16xf32>\)",
    text,
    re.DOTALL,
  )
  # In the loop an argument; after it, for the last block, a result of the loop.
  assert len(summed) == 2
  assert all(re.fullmatch(r"(arg|iterArg_?)\d+|\d+#\d+", n) for n in summed)
