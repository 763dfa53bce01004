"""Tests of a difference between two nets on the same comparisons.

Both see the same pairs, so a pair that is hard for both tells nothing of their
difference: errors are compared pair by pair.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from facejax.metrics import intervals


class McNemar(NamedTuple):
  """What two nets decide unlike.

  Attributes:
    first: pairs that the first alone decides rightly.
    second: those that the second alone does.
    p_value: of as unequal numbers or more, if both were equally good.
  """

  first: int
  second: int
  p_value: float


class Difference(NamedTuple):
  """A difference, first less second.

  Attributes:
    value: the difference.
    error: its standard error; over people, and over runs if there are several.
    freedom: degrees of freedom of that.
    interval: of Student's t.
    p_value: two-sided, of no difference.
  """

  value: float
  error: float
  freedom: float
  interval: intervals.Interval
  p_value: float


def mcnemar(first: npt.ArrayLike, second: npt.ArrayLike) -> McNemar:
  """McNemar's exact test; takes pairs as independent.

  Args:
    first: whether the first net decides each pair rightly, bool [pairs].
    second: the same of the other.

  Raises:
    ValueError: if they differ in shape.

  References:
    McNemar, *Note on the sampling error of the difference between correlated
    proportions or percentages*, 1947.

  >>> mcnemar([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1])
  McNemar(first=5, second=1, p_value=0.21875)
  """
  first, second = np.asarray(first, bool), np.asarray(second, bool)
  if first.shape != second.shape:
    raise ValueError(f"first has shape {first.shape}, second {second.shape}")
  one, other = int((first & ~second).sum()), int((second & ~first).sum())
  tail = stats.binom.cdf(min(one, other), one + other, 0.5)
  return McNemar(one, other, float(min(1.0, 2 * tail)))


def difference(
  first: Sequence[float],
  second: Sequence[float],
  *,
  variance: float,
  people: int,
  level: float = 0.95,
) -> Difference:
  """Whether two nets, or two ways to train them, differ in a figure.

      error² = variance over people + s₁² / k₁ + s₂² / k₂

  with the variances s² of the k runs of each side about their mean; with several
  runs on one side alone, s² of that side stands for the other. Of one run each
  it is asked whether these two nets differ, of several whether their recipes do.
  Degrees of freedom: Satterthwaite's, of people - 1 and k - 1.

  Args:
    first: the figure of each run of the first side.
    second: that of the other side.
    variance: of the difference of the two means, over people.
    people: how many there are.
    level: the share of intervals that hold the truth.

  Raises:
    ValueError: if a side has no run or `level` is out of range.

  References:
    Satterthwaite, *An approximate distribution of estimates of variance
    components*, 1946.

  >>> one = difference([0.93], [0.92], variance=0.004**2, people=4000)
  >>> round(one.value, 3), round(one.interval.low, 4), round(one.p_value, 4)
  (0.01, 0.0022, 0.0125)
  >>> many = difference(
  ...   [0.93, 0.92], [0.92, 0.91], variance=0.004**2, people=4000
  ... )
  >>> many.error > one.error and many.p_value > 0.1
  True
  """
  if not len(first) or not len(second):
    raise ValueError("each side needs one run or more")
  if not 0 < level < 1:
    raise ValueError(f"level is {level}; use a share within (0, 1), as 0.95")
  value = float(np.mean(first) - np.mean(second))
  parts = [(variance, max(people - 1, 1)), *_of_runs(first, second)]
  total = sum(part for part, _ in parts)
  if not total:
    certain = intervals.Interval(value, value)
    return Difference(value, 0.0, math.inf, certain, float(value == 0))
  freedom = total**2 / sum(part**2 / df for part, df in parts)
  error = math.sqrt(total)
  half = error * float(stats.t.ppf((1 + level) / 2, freedom))
  return Difference(
    value,
    error,
    freedom,
    intervals.Interval(value - half, value + half),
    float(2 * stats.t.sf(abs(value) / error, freedom)),
  )


def holm(p_values: Sequence[float]) -> list[float]:
  """p-values of several questions, so that one in 20 answers of all is chance.

  References:
    Holm, *A simple sequentially rejective multiple test procedure*, 1979.

  >>> holm([0.01, 0.04, 0.03])
  [0.03, 0.06, 0.06]
  """
  values = np.asarray(p_values, np.float64)
  order = np.argsort(values, kind="stable")
  scaled = values[order] * np.arange(len(values), 0, -1)
  out = np.empty(len(values))
  out[order] = np.minimum(np.maximum.accumulate(scaled), 1)
  return out.tolist()


def _of_runs(
  first: Sequence[float], second: Sequence[float]
) -> list[tuple[float, int]]:
  """What the means of runs vary by, and the degrees of freedom of each part."""
  several = [side for side in (first, second) if len(side) > 1]
  if len(several) == 1:
    (side,) = several
    shared = np.var(side, ddof=1) * (1 / len(first) + 1 / len(second))
    return [(float(shared), len(side) - 1)]
  return [
    (float(np.var(side, ddof=1) / len(side)), len(side) - 1) for side in several
  ]
