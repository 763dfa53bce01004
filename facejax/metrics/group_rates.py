"""Error rates by group of people, at one threshold for all.

FMR of a group is that of impostor comparisons within it, FNMR that of its
genuine ones; of two groups, FMR of comparisons between them. How unequal they
are is summed up in several numbers, each of which hides what others show.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from facejax.metrics import people_bootstrap, people_intervals

ALPHA = 0.5  # share of FMR against FNMR in what joins both
_TOLD = 0.95  # of the draws, or there is no interval


@dataclasses.dataclass(frozen=True, eq=False)
class Decided:
  """Comparisons, what was decided, and the groups of the people.

  Attributes:
    accepted: whether the score reached the threshold, bool [comparisons].
    same: bool [comparisons].
    who: whom each compares.
    group: of each person of `who`, int [people], from 0.
    groups: how many there are.
  """

  accepted: np.ndarray
  same: np.ndarray
  who: people_intervals.Compared
  group: np.ndarray
  groups: int

  def __post_init__(self):
    n = len(self.who)
    if not self.accepted.shape == self.same.shape == (n,):
      raise ValueError(
        f"accepted {self.accepted.shape} and same {self.same.shape} of {n}"
        " comparisons; give one each"
      )
    if self.group.shape != (self.who.people,):
      raise ValueError(
        f"group {self.group.shape} of {self.who.people} people; give one each"
      )


@dataclasses.dataclass(frozen=True, eq=False)
class GroupTable:
  """Errors and comparisons, counted.

  Attributes:
    false_matches: of impostors of two groups, symmetric, [groups, groups].
    impostors: how many of these comparisons there are.
    false_non_matches: of genuine comparisons, [groups].
    genuine: how many of these there are.
  """

  false_matches: np.ndarray
  impostors: np.ndarray
  false_non_matches: np.ndarray
  genuine: np.ndarray

  @property
  def matrix(self) -> np.ndarray:
    """FMR of two groups, [groups, groups]; NaN without a comparison."""
    return _share(self.false_matches, self.impostors)

  @property
  def fmr(self) -> np.ndarray:
    """FMR within each group, [groups]."""
    return np.diagonal(self.matrix)

  @property
  def fnmr(self) -> np.ndarray:
    """FNMR of each group, [groups]."""
    return _share(self.false_non_matches, self.genuine)


def table(found: Decided, often: np.ndarray | None = None) -> GroupTable:
  """Counts comparisons, each as often as told.

  >>> who = people_intervals.compared([0, 0, 2, 1], [0, 1, 3, 2])
  >>> yes = np.array([True, False, True, True])
  >>> same = np.array([True, False, False, False])
  >>> counted = table(Decided(yes, same, who, np.array([0, 0, 1, 1]), 2))
  >>> counted.matrix.tolist(), counted.genuine.tolist()
  ([[0.0, 1.0], [1.0, 1.0]], [1, 0])
  """
  first, second = (found.group[p] for p in (found.who.first, found.who.second))
  low, high = np.minimum(first, second), np.maximum(first, second)
  cell, size = low * found.groups + high, found.groups**2

  def counts(which: np.ndarray) -> np.ndarray:
    weights = None if often is None else often[which]
    upper = np.bincount(cell[which], weights, minlength=size)
    upper = np.rint(upper).astype(np.int64).reshape(found.groups, -1)
    return upper + np.triu(upper, 1).T

  return GroupTable(
    counts(~found.same & found.accepted),
    counts(~found.same),
    np.diagonal(counts(found.same & ~found.accepted)),
    np.diagonal(counts(found.same)),
  )


def worst_over_best(
  rates: npt.ArrayLike, *, worst: int | None = None, best: int | None = None
) -> float:
  """max x / min x; infinite where the least is 0, NaN where both are.

  Args:
    rates: of groups.
    worst: the group above; None for the one with the highest rate.
    best: the group below; None for the one with the lowest.

  References:
    Grother, *Face Recognition Vendor Test (FRVT) Part 8: Summarizing
    Demographic Differentials*, NIST IR 8429, 2022.

  >>> worst_over_best([0.02, 0.01]), worst_over_best([0.02, 0.01], worst=1, best=0)
  (2.0, 0.5)
  """
  rates = np.asarray(rates, np.float64)
  high = rates.max() if worst is None else rates[worst]
  return _over(high, rates.min() if best is None else rates[best])


def worst_over_mean(rates: npt.ArrayLike, *, worst: int | None = None) -> float:
  """max x / (Π x)^(1/n), over the geometric mean; from NIST IR 8429 as well.

  >>> round(worst_over_mean([0.04, 0.01]), 9)
  2.0
  """
  rates = np.asarray(rates, np.float64)
  high = rates.max() if worst is None else rates[worst]
  return _over(high, math.exp(np.log(rates).mean()) if rates.min() > 0 else 0.0)


def gini(rates: npt.ArrayLike) -> float:
  """Gini's coefficient of n rates, scaled so that 1 can be reached.

      n / (n - 1) · Σ_i Σ_j |x_i - x_j| / (2 n² mean x)

  0 where all are equal, also where all are 0.

  >>> gini([0.0, 0.02]), gini([0.01, 0.01, 0.01])
  (1.0, 0.0)
  """
  rates = np.asarray(rates, np.float64)
  n, mean = len(rates), rates.mean()
  apart = np.abs(rates[:, None] - rates[None, :]).sum()
  if not apart:
    return 0.0
  return float(n / (n - 1) * apart / (2 * n**2 * mean))


def garbe(fmr: npt.ArrayLike, fnmr: npt.ArrayLike) -> float:
  """Gini aggregation rate for biometric equitability, of both kinds of error.

      α gini(FMR) + (1 - α) gini(FNMR),   α = 1/2

  References:
    Howard, Laird, Rubin, Sirotin, Tipton, Vemury, *Evaluating Proposed Fairness
    Models for Face Recognition Algorithms*, 2022.
  """
  return ALPHA * gini(fmr) + (1 - ALPHA) * gini(fnmr)


def inequity(fmr: npt.ArrayLike, fnmr: npt.ArrayLike) -> float:
  """Inequity rate, (max FMR / min FMR)^α (max FNMR / min FNMR)^(1 - α).

  With α = 1/2; from NIST IR 8429. Infinite or NaN as `worst_over_best`.
  """
  return float(
    worst_over_best(fmr) ** ALPHA * worst_over_best(fnmr) ** (1 - ALPHA)
  )


def drawn(
  found: Decided, *, samples: int = 1000, seed: int = 0
) -> tuple[list[GroupTable], list[GroupTable]]:
  """The table of people who are drawn again, and that of couples."""
  draws = (
    people_bootstrap.multiplicities(found.who, seed=seed),
    people_bootstrap.couples(found.who, seed=seed),
  )
  people, couples = (
    [table(found, often) for often in itertools.islice(one, samples)]
    for one in draws
  )
  return people, couples


def resampled(
  told: GroupTable,
  draws: tuple[list[GroupTable], list[GroupTable]],
  measure: Callable[[GroupTable], float],
) -> people_bootstrap.Resampled | None:
  """A measure of people who are drawn again; None where it often is not told.

  That is where in more than one draw of twenty it is no number, as of groups
  without an error.

  Args:
    told: the table as it is.
    draws: of `drawn`.
    measure: of a table.
  """

  def values(tables: list[GroupTable]) -> np.ndarray:
    with np.errstate(all="ignore"):
      found = np.array([measure(one) for one in tables])
    return found[np.isfinite(found)]

  people, couples = (values(tables) for tables in draws)
  value = measure(told)
  # Only their variances are compared: they need not be as many.
  size = min(len(people), len(couples))
  if size < _TOLD * len(draws[0]) or not np.isfinite(value):
    return None
  return people_bootstrap.Resampled(
    np.array([value]), people[None, :size], couples[None, :size]
  )


def dealt(
  found: Decided, *, samples: int = 1000, seed: int = 0
) -> Iterator[GroupTable]:
  """The table where groups of the same sizes are dealt to people by chance.

  How unequal they are then, is what groups that do not matter look like.
  """
  rng = np.random.default_rng(seed)
  for _ in range(samples):
    yield table(dataclasses.replace(found, group=rng.permutation(found.group)))


def _share(errors: np.ndarray, trials: np.ndarray) -> np.ndarray:
  with np.errstate(divide="ignore", invalid="ignore"):
    return np.where(trials > 0, errors / trials, np.nan)


def _over(high: float, low: float) -> float:
  if low > 0:
    return float(high / low)
  return math.inf if high > 0 else math.nan
