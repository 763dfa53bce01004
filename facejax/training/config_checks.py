"""Checks of a configuration before any work starts.

Each number is held against the range that stands beside its field; here are
the checks of fields that depend on each other.
"""

import dataclasses
import typing
from typing import Any

import typeguard

from facejax.data import formats
from facejax.models import config as model_config
from facejax.models import functional
from facejax.runtime import ranges
from facejax.training import config as config_lib
from facejax.training import (
  eval_checks,
  head_checks,
  optim_checks,
  part_checks,
  tuning_checks,
)
from facejax.training.objectives import definition, registry


def validate(config: config_lib.Config) -> None:
  """Checks every field on its own and those that depend on each other.

  Raises:
    ValueError: naming the field, its value and what is allowed.
  """
  _check_ranges(config)
  _validate_together(config)


def _check_ranges(part: Any, *, prefix: str = "", where: str = "") -> None:
  """Holds all numbers against their ranges, group by group."""
  ranges.check(part, prefix=prefix, where=where)
  for field in dataclasses.fields(part):
    group = getattr(part, field.name)
    if dataclasses.is_dataclass(group):
      # A loss's ranges are its own: another may have wider ones.
      where = f" for {part.loss.name}" if field.name == "loss" else ""
      _check_ranges(group, prefix=f"{prefix}{field.name}.", where=where)


def check_types(values: Any, *, prefix: str = "") -> None:
  """Holds all fields against their types: a recipe may have put anything there.

  Args:
    values: a configuration, or a group of one.
    prefix: before the names in messages, such as "optim.".

  Raises:
    ValueError: naming the field, its value and its type.
  """
  hints = typing.get_type_hints(type(values))
  # A recipe may have a loss of its own.
  hints["loss"] = definition.OverClasses | definition.WithinBatch
  for field in dataclasses.fields(values):
    value, hint = getattr(values, field.name), hints[field.name]
    try:
      plain = tuple(value) if isinstance(value, list) else value
      typeguard.check_type(plain, hint)
    except typeguard.TypeCheckError:
      text = hint.__name__ if isinstance(hint, type) else str(hint)
      raise ValueError(
        f"{prefix}{field.name}={value!r} is none of what it may be:"
        f" {text.replace('typing.', '')}"
      ) from None
    if dataclasses.is_dataclass(value):
      check_types(value, prefix=f"{prefix}{field.name}.")


def _validate_together(config: config_lib.Config) -> None:
  if (config.steps is None) == (config.epochs is None):
    raise ValueError(
      f"steps={config.steps} and epochs={config.epochs}: give exactly one"
    )
  if "none" in config.track and len(config.track) > 1:
    raise ValueError(
      f"track={config.track}: none goes with no other; name the trackers, or"
      " none alone"
    )
  try:
    functional.check_name(config.model.name)
  except ValueError as error:
    raise ValueError(f"model.name={config.model.name}: {error}") from None
  _validate_loss(config.loss, config.model.name)
  _validate_batch(config)
  head_checks.check(config)
  try:
    functional.check_image_size(config.model.name, config.data.image_size)
  except ValueError as error:
    raise ValueError(
      f"data.image_size={config.data.image_size}: {error}"
    ) from None
  functional.check_options(
    config.model.name,
    norm=config.model.norm,
    se=config.model.se,
    drop_path=config.model.drop_path,
    mask_ratio=config.model.mask_ratio,
    remat=config.model.remat,
  )
  _validate_model(config.model)
  part_checks.check(config)
  tuning_checks.check(config)
  eval_checks.check(config.eval, source=config.data.source)
  _validate_data(config.data)
  optim_checks.check(config)


def _validate_model(model: model_config.ModelConfig) -> None:
  if model.gradients == "bfloat16" and model.dtype != "bfloat16":
    raise ValueError(
      f"model.gradients=bfloat16 with model.dtype={model.dtype}: only a net"
      " that computes in bfloat16 adds gradients in it; take model.dtype"
      " bfloat16, or model.gradients float32"
    )


def _validate_data(data: config_lib.DataConfig) -> None:
  if data.source != "synthetic" and not data.path:
    raise ValueError(
      f"data.path is empty: data.source={data.source} needs the place of the"
      " images"
    )
  for place in data.join:
    try:
      formats.parse_place(place)
    except ValueError as error:
      raise ValueError(f"data.join={error}") from None
  if data.source == "synthetic":
    for name in ("join", "exclude", "merge", "relabel"):
      if getattr(data, name):
        raise ValueError(
          f"data.{name} goes with images in files: give data.path"
        )


def _validate_loss(loss: registry.LossConfig, net: str) -> None:
  loss.check()
  if loss.needs_lengths and not functional.has_lengths(net):
    raise ValueError(
      f"model.name={net}: it ends in a normalisation, so that its embeddings all"
      f" have length 1, and {loss.name} reads image quality off their length:"
      " use a net that leaves them their lengths, such as an iresnet, a vit or"
      " mobilefacenet"
    )


def _validate_batch(config: config_lib.Config) -> None:
  data = config.data
  people, images = data.identities_per_batch, data.images_of_identity
  within = isinstance(config.loss, definition.WithinBatch)
  if within and not people:
    raise ValueError(
      f"{config.loss.name} compares images of a batch: give"
      " data.identities_per_batch and data.images_of_identity, such as 32 and 4"
    )
  if within and config.center.weight:
    raise ValueError(
      f"center.weight={config.center.weight:g} goes with a loss over classes,"
      f" not with {config.loss.name}"
    )
  _validate_memory(config)
  if not people:
    return
  if people < 2 or images < 2:
    raise ValueError(
      f"data.identities_per_batch={people} and data.images_of_identity={images}:"
      " both must be 2 or more"
    )
  size = people * images + data.random_negatives
  if size != config.batch_size:
    raise ValueError(
      f"batch_size={config.batch_size} is not data.identities_per_batch x"
      f" data.images_of_identity + data.random_negatives = {people} x {images} +"
      f" {data.random_negatives} = {size}"
    )


def _validate_memory(config: config_lib.Config) -> None:
  size, loss = config.memory.size, config.loss
  if not size:
    return
  if not isinstance(loss, definition.WithinBatch) or not loss.takes_past:
    able = [
      each.name
      for each in vars(registry).values()
      if isinstance(each, type)
      and issubclass(each, definition.WithinBatch)
      and each.takes_past
    ]
    raise ValueError(
      f"memory.size={size}: {loss.name} takes no partners of earlier batches;"
      f" leave it at 0, or use one of {', '.join(able)}"
    )
  if size < config.batch_size:
    raise ValueError(
      f"memory.size={size}: must hold a batch, batch_size={config.batch_size},"
      " or more; 0 for no memory"
    )


def check_dry_run(
  dry_run: bool, *, topology: str | None, classes: int | None
) -> None:
  """Refuses flags that only a dry run understands, where there is none.

  Raises:
    ValueError: naming the flag.
  """
  for name, value in {"topology": topology, "classes": classes}.items():
    if value is not None and not dry_run:
      raise ValueError(
        f"--{name} {value}: only with --dry-run, which compiles and stops; add"
        " it, or leave this flag out"
      )
