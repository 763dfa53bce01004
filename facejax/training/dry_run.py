"""Building and compiling without training, also for chips that are elsewhere."""

import logging
from collections.abc import Sequence
from typing import Any

import jax
import rich

from facejax.runtime import topology
from facejax.training import build, needs, summary
from facejax.training import config as config_lib

logger = logging.getLogger(__name__)

# How long the run would be changes the size of no program.
_STEPS = 1000


def program_of(
  config: config_lib.Config,
  classes: int,
  among: Sequence[Any] | None = None,
) -> build.Program:
  """The program of a run on data that is not there.

  Args:
    config: of the run.
    classes: identities, without distractors.
    among: devices to compile for; None for those of this machine.
  """
  return build.build(
    config,
    num_classes=classes + config.head.extra_classes,
    total_steps=_STEPS,
    among=among,
  )


def show(config: config_lib.Config, program: build.Program) -> bool:
  """Compiles the step and shows what it takes; whether it fits."""
  try:
    compiled = build.compiled(config, program)
  except jax.errors.JaxRuntimeError as error:
    said = topology.does_not_fit(error)
    if said is None:
      raise
    logger.error("%s", needs.answer(said, config, program))
    return False
  rich.print(summary.compiled_table(compiled, config, program))
  return True
