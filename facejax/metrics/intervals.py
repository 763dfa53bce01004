"""Confidence intervals: how far a figure may lie from the truth by chance.

Both kinds take the trials to be independent. Pairs that share a person are not,
so the intervals here are the least that chance does; `people_intervals` and
resampling whole people or folds (`bootstrap` with `groups`) show more of it.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Interval(NamedTuple):
  """Ends of a confidence interval."""

  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class Rate:
  """A share of trials, as its two counts, so that those of shards add up.

  >>> rate = Rate(45, 50) + Rate(50, 50)
  >>> rate.value, rate.interval().low.__round__(3)
  (0.95, 0.888)
  """

  successes: int
  trials: int

  def __post_init__(self):
    if not 0 <= self.successes <= self.trials or not self.trials:
      raise ValueError(
        f"{self.successes} of {self.trials} trials; give at least one trial "
        "and as many successes at most"
      )

  @property
  def value(self) -> float:
    """successes / trials, in [0, 1]."""
    return self.successes / self.trials

  def interval(self, *, level: float = 0.95) -> Interval:
    """`wilson` of these counts."""
    return wilson(self.successes, self.trials, level=level)

  def __add__(self, other: "Rate") -> "Rate":
    return Rate(self.successes + other.successes, self.trials + other.trials)


def wilson(successes: float, trials: float, *, level: float = 0.95) -> Interval:
  """Wilson's score interval of a binomial share, within [0, 1].

      p = successes / trials, z = quantile of the normal at (1 + level) / 2
      (p + z²/2n ± z sqrt(p (1 - p) / n + z²/4n²)) / (1 + z²/n)

  It keeps its coverage where shares are near 0 or 1, as good accuracies are.

  Args:
    successes: how many; a mean over folds of unlike sizes may be a fraction.
    trials: of how many, n; of dependent ones, as many as tell the same.
    level: the share of such intervals that hold the truth, in (0, 1).

  Raises:
    ValueError: if there are no trials, more successes than trials, or `level`
      is out of range.

  References:
    Wilson, *Probable inference, the law of succession, and statistical
    inference*, 1927.

  >>> [round(end, 4) for end in wilson(5970, 6000)]
  [0.9929, 0.9965]
  """
  if trials < 1 or not 0 <= successes <= trials:
    raise ValueError(
      f"{successes} successes of {trials} trials; use 0 … trials"
    )
  z = statistics.NormalDist().inv_cdf((1 + _level(level)) / 2)
  p, spread = successes / trials, z * z / trials
  middle = p + spread / 2
  half = math.sqrt(spread * (p * (1 - p) + spread / 4))
  return Interval(
    0.0 if successes == 0 else (middle - half) / (1 + spread),
    1.0 if successes == trials else (middle + half) / (1 + spread),
  )


def average(
  rates: Sequence[Rate],
  *,
  level: float = 0.95,
  ends: Sequence[Interval] | None = None,
) -> tuple[float, Interval]:
  """Mean of independent rates, and its interval by squaring and adding.

      mean ± sqrt(Σ (value - end)²) / k,  with the Wilson ends of each of k

  Two halves of a protocol count alike however many trials each has.

  Args:
    rates: what to average.
    level: as in `wilson`.
    ends: intervals of the rates at this level, in place of Wilson's.

  Raises:
    ValueError: if there is no rate, or `level` is out of range.

  References:
    Newcombe, *Interval estimation for the difference between independent
    proportions: comparison of eleven methods*, 1998, method 10.

  >>> mean, interval = average([Rate(90, 100), Rate(160, 200)])
  >>> round(mean, 2), round(interval.low, 3), round(interval.high, 3)
  (0.85, 0.802, 0.883)
  """
  if not rates:
    raise ValueError("there are no rates to average")
  values = np.array([rate.value for rate in rates])
  if ends is None:
    ends = [rate.interval(level=level) for rate in rates]
  gaps = np.array(ends) - values[:, None]
  below, above = np.sqrt((gaps**2).sum(axis=0))
  mean, count = values.mean(), len(rates)
  return float(mean), Interval(
    float(mean - below / count), float(mean + above / count)
  )


def bootstrap(
  statistic: Callable[[np.ndarray], float],
  size: int,
  *,
  strata: npt.ArrayLike | None = None,
  groups: npt.ArrayLike | None = None,
  samples: int = 1000,
  level: float = 0.95,
  seed: int = 0,
) -> Interval:
  """Percentile interval of a statistic over resampled data.

  Draws `size` of the data with replacement `samples` times and returns the
  quantiles (1 - level) / 2 and (1 + level) / 2 of the statistic.

  Args:
    statistic: maps indices of data, int [drawn], to a number.
    size: how many data there are.
    strata: a label each, [size]; every sample draws as many of each label, for
      example of same and different pairs.
    groups: a label each, [size]; whole groups are drawn, for example people or
      folds, whose members are not independent.
    samples: how often to draw.
    level: as in `wilson`.
    seed: of the draws; the interval is a function of it.

  Raises:
    ValueError: if both `strata` and `groups` are given, or a number is out of
      range.

  References:
    Efron, *Bootstrap methods: another look at the jackknife*, 1979.

  >>> x = np.arange(100)
  >>> interval = bootstrap(lambda index: x[index].mean(), 100)
  >>> 42 < interval.low < 45 < 54 < interval.high < 57
  True
  """
  if size < 1 or samples < 1:
    raise ValueError(f"size {size}, samples {samples}; use 1 or more")
  if strata is not None and groups is not None:
    raise ValueError("strata and groups exclude each other; give one")
  level, rng = _level(level), np.random.default_rng(seed)
  values = np.empty(samples)
  if groups is not None:
    parts = _parts(groups, size, "groups")
    for k in range(samples):
      drawn = rng.integers(0, len(parts), len(parts))
      values[k] = statistic(np.concatenate([parts[part] for part in drawn]))
  else:
    whole = np.zeros(size, int) if strata is None else strata
    parts = _parts(whole, size, "strata")
    for k in range(samples):
      drawn = [part[rng.integers(0, part.size, part.size)] for part in parts]
      values[k] = statistic(np.concatenate(drawn))
  return percentiles(values, level=level)


def percentiles(values: npt.ArrayLike, *, level: float = 0.95) -> Interval:
  """Quantiles (1 - level) / 2 and (1 + level) / 2 of values, [samples].

  >>> percentiles(range(101), level=0.5)
  Interval(low=25.0, high=75.0)
  """
  ends = (1 - _level(level)) / 2, (1 + level) / 2
  low, high = np.quantile(np.asarray(values, np.float64), ends)
  return Interval(float(low), float(high))


def _level(level: float) -> float:
  if not 0 < level < 1:
    raise ValueError(f"level is {level}; use a share within (0, 1), as 0.95")
  return level


def _parts(labels: npt.ArrayLike, size: int, name: str) -> list[np.ndarray]:
  labels = np.asarray(labels)
  if labels.shape != (size,):
    raise ValueError(f"{name} has shape {labels.shape}; must be ({size},)")
  _, label = np.unique(labels, return_inverse=True)
  order = np.argsort(label, kind="stable")
  return np.split(order, np.cumsum(np.bincount(label))[:-1])
