"""Stages of a run: from a share of its length on, it has other settings.

  0.3 head.implementation=fused loss.margin=0.2..0.4

Each stage adds to the one before. `a..b` moves a number of the loss evenly from
a to b while the stage lasts. `loss=arcface` is another loss, with its defaults.
"""

import ast
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from facejax.training import config as config_lib
from facejax.training import config_checks, lengths, usual_optim
from facejax.training.objectives import definition, ramp, registry

# What may change, by the beginning of its name: nothing by which weights,
# images or the order of the batches would be others.
_CHANGEABLE = (
  *("accumulate", "augment.", "center.", "loss", "memory.", "optim."),
  *("data.crop", "data.policy", "data.image_size", "data.random_negatives"),
  *("data.identities_per_batch", "data.images_of_identity"),
  *("head.implementation", "head.rate", "head.precision", "head.block_size"),
  *(
    "head.saved_mib",
    "head.interclass_filtering_threshold",
    "model.bn_group",
    "model.dropout",
    "model.drop_path",
    "model.mask_ratio",
  ),
)
# Whether there is an average of the weights is settled at the start.
_FIXED = ("optim.ema",)


@dataclasses.dataclass(frozen=True)
class RunStage:
  """A part of a run with settings of its own.

  Attributes:
    first: steps done before it.
    last: steps done at its end.
    config: its settings.
    ramps: what moves meanwhile.
    text: as it was asked for; "" for the beginning.
  """

  first: int
  last: int
  config: config_lib.Config
  ramps: tuple[ramp.Ramp, ...] = ()
  text: str = ""


@dataclasses.dataclass(frozen=True)
class _Change:
  """One of `config.stages`, read.

  Attributes:
    start: from where on it holds, a length.
    values: by dotted name; of a ramp its end.
    ramps: by field of the loss, from where to where.
    text: as it was given.
  """

  start: float | str
  values: Mapping[str, Any]
  ramps: Mapping[str, tuple[float, float]]
  text: str


def check(config: config_lib.Config) -> None:
  """Refuses stages that cannot be, before anything is read.

  Raises:
    ValueError: naming the stage, the setting and what is allowed.
  """
  _settings(config)


def plan(
  config: config_lib.Config, run: lengths.Length | None
) -> list[RunStage]:
  """The stages of a run in their order; one where there are no others.

  Args:
    config: of the run.
    run: its length; None gives each stage one step, where only programs count.

  Raises:
    ValueError: as `check`, or if a stage would have no steps.
  """
  settings = _settings(config)
  if run is None:
    run, firsts = lengths.Length(len(settings)), [*range(len(settings))]
  else:
    firsts = [
      lengths.steps_of_share("stages", change.start, run)
      for change, _ in settings
    ]
  total_steps = run.steps
  lasts = [*firsts[1:], total_steps]
  stages = []
  for (change, own), first, last in zip(settings, firsts, lasts, strict=True):
    if not first < last:
      raise ValueError(
        f"stages {change.text!r}: of {total_steps:,} steps none are left for it"
        f" ({first:,} to {last:,}); give shares that lie further apart, or a"
        " longer run"
      )
    ramps = tuple(
      ramp.Ramp(name, *ends, first=first, last=last)
      for name, ends in change.ramps.items()
    )
    stages.append(RunStage(first, last, own, ramps, change.text))
  return stages


def index_of(stages: Sequence[RunStage], step: int) -> int:
  """The stage that the next step after `step` belongs to; the last at the end.

  >>> two = [RunStage(0, 5, config_lib.Config()), RunStage(5, 9, config_lib.Config())]
  >>> [index_of(two, step) for step in (0, 4, 5, 9)]
  [0, 0, 1, 1]
  """
  return max(
    k for k, stage in enumerate(stages) if stage.first <= step or not k
  )


def _settings(
  config: config_lib.Config,
) -> list[tuple[_Change, config_lib.Config]]:
  """Each stage with the configuration that holds from there on."""
  changes = [_read(text) for text in config.stages]
  # Those of other kinds are compared in steps, by `plan`.
  starts = [c.start for c in changes if not isinstance(c.start, str)]
  if starts != sorted(set(starts)):
    raise ValueError(
      f"stages begin at {', '.join(f'{s:g}' for s in starts)}: each must begin"
      " later than the one before"
    )
  if not changes or changes[0].start != 0:
    changes = [_Change(0.0, {}, {}, ""), *changes]
  found, now = [], config
  for change in changes:
    now = _changed(now, change)
    if now.optim.averages != config.optim.averages:
      raise ValueError(
        f"stages {change.text!r}: a mean of the weights is kept from the start or"
        f" not at all, and optim.name={config.optim.name} became"
        f" {now.optim.name}: schedule_free is for a whole run"
      )
    found.append((change, now))
  return found


def _read(text: str) -> _Change:
  start, *words = text.split() or [""]
  start = _start(text, start)
  if not words:
    raise ValueError(f"stages {text!r}: changes nothing; add NAME=VALUE")
  values: dict[str, Any] = {}
  ramps: dict[str, tuple[float, float]] = {}
  for word in words:
    name, equals, value = word.partition("=")
    name = name.removeprefix("--").replace("-", "_")
    if not equals or not name.startswith(_CHANGEABLE) or name in _FIXED:
      raise ValueError(
        f"stages {text!r}: {word!r} is no setting that can change within a run"
        " (NAME=VALUE); those that begin with"
        f" {', '.join(sorted(_CHANGEABLE))} can, but for {', '.join(_FIXED)}"
      )
    low, dots, high = value.partition("..")
    if dots:
      ramps[name.removeprefix("loss.")] = _ends(text, name, low, high)
      value = high
    values[name] = _literal(value)
  return _Change(start, values, ramps, text)


def _start(text: str, word: str) -> float | str:
  """From where on a stage holds: a share of the run, passes over it, steps."""
  try:
    if word.endswith(("ep", "st")):
      lengths.check_share("start", word)
      return word
    if 0 <= (share := float(word)) < 1:
      return share
  except ValueError:
    pass
  raise ValueError(
    f"stages {text!r}: must begin with where it begins: a share of the run in"
    " [0, 1), passes over the images (2ep) or steps (500st), such as '0.5"
    " loss.margin=0.4'"
  )


def _ends(text: str, name: str, low: str, high: str) -> tuple[float, float]:
  try:
    ends = float(low), float(high)
  except ValueError:
    ends = math.nan, math.nan
  if not name.startswith("loss.") or not all(map(math.isfinite, ends)):
    raise ValueError(
      f"stages {text!r}: {name}={low}..{high}: only numbers of the loss move"
      " from one to another, such as loss.margin=0..0.35"
    )
  return ends


def _literal(text: str) -> Any:
  """A number, True, None, a tuple of numbers; else the text itself."""
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


def _changed(config: config_lib.Config, change: _Change) -> config_lib.Config:
  """The configuration from a stage on, checked as a whole one is.

  Raises:
    ValueError: naming the stage.
  """
  before = config
  try:
    for name, value in change.values.items():
      if name == "loss":
        config = dataclasses.replace(config, loss=_loss(value))
      else:
        config = _replaced(config, name.split("."), value, name)
    config_checks.check_types(config)
    optim = usual_optim.filled(config.optim, before.optim, change.values)
    config = dataclasses.replace(config, optim=optim)
    config_checks.validate(config)
    for name, (start, _) in change.ramps.items():
      low_end = _replaced(config, ["loss", name], start, f"loss.{name}")
      config_checks.validate(low_end)
      ramp.check(config.loss, name)
  except ValueError as error:
    if not change.text:
      raise
    raise ValueError(f"stages {change.text!r}: {error}") from None
  return config


def _replaced(part: Any, path: list[str], value: Any, name: str) -> Any:
  fields = {field.name for field in dataclasses.fields(part)}
  if path[0] not in fields:
    raise ValueError(
      f"{name} is no setting; there are {', '.join(sorted(fields))}"
    )
  if len(path) > 1:
    value = _replaced(getattr(part, path[0]), path[1:], value, name)
  return dataclasses.replace(part, **{path[0]: value})


def _loss(name: Any) -> definition.Loss:
  known = {
    each.name: each
    for each in vars(registry).values()
    if isinstance(each, type) and hasattr(each, "name")
  }
  if name not in known:
    raise ValueError(
      f"loss={name} is none of the losses: {', '.join(sorted(known))}"
    )
  return known[name]()
