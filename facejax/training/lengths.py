"""Lengths: shares of a run, passes over the images, or steps.

A number as it stands is what the field says, a share of the run or steps; a
text ends in its unit: 2ep are two passes over the images, 500st are 500 steps.
"""

import re
from typing import Annotated, Literal, NamedTuple, TypeAlias

import annotated_types
import tyro

# For --help. Where a part of the run is meant: 0.1, 2ep or 500st.
SHARE = tyro.conf.arg(metavar="SHARE|2ep|500st")
SHARES = tyro.conf.arg(metavar="[SHARE|2ep|500st ...]")
_STEPS = tyro.conf.arg(metavar="STEPS|1ep")
Share: TypeAlias = Annotated[
  Annotated[float, annotated_types.Interval(ge=0, lt=1)] | str, SHARE
]
# Its range depends on other fields: `config_checks`.
Mark: TypeAlias = Annotated[
  Annotated[float, annotated_types.Interval()] | str, SHARE
]
# How often something happens: 500, 500st or 1ep.
Every: TypeAlias = Annotated[
  Annotated[int, annotated_types.Ge(1)] | str, _STEPS
]
EveryOrNever: TypeAlias = Annotated[
  Annotated[int, annotated_types.Ge(0)] | str, _STEPS
]
_Unit: TypeAlias = Literal["ep", "st"]
_TEXT = re.compile(r"(\d+\.?\d*|\.\d+)(ep|st)", re.ASCII)


class Length(NamedTuple):
  """How long a run is.

  Attributes:
    steps: all of them.
    per_epoch: those of a pass over the images; None if that is not known.
  """

  steps: int
  per_epoch: int | None = None

  def __str__(self) -> str:
    if self.per_epoch is None:
      return f"{self.steps:,} steps"
    passes = self.steps / self.per_epoch
    return f"{self.steps:,} steps, {passes:.3g} passes over the images"


def parse(name: str, text: str, *, shares: bool) -> tuple[float, _Unit]:
  """The number and the unit of a text.

  Args:
    name: of the field, for the message.
    text: such as "2ep" or "500st".
    shares: whether the field's plain numbers are shares of the run.

  Raises:
    ValueError: if it is none, or a part of a step.

  >>> parse("optim.warmup", "2.5ep", shares=True)
  (2.5, 'ep')
  """
  found = _TEXT.fullmatch(text)
  if found and (found[2] == "ep" or float(found[1]).is_integer()):
    return float(found[1]), "ep" if found[2] == "ep" else "st"
  plain = "a share of the run such as 0.1" if shares else "steps such as 500"
  raise ValueError(
    f"{name}={text!r} is no length: give {plain}, passes over the images such"
    " as 2ep, or whole steps such as 500st"
  )


def check_share(name: str, value: float | str | None) -> None:
  """Holds a text to the form of a length.

  Raises:
    ValueError: naming the field and what it may be.
  """
  if isinstance(value, str):
    parse(name, value, shares=True)


def check_every(name: str, value: int | str, *, never: bool) -> None:
  """The same where plain numbers are steps.

  Args:
    name: of the field.
    value: of the field.
    never: whether it may be 0.

  Raises:
    ValueError: naming the field and what it may be.
  """
  if not isinstance(value, str):
    return
  number, _ = parse(name, value, shares=False)
  if not (number or never):
    raise ValueError(f"{name}={value!r} is out of range: it must be above 0")


def steps_of_share(name: str, value: float | str, run: Length) -> int:
  """The steps that a part of a run takes, from its beginning.

  Raises:
    ValueError: if the run is not longer, with its length.

  >>> run = Length(steps=1000, per_epoch=100)
  >>> [steps_of_share("optim.warmup", x, run) for x in (0.1, "2ep", "50st")]
  [100, 200, 50]
  """
  if not isinstance(value, str):
    return round(value * run.steps)
  number, unit = parse(name, value, shares=True)
  steps = _steps(name, value, number, unit, run.per_epoch)
  if steps >= run.steps:
    also = f" ({steps:,} steps)" if unit == "ep" else ""
    raise ValueError(
      f"{name}={value!r}{also} is as long as the run or longer, which is of"
      f" {run}: give less, or make the run longer"
    )
  return steps


def steps_between(name: str, value: int | str, per_epoch: int) -> int:
  """The steps from one time to the next; 0 for never.

  >>> [steps_between("eval.every", x, 100) for x in (0, 7, "7st", "0.5ep")]
  [0, 7, 7, 50]
  """
  if not isinstance(value, str):
    return value
  number, unit = parse(name, value, shares=False)
  # Less than a step is each step; only 0 is never.
  steps = _steps(name, value, number, unit, per_epoch)
  return max(steps, 1) if number else 0


def _steps(
  name: str, value: str, number: float, unit: _Unit, per_epoch: int | None
) -> int:
  if unit == "st":
    return int(number)
  if per_epoch is None:
    raise ValueError(
      f"{name}={value!r}: how many steps a pass over the images has is not known"
      " here; give a share of the run, or steps such as 500st"
    )
  return round(number * per_epoch)
