"""A run of seconds, in this process or in one of its own."""

import contextlib
import io
import logging
import os
import subprocess
import sys
from unittest import mock

import jax
import numpy as np

from facejax import train
from facejax.data import pipeline
from facejax.runs import checkpoint, history
from facejax.runtime import host_memory
from facejax.runtime import mesh as mesh_lib
from facejax.training import build as program_lib
from facejax.training import inputs, recipe
from facejax.training import state as train_state

# A run of seconds: 40 images of ten people, 32 x 32; the smallest of the nets
# that have the parts of the recipe's own.
SMALL = [
  "--config",
  "cosface.py",
  "--batch-size",
  "16",
  "--data.num-identities",
  "10",
  "--data.images-per-identity",
  "4",
  "--data.image-size",
  "32",
  "32",
  "--model.name",
  "iresnet10_slim",
  "--model.embedding-dim",
  "16",
  "--eval.num-pairs",
  "40",
  "--eval.batch-size",
  "32",
  "--log-every",
  "1",
  "--seed",
  "7",
  "--optim.learning-rate",
  "0.02",
]


def call(arguments):
  """Trains in this process; the exit code, and what it wrote.

  What it changes for the whole process is put back: logging, JAX's precision.
  """
  log, x64 = logging.getLogger("facejax"), jax.config.jax_enable_x64
  before = log.handlers[:], log.level, log.propagate
  log.handlers = []
  output = io.StringIO()
  try:
    with (
      contextlib.redirect_stdout(output),
      contextlib.redirect_stderr(output),
      mock.patch.object(host_memory, "keep_freed_memory"),
    ):
      code = train.main([*map(str, arguments)])
  except SystemExit as leaving:
    code = leaving.code
  finally:
    for handler in log.handlers:
      handler.close()
    log.handlers, log.level, log.propagate = before
    jax.config.update("jax_enable_x64", x64)
  return code, output.getvalue()


def start(arguments, **options):
  """Trains in a process of its own, with as many devices as this one has.

  So it finds here compiled what this process compiled, and the other way round.
  """
  environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": str(jax.device_count()),
  }
  return subprocess.Popen(
    [sys.executable, "-m", "facejax.train", *map(str, arguments)],
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    **options,
  )


def finish(process, timeout=300):
  output, _ = process.communicate(timeout=timeout)
  return process.returncode, output


def run(arguments, **options):
  return finish(start(arguments, **options))


def build(arguments, devices=1):
  """The program of a command line, on this process's devices."""
  return _parts([*arguments, "--mesh.devices", devices])[2]


def _parts(arguments):
  config = recipe.parse([*map(str, arguments)]).to_config()
  images = inputs.training_images(config)
  program = program_lib.build(
    config,
    num_classes=images.num_classes,
    total_steps=inputs.total_steps(config, len(images)),
  )
  return config, images, program


def random_steps(program, state, labels, *, steps, frozen=()):
  """Takes steps on images at random: the state after them, and their metrics.

  Args:
    program: of `build`.
    state: is given away.
    labels: int32 [batch], of each of the steps.
    steps: how many.
    frozen: of a teacher, for a program with one.
  """
  draw, found = np.random.default_rng(0), []
  size = (len(labels), *program.backbone.image_size, 3)
  for _ in range(steps):
    images = draw.integers(256, size=size, dtype=np.uint8)
    batch = {"images": images, "labels": np.asarray(labels, np.int32)}
    batch = mesh_lib.put_batch(batch, program.mesh)
    state, metrics = program.step(
      state, batch["images"], batch["labels"], *frozen
    )
    found.append(jax.device_get(metrics))
  return state, found


def trained(arguments):
  """What a run computes, without all that it writes.

  Args:
    arguments: of a command line.

  Returns:
    The losses of all steps, the prototypes before and after them.
  """
  config, images, program = _parts(arguments)
  state = train_state.create(program.init, program.like, seed=config.seed)
  start = np.asarray(state.prototypes)
  # The state is donated: one at a time.
  losses, last = [], state
  for last, loss, _ in _steps(config, images, program, state):  # noqa: B007
    losses.append(loss)
  return losses, start, np.asarray(last.prototypes)


def curve(arguments):
  """The losses of all steps, and which images this process read for them.

  Of several processes, each reads its places of the batch.
  """
  config, images, program = _parts(arguments)
  state = train_state.create(program.init, program.like, seed=config.seed)
  places = mesh_lib.local_places(config.batch_size, program.mesh)
  losses, record_ids = [], []
  for _, loss, records in _steps(config, images, program, state):
    losses.append(loss)
    record_ids.append(records.tolist())
  return {
    "losses": losses,
    "places": places.tolist(),
    "record_ids": record_ids,
  }


def _steps(config, images, program, state):
  """Takes the steps of a run: yields state, loss and records of each."""
  places = mesh_lib.local_places(config.batch_size, program.mesh)
  batches = pipeline.batches(
    images,
    batch_size=config.batch_size,
    seed=config.seed,
    augment=inputs.augmentation(config),
    sampler=inputs.sampler(config, images),
    places=places.tolist(),
  )
  for _ in range(config.steps):
    batch = next(batches)
    placed = mesh_lib.put_batch(
      {"images": batch["image"], "labels": batch["label"]},
      program.mesh,
      size=config.batch_size,
    )
    state, metrics = program.step(state, placed["images"], placed["labels"])
    yield state, float(metrics["loss"]), batch["record_id"]
  batches.close()


def final_state(arguments, workdir, devices=1):
  """The newest checkpoint of a run: its step and its state."""
  program = build(arguments, devices)
  with checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints:
    restored = checkpoints.restore(
      program.like, resizable=train_state.has_class_axis
    )
  assert restored is not None
  return restored.step, restored.state


def losses(workdir):
  return {
    record["step"]: record["loss"]
    for record in history.read(workdir)
    if record["kind"] == "train"
  }


def assert_same_bits(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)
