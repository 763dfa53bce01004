"""How often a step of the fused head goes over a block beside its products."""

import jax
import pytest

from facejax.head import api, memory
from facejax.runtime import program_text

BATCH, DIM, BLOCK = 192, 320, 1024
_FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast")


def passes(text, shapes):
  """Names of the kernels of each loop that move an array of such a shape.

  Or write one into an array of more rows. Without products, and without the
  branches of conditionals: what is done where squares leave float32.
  """
  seldom = {
    name
    for one in text.instructions
    if one.opcode == "conditional"
    for name in text.computations
    if f"%{name}," in one.rest or f"%{name}}}" in one.rest
  }
  found = {}
  for name, times in text.times.items():
    if times == 1 or name in seldom:
      continue
    found[name] = [
      one.name
      for one in text.computations[name].values()
      if one.opcode not in (*_FREE, "conditional")
      and _moves(text, one, shapes)
      and not _multiplies(text, one)
    ]
  return found


def _moves(text, one, shapes):
  types = [one.type, *(operand.type for operand in text.operands_of(one))]
  written = "dynamic-update-slice" in one.name
  return written or any(shape in kind for shape in shapes for kind in types)


def _multiplies(text, one):
  inside = [
    inner.opcode
    for name in one.called
    for inner in text.computations.get(name, {}).values()
  ]
  return "dot" in (one.opcode, *inside)


@pytest.mark.program_of_users
def test_passes_over_a_block_on_a_cpu():
  """Which they are, and why they remain, docs/head.md says."""
  mesh = memory.make_mesh(devices=1)
  head = api.Head(
    memory.COSFACE,
    10 * BLOCK,
    mesh,
    tx=memory.OPTIMIZERS["momentum"],
    block_size=BLOCK,
  )
  compiled = memory.compile_step(head, dim=DIM, batch=BATCH)
  text = program_text.ProgramText(compiled.as_text() or "")
  shapes = [f"f32[{BLOCK},{n}]" for n in (BATCH, DIM)]
  forward, backward = passes(text, shapes).values()
  assert len(forward) <= 5, forward
  assert len(backward) <= 6, backward


def test_squares_that_leave_float32_take_the_branch():
  mesh = memory.make_mesh(devices=1)
  head = api.Head(
    memory.COSFACE, 300, mesh, tx=memory.OPTIMIZERS["sgd"], block_size=128
  )
  x = jax.random.normal(jax.random.key(1), (8, 16))
  labels = jax.numpy.arange(8)
  state = head.init(jax.random.key(0), dim=16)
  # Rows of all blocks but the last; lengths do not matter to the loss.
  long = state.prototypes.at[:200:3].multiply(1e25)
  plain = head.loss(state.prototypes, x, labels)
  found = head.loss(long, x, labels)
  assert not jax.numpy.isfinite((long * long).sum(axis=1)).all()
  assert jax.numpy.allclose(found.loss, plain.loss, rtol=1e-5)
  moved = head.update(state._replace(prototypes=long), x, labels)
  assert jax.numpy.allclose(moved.output.loss, plain.loss, rtol=1e-5)
  assert jax.numpy.isfinite(moved.d_embeddings).all()
