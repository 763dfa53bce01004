"""Ranges that types tell: how they are read, and held against values."""

import dataclasses
import math
from typing import Annotated

import annotated_types
import pytest

from facejax.runtime import ranges

Between = annotated_types.Interval


@pytest.mark.parametrize(
  ("hint", "text"),
  [
    (Annotated[float, annotated_types.Gt(0)], "(0, inf)"),
    (Annotated[float, annotated_types.Le(3)], "(-inf, 3]"),
    (Annotated[int, annotated_types.Ge(1)] | None, "[1, inf)"),
    (Annotated[float, Between(gt=0, le=0.5)], "(0, 0.5]"),
    (Annotated[float, annotated_types.Ge(2), annotated_types.Lt(4)], "[2, 4)"),
    (tuple[Annotated[int, Between(ge=1, le=9)], ...], "[1, 9]"),
    (tuple[Annotated[float, annotated_types.Gt(0)], ...] | None, "(0, inf)"),
    (Annotated[Annotated[float, annotated_types.Gt(1)], "a"], "(1, inf)"),
    (Annotated[float, Between()], "(-inf, inf)"),
  ],
)
def test_ranges_are_read(hint, text):
  assert str(ranges.of_type(hint)) == text


@pytest.mark.parametrize("hint", [str, bool, None, tuple[str, ...], str | None])
def test_what_is_no_number_needs_none(hint):
  assert ranges.of_type(hint) is None


@pytest.mark.parametrize(
  "hint",
  [
    int,
    float,
    float | None,
    tuple[int, int],
    tuple[float, ...] | None,
    list[float],
    dict[str, int],
    Annotated[float, "radians"],
    Annotated[float | None, "radians"],
    int | Annotated[float, Between(ge=0)],
    tuple[Annotated[int, Between(ge=0)], Annotated[int, Between(ge=1)]],
  ],
)
def test_a_number_without_one_range_is_a_mistake(hint):
  cls = dataclasses.make_dataclass("Options", [("count", hint)])
  with pytest.raises(TypeError, match=r"Options.count: .*range"):
    ranges.of_fields(cls)


def test_ends_and_what_is_no_finite_number():
  inside = ranges.Range(0, 1, closed_below=False)
  assert not inside.holds(0) and inside.holds(1e-300) and inside.holds(1)
  for value in (math.nan, math.inf, -math.inf):
    assert not ranges.Range().holds(value)


def test_messages_name_field_value_and_range():
  @dataclasses.dataclass
  class Options:
    rate: Annotated[float, Between(gt=0, le=1)] = 0.5
    marks: tuple[Annotated[float, Between(ge=0, lt=1)], ...] = ()
    count: Annotated[int, Between(ge=1)] | None = None

  ranges.check(Options())
  with pytest.raises(ValueError) as caught:
    ranges.check(Options(rate=0.0), prefix="head.", where=" for nsl")
  assert str(caught.value) == (
    "head.rate=0.0 is out of range: allowed for nsl is (0, 1]"
  )
  with pytest.raises(
    ValueError, match=r"marks=\(0.5, 1.0\) is out .* \[0, 1\)"
  ):
    ranges.check(Options(marks=(0.5, 1.0)))
  with pytest.raises(ValueError, match=r"count=0 is out of range"):
    ranges.check(Options(count=0))
