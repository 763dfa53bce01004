"""Runs that meet a loss which is not finite, or a device that is wrong."""

import contextlib
import dataclasses
import json
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_training

from facejax.runs import checkpoint, history
from facejax.runtime import last_words
from facejax.training import build

SIMPLE = [
  *small_training.SMALL[2:], "--mesh.devices", 1, "--model.name",
  "sphereface4", "--steps", 6,
]  # fmt: skip
# As of images that hold nothing: the loss of one step, by the step's own key.
BAD_LOSS = """
import dataclasses
from facejax.training import recipe
from facejax.training.objectives import definition as definition_lib
from facejax.training.objectives import registry
import jax, jax.numpy as jnp

@dataclasses.dataclass(frozen=True)
class Bad(registry.CosFace):
  def definition(self, num_classes):
    def prepare(weights, stats, batch):
      key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), 3), 2)
      same = (jax.random.key_data(key) == jax.random.key_data(batch.key)).all()
      penalty = jnp.where(same, jnp.nan, 0.0)
      return definition_lib.Prepared(
        definition_lib.objective_lib.Parameters(), stats=stats,
        penalty=jnp.broadcast_to(penalty, batch.embeddings.shape[:1]),
      )
    plain = super().definition(num_classes)
    return dataclasses.replace(plain, prepare=prepare)

def get_config(preset="default"):
  config = recipe.load("cosface.py")
  return dataclasses.replace(config, loss=Bad(scale=16.0, margin=0.1))
"""


@pytest.mark.slow
def test_a_skipped_step_is_counted_named_and_survived(tmp_path):
  (tmp_path / "bad.py").write_text(BAD_LOSS)
  code, output = small_training.call(
    [
      "--config", tmp_path / "bad.py", *SIMPLE, "--on-nonfinite", "skip",
      "--workdir", tmp_path / "run",
    ],
  )  # fmt: skip
  assert code == 0, output
  assert "step 3 was left out" in output and "synthetic/" in output
  lines = [x for x in history.read(tmp_path / "run") if x["kind"] == "train"]
  assert [x["skipped"] for x in lines] == [0, 0, 1, 0, 0, 0]
  assert lines[2]["loss"] is None
  assert all(np.isfinite([x["loss"] for x in lines if not x["skipped"]]))


@contextlib.contextmanager
def bad_batches(batches, seen):
  """The step calls the loss of some batches NaN, by their labels.

  Args:
    batches: which, by their place among the different ones that are met.
    seen: is given the labels of every call.
  """
  compiled = build.compiled
  met = []

  def with_bad(config, program):
    step = compiled(config, program)

    def call(state, images, labels):
      seen.append(np.asarray(labels).tolist())
      digest = np.asarray(images).tobytes()
      if digest not in met:
        met.append(digest)
      state, metrics = step(state, images, labels)
      if met.index(digest) in batches:
        metrics = metrics | {"loss": jnp.float32(jnp.nan)}
      return state, metrics

    return call

  with mock.patch.object(build, "compiled", with_bad):
    yield


def rolled_back(run, batches, *flags):
  seen = []
  arguments = ["--config", "cosface.py", *SIMPLE, "--on-nonfinite", "rollback"]
  with bad_batches(batches, seen):
    found = small_training.call(
      [*arguments, "--checkpoint.every", 2, *flags, "--workdir", run]
    )
  return *found, seen


@pytest.mark.slow
def test_a_run_goes_back_and_on_without_the_batch(tmp_path):
  code, output, seen = rolled_back(tmp_path, {3, 5})
  assert code == 0, output
  assert "back to step 2; goes on without batch 3" in output
  assert "back to step 4; goes on without batch 5" in output
  # Batches 0 to 3, then 2, 4, 5, then 6, 7.
  assert len(seen) == 9 and seen[4] == seen[2]
  record = json.loads((tmp_path / "left_out.json").read_text())
  assert [one["batch"] for one in record["batches"]] == [3, 5]
  lines = [x for x in history.read(tmp_path) if x["kind"] == "train"]
  assert [x["step"] for x in lines] == [1, 2, 3, 4, 5, 6]
  assert all(np.isfinite([x["loss"] for x in lines]))
  # Whoever makes it longer goes without the same batches.
  code, output, again = rolled_back(tmp_path, (), "--steps", 7)
  assert code == 0, output
  assert len(again) == 1 and again[0] not in seen


@pytest.mark.slow
def test_what_is_always_bad_is_given_up(tmp_path):
  code, output, seen = rolled_back(tmp_path, range(2, 99))
  assert code == last_words.EXIT_FAILED, output
  assert output.count("back to step 2;") == 3
  assert "it is no matter of one batch" in output and "Traceback" not in output
  assert len(seen) < 12


@pytest.mark.slow
def test_a_device_that_computes_wrong_ends_the_run(tmp_path):
  arguments = [
    "--config", "cosface.py", *SIMPLE, "--mesh.devices", 2, "--check-every", 2,
    "--checkpoint.every", 1, "--workdir", tmp_path,
  ]  # fmt: skip
  code, output = small_training.call([*arguments, "--steps", 3])
  assert code == 0, output
  assert "step 2 came out the same twice" in output
  compiled, calls = build.compiled, 0

  def with_fault(config, program):
    step = compiled(config, program)

    def call(state, images, labels):
      nonlocal calls
      calls += 1
      state, metrics = step(state, images, labels)
      if calls != 2:
        return state, metrics
      moved = jnp.nextafter(state.prototypes[0, 0], jnp.inf)
      wrong = state.prototypes.at[0, 0].set(moved)
      wrong = jax.device_put(wrong, state.prototypes.sharding)
      return dataclasses.replace(state, prototypes=wrong), metrics

    return call

  with mock.patch.object(build, "compiled", with_fault):
    code, output = small_training.call(arguments)
  assert code == last_words.EXIT_FAILED, output
  assert "step 4 was computed twice" in output and "Traceback" not in output
  assert "device 0 (cpu): [0].prototypes differs" in output
  with checkpoint.Checkpoints(tmp_path / "checkpoints") as checkpoints:
    assert max(checkpoints.steps) == 3
