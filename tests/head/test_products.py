"""Logits of float8 operands, against the same rounding in double precision."""

import functools
import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from helpers import heads

from facejax.head import api, float8, memory, objective, products, storage
from facejax.runtime import mesh as mesh_lib

SCALE, MARGIN = 16.0, 0.35
COSFACE = objective.Objective(heads.COSFACE_MARGIN, SCALE)
PROBLEM = heads.problem(101, dim=64)
FLOAT8 = {"objective": COSFACE, "precision": "float8", "block_size": 20}


def rounded(x):
  """x [rows, dim] to float8, a power of two a row, by ml_dtypes."""
  largest = np.abs(x).max(axis=1, keepdims=True).astype(np.float64)
  scale = 2.0 ** (np.floor(np.log2(np.where(largest > 0, largest, 1))) - 7)
  return (x / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * scale


def oracle(problem, round_w=rounded, round_x=rounded):
  """Losses and the gradients of the sum of them, logits of what is rounded."""
  w = problem.prototypes.astype(np.float64)
  x = problem.embeddings.astype(np.float64)
  units = x / np.linalg.norm(x, axis=1, keepdims=True)
  # Queries cross the devices in bfloat16.
  queries = np.float64(np.float32(SCALE * units).astype(ml_dtypes.bfloat16))
  norms = np.linalg.norm(w, axis=1)
  logits = round_x(queries) @ (round_w(problem.prototypes) / norms[:, None]).T
  rows = np.arange(len(x))
  own = (queries * w[problem.labels]).sum(axis=1) / norms[problem.labels]
  logits[rows, problem.labels] = own - SCALE * MARGIN
  highest = logits.max(axis=1, keepdims=True)
  shares = np.exp(logits - highest)
  total = shares.sum(axis=1, keepdims=True)
  loss = (highest + np.log(total))[:, 0] - logits[rows, problem.labels]
  d_logits = shares / total
  d_logits[rows, problem.labels] -= 1
  # As if nothing had been rounded.
  d_units = SCALE * d_logits @ (w / norms[:, None])
  radial = (d_units * units).sum(axis=1, keepdims=True)
  d_x = (d_units - radial * units) / np.linalg.norm(x, axis=1, keepdims=True)
  d_w = d_logits.T @ queries / norms[:, None]
  each = w / norms[:, None]
  d_w -= (d_w * each).sum(axis=1, keepdims=True) * each
  return loss, d_w, d_x


@pytest.mark.parametrize("dim", [1, 3, 128])
def test_codes_are_the_nearest(dim):
  rng = np.random.default_rng(dim)
  x = rng.normal(size=(500, dim)) * 10.0 ** rng.integers(-30, 30, (500, 1))
  x = (x * 10.0 ** rng.integers(-4, 1, (500, dim))).astype(np.float32)
  x[0] = 0
  numbers, scales = jax.jit(float8.codes)(x)
  found = np.asarray(numbers).astype(np.float64) * np.asarray(scales)[:, None]
  np.testing.assert_array_equal(found, rounded(x))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so(value):
  x = np.ones((2, 4), np.float32)
  x[0, 1] = value
  operand = products.Operand(*float8.codes(jnp.asarray(x)))
  found = np.asarray(products.logits(operand, operand))
  assert not np.isfinite(found[0]).any() and not np.isfinite(found[:, 0]).any()
  assert found[1, 1] == 4


def test_rows_of_float8_lose_nothing_once_more():
  """Unless a quarter is far smaller than the largest."""
  x = np.random.default_rng(0).normal(size=(100, 128)).astype(np.float32)
  kept = storage.load(storage.encode(jnp.asarray(x), "float8"))
  numbers, scales = float8.codes(kept)
  again = numbers.astype(jnp.float32) * scales[:, None]
  # Fractions of three bits down to 2^-13 of the row's largest number.
  np.testing.assert_allclose(again, kept, rtol=0, atol=2.0**-16 * 8)
  assert (again == kept).mean() > 0.99


@pytest.mark.parametrize("shape", heads.MESHES)
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_value_and_gradients(monkeypatch, shape, platform):
  monkeypatch.setattr(mesh_lib, "platform", lambda mesh: platform)
  out, (d_w, d_x, _) = heads.evaluate(PROBLEM, shape, **FLOAT8)
  loss, wanted_w, wanted_x = oracle(PROBLEM)
  rtol = 1e-5 if platform == "cpu" else 2e-3  # where e^z is bfloat16
  np.testing.assert_allclose(out.loss, loss, rtol=rtol)
  # The gradient's products have operands of bfloat16.
  heads.close(d_w, wanted_w / len(loss), 0.01)
  heads.close(d_x, wanted_x / len(loss), 0.01)
  # It is the rounding that this measures, and that is no larger than it may be.
  exact, *_ = oracle(PROBLEM, *[lambda x: x.astype(np.float64)] * 2)
  difference = np.abs(out.loss - exact)
  assert 1e-3 < difference.max() < SCALE * 2**-4


@pytest.mark.parametrize(
  ("implementation", "options"),
  [
    ("fused", {}),
    ("fused", {"dtype": "float8"}),
    ("partial_fc", {"rate": 0.3}),
    ("sparse", {"rate": 0.3}),
  ],
)
def test_a_step_does_not_depend_on_the_mesh(implementation, options):
  take = functools.partial(
    heads.step,
    PROBLEM,
    tx=heads.DECAY,
    head=COSFACE,
    key=jax.random.key(3),
    implementation=implementation,
    precision="float8",
    **options,
  )
  one, start, _ = take((1, 1))
  for shape in ((8, 8), (8, 2)):
    many, *_ = take(shape)
    np.testing.assert_allclose(many.output.loss, one.output.loss, rtol=1e-5)
    heads.close(many.d_embeddings, one.d_embeddings, 0.01)
    before, after, wanted = (
      np.asarray(storage.load(jnp.asarray(w)))[:101]
      for w in (start, many.state.prototypes, one.state.prototypes)
    )
    assert len(heads.changed_rows(wanted, before))
    # A share of bfloat16 may round the other way, and then a code of float8.
    heads.close(after, wanted, 0.1 if "dtype" in options else 1e-3)


@pytest.mark.parametrize("implementation", ["fused", "partial_fc", "chunked"])
def test_lowered_for_cuda(implementation):
  """Logits are products of float8, gradients of bfloat16; sums are float32."""
  head = api.Head(
    COSFACE,
    1001,
    mesh_lib.make_mesh(devices=2),
    tx=heads.OPTIMIZERS["momentum"],
    implementation=implementation,
    precision="float8",
  )
  program = memory.traced_step(head, dim=64, batch=16)
  text = program.lower(lowering_platforms=("cuda",)).as_text()
  found = re.findall(r"dot_general .*: \((.*)\) -> tensor<(.*)>", text)
  kinds = [re.findall(r"x([a-zA-Z]\w+)>", operands) for operands, _ in found]
  assert sorted(kinds) == [["bf16"] * 2] * 2 + [["f8E4M3FN"] * 2] * 2
  assert all(result.endswith("xf32") for _, result in found)


def test_pallas_has_no_such_kernels():
  with pytest.raises(ValueError, match="no kernels for precision=float8"):
    api.Head(
      COSFACE,
      128,
      mesh_lib.make_mesh(devices=1),
      implementation="pallas",
      precision="float8",
    )
