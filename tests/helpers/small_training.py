"""A run of seconds, in this process or in one of its own."""

import subprocess
import sys
import time

import jax
import numpy as np

from facejax.runs import checkpoint, history
from facejax.training import build as program_lib
from facejax.training import inputs, recipe
from facejax.training import state as train_state

# A run of seconds: 40 images of ten people, 32 x 32.
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


def start(arguments, environment, **options):
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


def run(arguments, environment, **options):
  return finish(start(arguments, environment, **options))


def wait_for_step(workdir, step, process, timeout=240):
  """Waits until the log of a running process has reached a step."""
  deadline = time.monotonic() + timeout
  while time.monotonic() < deadline and process.poll() is None:
    if any(r["step"] >= step for r in history.read(workdir)):
      return
    time.sleep(0.02)
  raise AssertionError(f"step {step} was not reached:\n{process.stdout.read()}")


def build(arguments, devices=1):
  """The program of a command line, on this process's devices."""
  config = recipe.parse(
    [*map(str, arguments), "--mesh.devices", str(devices)]
  ).to_config()
  images = inputs.training_images(config)
  return program_lib.build(
    config,
    num_classes=images.num_classes,
    total_steps=inputs.total_steps(config, len(images)),
  )


def initial_prototypes(arguments):
  program = build(arguments)
  return train_state.create(program.init, program.like, seed=7).prototypes


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
