"""One step of training, in this process."""

import functools

import numpy as np
from helpers import small_training

from facejax.runtime import mesh as mesh_lib
from facejax.training import state as train_state


@functools.cache
def step(devices, model):
  """How far the first step moves the prototypes, and its loss."""
  arguments = [
    *small_training.SMALL, "--data.num-identities", 1183,
    "--mesh.model", model, "--steps", 1,
  ]  # fmt: skip
  program = small_training.build(arguments, devices)
  state = train_state.create(program.init, program.like, seed=7)
  start = np.asarray(state.prototypes)[:1183]
  generator = np.random.default_rng(0)
  batch = {
    "images": generator.integers(256, size=(16, 32, 32, 3), dtype=np.uint8),
    "labels": generator.integers(1183, size=16, dtype=np.int32),
  }
  batch = mesh_lib.put_batch(batch, program.mesh)
  state, metrics = program.step(state, batch["images"], batch["labels"])
  return np.asarray(state.prototypes)[:1183] - start, float(metrics["loss"])


def test_a_step_in_float32_is_the_same_on_any_mesh():
  want_moved, want = step(1, 1)
  bound = 2e-6 * np.abs(want_moved).max()
  for shape in ((2, 2), (8, 8), (8, 2)):
    moved, loss = step(*shape)
    np.testing.assert_allclose(loss, want, rtol=1e-6)
    np.testing.assert_allclose(moved, want_moved, rtol=0, atol=bound)
