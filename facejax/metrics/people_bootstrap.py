"""A bootstrap of the people of pairs, for figures that are no mean over pairs."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from facejax.metrics import checks, counts, intervals, people_intervals

Compared = people_intervals.Compared
Statistic = Callable[[counts.Counts], float]


@dataclasses.dataclass(frozen=True, eq=False)
class Resampled:
  """Figures of merit of pairs whose people were drawn again.

  Attributes:
    values: of the pairs as they are, [statistics].
    people: with people drawn, [statistics, samples].
    couples: with couples drawn, [statistics, samples].
  """

  values: np.ndarray
  people: np.ndarray
  couples: np.ndarray

  def __sub__(self, other: "Resampled") -> "Resampled":
    """Of a difference between two nets that saw the same draws."""
    return Resampled(
      self.values - other.values,
      self.people - other.people,
      self.couples - other.couples,
    )

  def variance(self) -> np.ndarray:
    """Over people, [statistics].

    Drawing people counts what a couple's comparisons vary by three times, since
    the product of two numbers varies so; drawing couples counts it once, and
    twice that is taken away. No more than two thirds can be.
    """
    spread = self.people.var(axis=1)
    excess = 2 * self.couples.var(axis=1)
    return np.maximum(spread - excess, spread / 3)

  def interval(self, place: int, *, level: float = 0.95) -> intervals.Interval:
    """Of the statistic at a place: percentiles, drawn in to `variance`."""
    value, drawn = self.values[place], self.people[place]
    ends = intervals.percentiles(drawn, level=level)
    spread = drawn.var()
    scale = np.sqrt(self.variance()[place] / spread) if spread else 1.0
    low, high = (float(value + scale * (end - value)) for end in ends)
    return intervals.Interval(low, high)


def mean(drawn: Sequence[Resampled]) -> Resampled:
  """Of several nets that saw the same draws."""
  return Resampled(
    np.mean([one.values for one in drawn], axis=0),
    np.mean([one.people for one in drawn], axis=0),
    np.mean([one.couples for one in drawn], axis=0),
  )


def multiplicities(who: Compared, *, seed: int = 0) -> Iterator[np.ndarray]:
  """How often each comparison counts when people are drawn with replacement.

  As many people as there are, are drawn; a comparison of two people counts the
  product of how often the two were drawn, one of a person with himself as often
  as he was. Yields int64 [comparisons], without end.

  References:
    Snijders, Borgatti, *Non-parametric standard errors and tests for network
    statistics*, 1999 (the vertex bootstrap).

  >>> who = people_intervals.compared(["ada", "ada"], ["ada", "bob"])
  >>> draws = itertools.islice(multiplicities(who), 50)
  >>> sorted({tuple(map(int, often)) for often in draws})
  [(0, 0), (1, 1), (2, 0)]
  """
  rng = np.random.default_rng(seed)
  apart = who.first != who.second
  while True:
    drawn = rng.integers(0, who.people, who.people)
    often = np.bincount(drawn, minlength=who.people)
    found = often[who.first]
    found[apart] *= often[who.second[apart]]
    yield found


def couples(who: Compared, *, seed: int = 0) -> Iterator[np.ndarray]:
  """How often each comparison counts when couples are drawn with replacement.

  A couple are two people who are compared. As many as there are, are drawn;
  comparisons of a person with himself count once. Yields int64 [comparisons],
  without end.

  >>> who = people_intervals.compared(["ada", "ada", "eve"], ["ada", "bob", "bob"])
  >>> draws = itertools.islice(couples(who), 50)
  >>> sorted({tuple(map(int, often)) for often in draws})
  [(1, 0, 2), (1, 1, 1), (1, 2, 0)]
  """
  rng = np.random.default_rng(seed)
  apart = who.first != who.second
  names, couple = np.unique(who.couples[apart], return_inverse=True)
  while True:
    found = np.ones(len(who), np.int64)
    if len(names):
      drawn = rng.integers(0, len(names), len(names))
      found[apart] = np.bincount(drawn, minlength=len(names))[couple]
    yield found


def bootstrap(
  scores: npt.ArrayLike,
  same: npt.ArrayLike,
  who: Compared,
  statistics: Sequence[Statistic],
  *,
  samples: int = 1000,
  seed: int = 0,
) -> Resampled:
  """Figures of merit of pairs whose people are drawn again.

  Draws without a genuine or without an impostor pair are drawn anew. Many scores
  are taken on `counts.thinned` thresholds.

  Args:
    scores: similarities, [pairs].
    same: bool, [pairs].
    who: whom each pair compares.
    statistics: of counts, as those of `curves`.
    samples: how often to draw.
    seed: of the draws; two nets on the same pairs see the same ones.

  Raises:
    ValueError: as `counts.count`, and if shapes do not fit or `samples` is below
      1.

  >>> from facejax.metrics import curves
  >>> rng = np.random.default_rng(0)
  >>> first, second = rng.integers(0, 30, (2, 500))
  >>> who, same = people_intervals.compared(first, second), first == second
  >>> drawn = bootstrap(rng.normal(same), same, who, [curves.area], samples=100)
  >>> low, high = drawn.interval(0)
  >>> 0.5 < low < drawn.values[0] < high < 1
  True
  """
  if samples < 1:
    raise ValueError(f"samples is {samples}; use 1 or more")
  scores, same = checks.pairs(scores, same)
  people_intervals.fits(scores, who)
  tally = counts.count(scores, same)
  thin = counts.thinned(tally)
  # Of falling thresholds, the first that each score reaches.
  place = np.searchsorted(-thin.thresholds, -scores, side="left")

  def drawn(draws: Iterator[np.ndarray]) -> np.ndarray:
    usable = filter(None, (_counted(thin, place, same, o) for o in draws))
    found = [
      [statistic(one) for statistic in statistics]
      for one in itertools.islice(usable, samples)
    ]
    return np.array(found, np.float64).reshape(samples, -1).T

  return Resampled(
    np.array([statistic(tally) for statistic in statistics], np.float64),
    drawn(multiplicities(who, seed=seed)),
    drawn(couples(who, seed=seed)),
  )


def _counted(
  thin: counts.Counts, place: np.ndarray, same: np.ndarray, often: np.ndarray
) -> counts.Counts | None:
  """The pairs of a draw; None if it has one kind, at most four draws in five."""
  ours, theirs = (
    np.bincount(place[kind], often[kind], len(thin.thresholds))
    .astype(np.int64)
    .cumsum()
    for kind in (same, ~same)
  )
  if not ours[-1] or not theirs[-1]:
    return None
  return dataclasses.replace(thin, same=ours, different=theirs)
