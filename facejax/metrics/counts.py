"""Pairs accepted at every threshold, as counts that add up over shards.

A pair is accepted when its score reaches the threshold t; scores are
similarities. Counts of shards are added with `+`: exactly, or on a common grid
of thresholds (`cosine_grid`) in the memory of that grid, however many pairs
there are. `facejax.metrics.curves` turns counts into figures of merit.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facejax.metrics import checks, intervals

_BLOCK = 1 << 20


class Roc(NamedTuple):
  """Receiver operating characteristic, by falling threshold, [points] each."""

  far: np.ndarray
  tar: np.ndarray
  thresholds: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Counts:
  """How many pairs each of falling thresholds accepts; `+` merges shards.

  Attributes:
    thresholds: falling, [points]; the last accepts every pair.
    same: same pairs with score >= threshold, int64 [points].
    different: different pairs with score >= threshold, int64 [points].
    exact: whether the thresholds are all the distinct scores.
  """

  thresholds: np.ndarray
  same: np.ndarray
  different: np.ndarray
  exact: bool

  def roc(self) -> Roc:
    """The rates, from (0, 0) at threshold infinity to (1, 1).

    Raises:
      ValueError: if one kind of pair is missing.
    """
    same, different = self.totals()
    return Roc(
      far=np.r_[0, self.different] / different,
      tar=np.r_[0, self.same] / same,
      thresholds=np.r_[np.inf, self.thresholds],
    )

  def totals(self) -> tuple[int, int]:
    """How many same and different pairs there are.

    Raises:
      ValueError: if one kind of pair is missing.
    """
    same, different = int(self.same[-1]), int(self.different[-1])
    if not same or not different:
      raise ValueError(
        f"there are {same} same and {different} different pairs; give at least "
        "one of each kind"
      )
    return same, different

  def __add__(self, other: "Counts") -> "Counts":
    if np.array_equal(self.thresholds, other.thresholds):
      union = self.thresholds
    elif self.exact and other.exact:
      union = np.union1d(self.thresholds, other.thresholds)[::-1]
    else:
      raise ValueError(
        "counts on different thresholds cannot be added; count every shard on "
        "one grid, as cosine_grid()"
      )
    ours, theirs = self._at(union), other._at(union)
    return Counts(
      thresholds=union,
      same=ours[0] + theirs[0],
      different=ours[1] + theirs[1],
      exact=self.exact and other.exact,
    )

  def _at(self, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    place = np.searchsorted(-self.thresholds, -thresholds, side="right")
    return np.r_[0, self.same][place], np.r_[0, self.different][place]


def count(
  scores: npt.ArrayLike,
  same: npt.ArrayLike,
  *,
  thresholds: npt.ArrayLike | None = None,
) -> Counts:
  """Counts accepted pairs at every distinct score, or at given thresholds.

  Args:
    scores: similarities, [pairs].
    same: bool, [pairs]; one kind is enough for a shard.
    thresholds: falling, [points], the last -infinity; None for every score.

  Raises:
    ValueError: if the pairs are empty, differ in length or are not finite, or
      if `thresholds` do not fall to -infinity.

  >>> first = count([0.9, 0.5], [True, False])
  >>> second = count([0.5, 0.1], [True, False])
  >>> (first + second).same.tolist(), (first + second).different.tolist()
  ([1, 2, 2], [0, 1, 2])
  """
  scores, same = checks.pairs(scores, same, both_kinds=False)
  if thresholds is not None:
    return _count_on(np.asarray(thresholds, np.float64), scores, same)
  # Sorting numbers is several times faster than sorting their order.
  rising, mine = np.sort(scores), np.sort(scores[same])
  first = np.flatnonzero(np.r_[True, rising[1:] != rising[:-1]])[::-1]
  thresholds = rising[first]
  accepted = mine.size - np.searchsorted(mine, thresholds, side="left")
  return Counts(
    thresholds, accepted, rising.size - first - accepted, exact=True
  )


def cosine_grid(points: int = 200_001) -> np.ndarray:
  """Thresholds 1 … -1 in equal steps and -infinity, for counts of shards.

  >>> cosine_grid(3).tolist()
  [1.0, 0.0, -1.0, -inf]
  """
  return np.r_[np.linspace(1, -1, points), -np.inf]


def thinned(counts: Counts, *, points: int = 4096) -> Counts:
  """At most `points` of the thresholds, dense at both ends of both rates.

  What stays is exact; between, `at_far` finds a little less than there is.

  >>> len(thinned(count(np.arange(100), np.arange(100) % 2), points=8).same) <= 8
  True
  """
  if points < 8:
    raise ValueError(f"points is {points}; use 8 or more")
  if len(counts.thresholds) <= points:
    return counts
  wanted = [np.array([len(counts.thresholds) - 1])]
  for passed in (counts.same, counts.different):
    total = max(int(passed[-1]), 1)
    end = np.geomspace(1, total, max((points - 1) // 6, 1))
    middle = np.linspace(0, total, max((points - 1) // 6, 1))
    for level in (end, total - end, middle):
      wanted.append(np.searchsorted(passed, level, side="right") - 1)
  keep = np.unique(np.concatenate(wanted).clip(0))
  return Counts(
    counts.thresholds[keep], counts.same[keep], counts.different[keep], False
  )


def interval(
  counts: Counts,
  statistic: Callable[[Counts], float],
  *,
  samples: int = 1000,
  level: float = 0.95,
  seed: int = 0,
) -> intervals.Interval:
  """Bootstrap interval of a statistic of counts, such as `curves.area`.

  Draws as many same and as many different pairs again, with replacement, from
  `thinned` counts: the time does not grow with the number of pairs.

  Raises:
    ValueError: as `Counts.roc`, and if `level` is out of range.

  >>> counts = count(np.linspace(0, 1, 200), np.arange(200) % 3 > 0)
  >>> def mean_tar(counts): return float(counts.roc().tar.mean())
  >>> ends = interval(counts, mean_tar, samples=200)
  >>> ends.low < mean_tar(counts) < ends.high
  True
  """
  values = draws(counts, statistic, samples=samples, seed=seed)
  return intervals.percentiles(values, level=level)


def draws(
  counts: Counts,
  statistic: Callable[[Counts], float],
  *,
  samples: int = 1000,
  seed: int = 0,
) -> np.ndarray:
  """A statistic of the draws of `interval`, [samples]."""
  thin, rng = thinned(counts), np.random.default_rng(seed)
  thin.totals()
  return np.array(
    [
      statistic(
        dataclasses.replace(
          thin,
          same=_drawn(thin.same, rng),
          different=_drawn(thin.different, rng),
        )
      )
      for _ in range(samples)
    ]
  )


def _drawn(passed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  here = np.diff(passed, prepend=0)
  held = np.flatnonzero(here)
  again = np.zeros_like(here)
  again[held] = rng.multinomial(passed[-1], here[held] / passed[-1])
  return np.cumsum(again)


def _count_on(
  thresholds: np.ndarray, scores: np.ndarray, same: np.ndarray
) -> Counts:
  falls = thresholds.ndim == 1 and (np.diff(thresholds) < 0).all()
  if not falls or not thresholds.size or thresholds[-1] != -np.inf:
    raise ValueError("thresholds must fall strictly, and end in -infinity")
  rising = thresholds[::-1]
  found = np.zeros((2, len(rising)), np.int64)
  for start in range(0, scores.size, _BLOCK):
    block = slice(start, start + _BLOCK)
    # The largest threshold that the score reaches, counted from the lowest.
    place = np.searchsorted(rising, scores[block], side="right") - 1
    for kind, mine in enumerate((same[block], ~same[block])):
      found[kind] += np.bincount(place[mine], minlength=len(rising))
  accepted = found[:, ::-1].cumsum(axis=1)
  return Counts(thresholds, accepted[0], accepted[1], exact=False)
