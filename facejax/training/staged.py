"""A run with all its stages: what is read and what is computed in each of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from facejax.training import (
  build,
  carry,
  held_out,
  inputs,
  lengths,
  meshes,
  run_stages,
)
from facejax.training import config as config_lib


class Part(NamedTuple):
  """A stage of a run, with what it needs.

  Attributes:
    stage: from where to where, and its settings.
    program: its compiled side.
    data: what it reads.
  """

  stage: run_stages.RunStage
  program: build.Program
  data: inputs.Data


def parts(
  opened: inputs.Opened,
  run: lengths.Length,
  *,
  among: Sequence[Any] | None = None,
) -> list[Part]:
  """The stages of a run in their order; reads and compiles nothing large yet.

  Verification is that of the last stage, at the size of its images.

  Args:
    opened: the run, and the images that it begins with.
    run: its length.
    among: devices to choose from; see `build.build`.

  Raises:
    ValueError: if a stage has no steps, or cannot go on from the one before.
  """
  config, images = opened.config, opened.images
  stages = run_stages.plan(config, run)
  last = stages[-1].config
  named, chosen_on = inputs.verification_pairs(last)
  pairs = [*named, *held_out.pairs(last, opened.held_out)]
  by_name = any("/" in name for name in inputs.left_out(config))
  found: list[Part] = []
  for stage in stages:
    own = stage.config
    if _size(own) != _size(found[-1].stage.config if found else config):
      images = inputs.training_images(own)
    sampler = inputs.sampler(own, images)
    data = inputs.Data(images, pairs, chosen_on, sampler, by_name)
    program = build.build(
      meshes.settled(own, found[0].program.mesh) if found else own,
      num_classes=images.num_classes + own.head.extra_classes,
      total_steps=run.steps,
      steps_per_epoch=run.per_epoch,
      among=among,
      ramps=stage.ramps,
    )
    if found:
      _check(found[-1].program, program, stage)
    found.append(Part(stage, program, data))
  return found


def _size(config: config_lib.Config) -> tuple[Any, ...]:
  return config.data.image_size, config.data.crop


def _check(
  before: build.Program, after: build.Program, stage: run_stages.RunStage
) -> None:
  try:
    carry.check(before, after)
  except ValueError as error:
    raise ValueError(f"stages {stage.text!r}: {error}") from None
