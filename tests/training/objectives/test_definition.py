"""What a loss carries: its start, its chance level, and over a restart."""

import math

import jax
import numpy as np
import pytest
from helpers import loss_cases, small_training

from facejax.head import centers
from facejax.losses import center
from facejax.runs import checkpoint
from facejax.runtime import mesh as mesh_lib
from facejax.training import state as train_state
from facejax.training.objectives import definition


@pytest.mark.parametrize("name", loss_cases.LOSSES)
def test_chance_is_the_loss_at_zero_cosines(name):
  wanted = loss_cases.LOSSES[name].definition(50)
  chance = definition.chance_loss(wanted, num_classes=50)
  if wanted.objective.table is not None:
    assert chance is None
    return
  assert math.isfinite(chance) and chance > 0
  known = {
    "softmax": math.log(50),
    "nsl": math.log(50),
    "cosface": math.log1p(49 * math.exp(16 * 0.35)),
    "arcface": math.log1p(49 * math.exp(16 * math.sin(0.5))),
  }
  if name in known:
    assert chance == pytest.approx(known[name], rel=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (8, 2)])
def test_centres_move_as_in_the_paper(shape):
  rng = np.random.default_rng(1)
  start = rng.normal(size=(24, 5)).astype(np.float32)
  x = rng.normal(size=(16, 5)).astype(np.float32)
  labels = rng.integers(9, size=16).astype(np.int32)
  assert len(set(labels.tolist())) < 16
  mesh = mesh_lib.make_mesh(devices=shape[0], model=shape[1])
  rows = jax.device_put(start, mesh_lib.sharding(mesh, mesh_lib.CLASSES))
  taken = jax.jit(lambda c: centers.take(c, labels, mesh=mesh))(rows)
  np.testing.assert_array_equal(taken, start[labels])
  moved = jax.jit(lambda c: centers.update(c, x, labels, rate=0.5, mesh=mesh))(
    rows
  )
  wanted = center.update_centers(start, x, labels, rate=0.5)
  np.testing.assert_allclose(moved, wanted, rtol=1e-5, atol=1e-6)
  absent = sorted(set(range(24)) - set(labels.tolist()))
  np.testing.assert_array_equal(np.asarray(moved)[absent], start[absent])


def arguments(recipe):
  more = []
  if recipe == "cosface.py":
    more = ["--center.weight", 0.003]
  if recipe == "facenet.py":
    more = [
      "--data.identities-per-batch", 4, "--optim.ema", 0.5,
      "--optim.name", "adagrad", "--optim.schedule", "cosine",
    ]  # fmt: skip
  return [
    "--config", recipe, *small_training.SMALL[2:], "--steps", 4,
    "--optim.warmup", 0, *more,
  ]  # fmt: skip


def advance(program, state, steps):
  for step in steps:
    generator = np.random.default_rng(step)
    batch = {
      "images": generator.integers(256, size=(16, 32, 32, 3), dtype=np.uint8),
      "labels": generator.integers(10, size=16, dtype=np.int32),
    }
    batch = mesh_lib.put_batch(batch, program.mesh)
    state, metrics = program.step(state, batch["images"], batch["labels"])
  return state, jax.device_get(metrics)


@pytest.mark.slow
@pytest.mark.parametrize(
  "recipe",
  ["sphereface.py", "adaface.py", "sphereface2.py", "cosface.py", "facenet.py"],
)
def test_what_a_loss_carries_survives_a_restart(recipe, tmp_path):
  program = small_training.build(arguments(recipe))

  def fresh():
    return train_state.create(program.init, program.like, seed=7)

  start = jax.device_get(fresh().loss)
  state, _ = advance(program, fresh(), range(2))
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(2, state)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    restored = checkpoints.restore(
      program.like, resizable=train_state.has_class_axis
    )
  again, metrics = advance(program, restored.state, range(2, 4))
  whole, wanted = advance(program, fresh(), range(4))
  small_training.assert_same_bits(jax.device_get(again), jax.device_get(whole))
  assert metrics == wanted
  if recipe == "facenet.py":
    assert whole.prototypes is None and "selected" in metrics
    return
  changed = jax.tree.map(
    lambda a, b: bool((a != b).any()), start, jax.device_get(whole.loss)
  )
  assert any(jax.tree.leaves(changed))
  if recipe == "sphereface.py":
    assert float(whole.loss.stats["step"]) == 4
    assert metrics["lambda"] == pytest.approx(1000 / (1 + 0.12 * 4))
  if recipe == "cosface.py":
    assert np.asarray(whole.loss.centers).any()
  if recipe == "adaface.py":
    assert 0 < float(whole.loss.stats["mean"]) < 20
