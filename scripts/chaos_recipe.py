"""A tiny run that something happens to, for `chaos.py`; no recipe for users.

The variable CHAOS says what, as JSON: {"fault": "raise", "process": 1, "step":
5, …}. It happens in one process, at the end of one step.
"""

import dataclasses
import hashlib
import json
import multiprocessing
import os
import pathlib
import time

import jax.numpy as jnp
import numpy as np

from facejax.runtime import distributed
from facejax.training import build, config, loop, recipe

_CHAOS = json.loads(os.environ.get("CHAOS", "{}"))


def get_config(preset: str = "") -> config.Config:
  """The narrow net, with room for faults between its checkpoints."""
  del preset
  base = recipe.load(str(pathlib.Path(__file__).with_name("narrow_recipe.py")))
  _arm()
  return dataclasses.replace(
    base,
    # Each of one to four processes has images.
    batch_size=12,
    steps=40,
    epochs=None,
    eval=dataclasses.replace(base.eval, batch_size=12),
    checkpoint=dataclasses.replace(base.checkpoint, every=2, keep=3),
  )


def _arm() -> None:
  """Lets the fault happen."""
  after = loop.Trainer._after

  def with_fault(trainer, step, state):
    after(trainer, step, state)
    here = _CHAOS.get("process", 0) == distributed.index()
    at = _CHAOS.get("step")
    if here and (at is None or step == at):
      _happen(step)

  loop.Trainer._after = with_fault
  if _CHAOS.get("fault") == "nan":
    _bad_batch()


def _happen(step: int) -> None:
  fault = _CHAOS.get("fault")
  if fault == "raise":
    raise RuntimeError(f"an error of its own at step {step}")
  if fault == "slow":
    time.sleep(_CHAOS["seconds"])
  if fault == "hang":
    time.sleep(10**6)
  if fault == "worker":
    _kill_a_reader()
  if fault == "clock":
    _jump(_CHAOS["seconds"])


def _bad_batch() -> None:
  """The loss of one batch is NaN, as of images that hold nothing."""
  compiled, met = build.compiled, []

  def with_bad(config, program):
    step = compiled(config, program)

    def call(state, images, labels):
      # The same batch is bad whenever it comes.
      mine = images.addressable_shards[0].data
      digest = hashlib.sha256(np.asarray(mine).tobytes()).hexdigest()
      if digest not in met:
        met.append(digest)
      state, metrics = step(state, images, labels)
      if met.index(digest) + 1 == _CHAOS["step"]:
        metrics = metrics | {"loss": metrics["loss"] * jnp.nan}
      return state, metrics

    return call

  build.compiled = with_bad


def _kill_a_reader() -> None:
  """Kills one of the processes that read images."""
  multiprocessing.active_children()[0].kill()


def _jump(seconds: float) -> None:
  """The time of day is another one from here on."""
  tell = time.time
  time.time = lambda: tell() + seconds
