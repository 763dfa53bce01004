"""Building and compiling without training, also for chips that are elsewhere."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import jax
import rich

from facejax.runtime import topology
from facejax.training import build, meshes, needs, run_stages, summary
from facejax.training import config as config_lib

logger = logging.getLogger(__name__)

# How long the run would be changes the size of no program.
_STEPS = 1000


def programs_of(
  config: config_lib.Config,
  classes: int,
  among: Sequence[Any] | None = None,
) -> list[tuple[config_lib.Config, build.Program]]:
  """Settings and program of each stage of a run on data that is not there.

  Args:
    config: of the run.
    classes: identities, without distractors.
    among: devices to compile for; None for those of this machine.
  """
  found: list[tuple[config_lib.Config, build.Program]] = []
  for stage in run_stages.plan(config, None):
    own = dataclasses.replace(
      stage.config, optim=_in_shares(stage.config.optim)
    )
    program = build.build(
      meshes.settled(own, found[0][1].mesh) if found else own,
      num_classes=classes + config.head.extra_classes,
      total_steps=_STEPS,
      among=among,
      ramps=stage.ramps,
    )
    found.append((stage.config, program))
  return found


def _in_shares(optim: config_lib.OptimConfig) -> config_lib.OptimConfig:
  """As many parts of the schedule, of lengths that fit into any run."""
  count = len(optim.milestones) + 1
  head = optim.head
  if head.warmup is not None:
    head = dataclasses.replace(head, warmup=1 / (2 * count))
  return dataclasses.replace(
    optim,
    warmup=1 / (2 * count) if optim.warmup else 0.0,
    milestones=tuple(k / count for k in range(1, count)),
    head=head,
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
