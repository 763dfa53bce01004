"""Ranges of numbers, written beside the fields that they bound.

A field says what it may hold in its type, with the words of annotated_types:

  margin: Annotated[float, annotated_types.Interval(ge=0, lt=2)] = 0.35

or with a `Range`. Here such types are read and values held against them. A
number without an upper or lower bound must still be finite. Functions of arrays
check their numbers with what stands here, so it needs no other package.
"""

import dataclasses
import functools
import math
import numbers
import types
import typing
from typing import Any

# The plain classes that need a range; bool, though an int to Python, does not.
_NUMBERS = (int, float)
# Attribute of a bound, the end that it sets, and whether that end is inside.
_BOUNDS = (
  ("ge", "low", "closed_below", True),
  ("gt", "low", "closed_below", False),
  ("le", "high", "closed_above", True),
  ("lt", "high", "closed_above", False),
)


@dataclasses.dataclass(frozen=True)
class Range:
  """An interval; an end at infinity is always open.

  >>> print(Range(0, 2, closed_above=False))
  [0, 2)
  >>> Range(0, 2).holds(2), Range(0, 2).holds(math.nan)
  (True, False)
  """

  low: float = -math.inf
  high: float = math.inf
  closed_below: bool = True
  closed_above: bool = True

  def holds(self, value: float) -> bool:
    """Whether a number lies inside; NaN and the infinities never do."""
    above = self.low <= value if self.closed_below else self.low < value
    below = value <= self.high if self.closed_above else value < self.high
    return above and below and math.isfinite(value)

  def __str__(self) -> str:
    opened = "[" if self.closed_below and self.low > -math.inf else "("
    closed = "]" if self.closed_above and self.high < math.inf else ")"
    return f"{opened}{self.low:g}, {self.high:g}{closed}"


# Radians, below pi.
ANGLE = Range(0, 3.14159, closed_above=False)
POSITIVE = Range(0, closed_below=False)
NOT_NEGATIVE = Range(0)
# Of an angle, where less than 1 would be the opposite of a margin.
FACTOR = Range(1)
SHARE = Range(0, 1)


@functools.cache
def of_fields(cls: type) -> dict[str, Range]:
  """The ranges of a dataclass's numbers, by field.

  A tuple of numbers has the range of each of them; None needs no range.

  Raises:
    TypeError: if a number has no range.

  >>> @dataclasses.dataclass
  ... class Halves:
  ...   count: typing.Annotated[int, FACTOR] | None = None
  ...   name: str = ""
  >>> {name: str(found) for name, found in of_fields(Halves).items()}
  {'count': '[1, inf)'}
  """
  hints = typing.get_type_hints(cls, include_extras=True)
  found = {}
  for field in dataclasses.fields(cls):
    try:
      bounds = of_type(hints[field.name])
    except TypeError as error:
      raise TypeError(f"{cls.__name__}.{field.name}: {error}") from None
    if bounds is not None:
      found[field.name] = bounds
  return found


def of_type(hint: Any) -> Range | None:
  """The range that a type tells; None for what is no number.

  Raises:
    TypeError: if it is a number and tells none, or tells two.
  """
  if hint in _NUMBERS:
    raise TypeError(
      "a number without a range: give it one, such as"
      " Annotated[float, annotated_types.Gt(0)]"
    )
  origin, inner = typing.get_origin(hint), typing.get_args(hint)
  if origin is typing.Annotated:
    if inner[0] in _NUMBERS:
      return _read(hint.__metadata__)
    return of_type(inner[0])
  if origin in (tuple, typing.Union, types.UnionType):
    ranges = {of_type(each) for each in inner if each is not Ellipsis} - {None}
    if len(ranges) > 1:
      raise TypeError(f"{len(ranges)} ranges in one field: give one")
    return ranges.pop() if ranges else None
  if any(each in _NUMBERS for each in inner):
    raise TypeError(f"{hint}: only in a tuple can numbers have a range")
  return None


def check(values: Any, *, prefix: str = "", where: str = "") -> None:
  """Holds every number of a dataclass against the range beside its field.

  Args:
    values: an instance of a dataclass.
    prefix: before the names in messages, such as "optim.".
    where: what the ranges are for, such as " for cosface".

  Raises:
    ValueError: naming the first field outside, its value and what is allowed.
    TypeError: if a number has no range.
  """
  for name, bounds in of_fields(type(values)).items():
    value = getattr(values, name)
    if value is None:
      continue
    each = value if isinstance(value, tuple) else (value,)
    # A text may stand in a number's place, with a form of its own.
    if not all(isinstance(one, str) or bounds.holds(one) for one in each):
      raise ValueError(
        f"{prefix}{name}={value!r} is out of range: allowed{where} is {bounds}"
      )


def check_numbers(allowed: Range, **values: Any) -> None:
  """Holds arguments of a function against a range, by their names.

  Args:
    allowed: such as `ANGLE`.
    **values: plain numbers are held; arrays, traced or not, and None pass.

  Raises:
    ValueError: naming the first number outside, and what is allowed.

  >>> check_numbers(POSITIVE, scale=math.inf)
  Traceback (most recent call last):
  ValueError: scale=inf is out of range: allowed is (0, inf)
  """
  for name, value in values.items():
    if isinstance(value, numbers.Real) and not allowed.holds(float(value)):
      raise ValueError(f"{name}={value} is out of range: allowed is {allowed}")


def _read(metadata: tuple[Any, ...]) -> Range:
  """Bounds among what is annotated.

  The classes of annotated_types are told by their attributes, each named like
  the comparison that it bounds: Gt has gt, and Interval has all four.
  """
  found: dict[str, Any] = {}
  told = False
  for item in metadata:
    if isinstance(item, Range):
      return item
    for name, end, closed, holds in _BOUNDS:
      told = told or hasattr(item, name)
      if (bound := getattr(item, name, None)) is not None:
        found |= {end: bound, closed: holds}
  if not told:
    raise TypeError(f"no range among {metadata}: give one")
  return Range(**found)
