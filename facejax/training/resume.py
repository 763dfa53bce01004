"""Where a run goes on: its newest checkpoint, or its beginning."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facejax.runs import checkpoint
from facejax.training import build as program_lib
from facejax.training import (
  compatible,
  init_from,
  inputs,
  loop,
  optimizers,
  teachers,
)
from facejax.training import config as config_lib
from facejax.training import state as train_state

logger = logging.getLogger(__name__)


def check_other_runs(config: config_lib.Config) -> None:
  """Refuses runs that this one cannot begin with or learn from.

  Raises:
    FileNotFoundError: naming the folder.
    ValueError: if their nets do not fit.
  """
  init_from.check(config)
  teachers.check(config)
  compatible.check(config)


def restore_or_create(
  config: config_lib.Config,
  programs: Sequence[program_lib.Program],
  data: inputs.Data,
  *,
  total_steps: int,
  checkpoints: checkpoint.Checkpoints,
) -> train_state.TrainState:
  """The newest sound checkpoint, or the state at step 0; writes nothing.

  A state comes in the form of the stage that it was made in.

  Args:
    config: of the run.
    programs: of its stages.
    data: of the first stage.
    total_steps: of the run.
    checkpoints: of the run.

  Raises:
    ValueError: if the checkpoint was trained on other images, or for more
      steps than there are to be.
    OSError: if there are checkpoints and none can be read.
  """
  here = data.fingerprint()

  def accept(stored: Mapping[str, Any]) -> None:
    # Before the arrays are cut to the size of other classes.
    for name, value in here.items():
      if stored.get(name) != value:
        raise ValueError(
          f"the run in {config.workdir} was trained on"
          f" {name}={stored.get(name)}, and data.path={config.data.path!r} has"
          f" {name}={value}: give the images that it was trained on, or another"
          " --workdir"
        )

  def like(record: Mapping[str, Any]) -> train_state.TrainState:
    return programs[record["metadata"].get(loop.STAGE, 0)].like

  restored = checkpoints.restore(
    like, resizable=train_state.has_class_axis, accept=accept
  )
  if restored is None:
    return init_from.state(config, programs[0], data.images.class_names)
  if restored.step > total_steps:
    raise ValueError(
      f"the run in {config.workdir} has taken {restored.step:,} steps already,"
      f" and steps={config.steps}, epochs={config.epochs} make {total_steps:,}:"
      " give more of them, or another --workdir"
    )
  logger.info("resumed at step %d", restored.step)
  return restored.state


def tell_length(
  config: config_lib.Config,
  stored: Mapping[str, Any] | None,
  *,
  step: int,
  num_images: int,
) -> None:
  """Says if a run is now to be of another length than it was begun for.

  Its schedule is a function of step and length: where it is not constant, it
  goes on as that of a run which had this length from the start.

  Args:
    config: as it is now.
    stored: what the folder was told before; None for a new run.
    step: where it goes on.
    num_images: of the training set.
  """
  if stored is None:
    return
  before = dataclasses.replace(
    config, steps=stored.get("steps"), epochs=stored.get("epochs")
  )
  if before.steps is None and before.epochs is None:
    return
  old, new = (inputs.total_steps(c, num_images) for c in (before, config))
  if old == new:
    return
  logger.info("the run was begun for %s steps, and goes on to %s", old, new)
  # At the next step, of which the old schedule may know nothing any more.
  optimizer = config.optim.at_batch(config.batch_size)
  per_epoch = inputs.steps_per_epoch(config, num_images)
  was, now = (
    np.asarray(
      optimizers.schedule(
        optimizer, total_steps=total, steps_per_epoch=per_epoch
      )(step)
    )
    for total in (old, new)
  )
  if was != now:
    logger.warning(
      "the %s schedule of the learning rate is planned anew for %s steps: at"
      " step %d it is %.4g, where it was %.4g",
      *(config.optim.schedule, new, step, now, was),
    )
