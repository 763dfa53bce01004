"""Confidence intervals of rates over comparisons that share people.

Comparisons of one person are alike: who is hard to tell from one stranger is
hard to tell from the next. Two comparisons with a person in common are taken as
dependent here, all others as independent. What a rate then varies by is a
double sum over comparisons that share a person, each with its residual.
"""

import dataclasses
import functools
import math

import numpy as np
import numpy.typing as npt

from facejax.metrics import intervals


@dataclasses.dataclass(frozen=True, eq=False)
class Compared:
  """Whom each comparison compares: one number a person, from 0.

  Attributes:
    first: the person on the first image, int [comparisons].
    second: the person on the second one; the same in a genuine comparison.
    people: how many people there are.
  """

  first: np.ndarray
  second: np.ndarray
  people: int

  def __len__(self) -> int:
    return len(self.first)

  def of(self, mine: np.ndarray) -> "Compared":
    """Some of the comparisons, by a mask or indices; renumbers the people."""
    return compared(self.first[mine], self.second[mine])

  @functools.cached_property
  def couples(self) -> np.ndarray:
    """One number for each two people who are compared, [comparisons]."""
    low = np.minimum(self.first, self.second).astype(np.int64)
    high = np.maximum(self.first, self.second)
    return np.unique(low * self.people + high, return_inverse=True)[1]

  def shared(self, residuals: np.ndarray) -> float:
    """Sum of the products of two residuals over comparisons sharing a person.

    Each ordered two of them once, each with itself as well:

        Σ_e Σ_f r_e r_f [e and f share a person]
          = Σ_person (Σ of the person's)² - Σ_two people (Σ of the two's)²

    where the last sum is over two different people, who are met twice in the
    first. It can be below zero by chance; what two people have in common
    cannot, and is the least that is returned.
    """
    other = self.first != self.second
    mine = np.bincount(self.first, residuals, self.people)
    mine += np.bincount(
      self.second[other], residuals[other], minlength=self.people
    )
    couples = np.bincount(self.couples, residuals)
    apart = np.zeros(len(couples), bool)
    apart[self.couples] = other
    least = float(np.square(couples).sum())
    return max(
      float(np.square(mine).sum() - np.square(couples[apart]).sum()), least
    )


def compared(first: npt.ArrayLike, second: npt.ArrayLike) -> Compared:
  """Numbers the people of comparisons, who are given by name or number.

  Raises:
    ValueError: if there is no comparison, or the two differ in shape.

  >>> who = compared(["ada", "ada"], ["ada", "bob"])
  >>> who.first.tolist(), who.second.tolist(), who.people
  ([0, 0], [0, 1], 2)
  """
  sides = np.asarray(first), np.asarray(second)
  if (
    sides[0].ndim != 1 or sides[0].shape != sides[1].shape or not len(sides[0])
  ):
    raise ValueError(
      f"first has shape {sides[0].shape}, second {sides[1].shape}; give one"
      " person each for one or more comparisons"
    )
  names, number = np.unique(np.concatenate(sides), return_inverse=True)
  return Compared(*np.split(number, 2), people=len(names))


def variance(
  values: npt.ArrayLike, who: Compared, *, weights: npt.ArrayLike | None = None
) -> float:
  """Variance of a mean over comparisons that share people.

      Σ_e Σ_f w_e w_f (x_e - mean) (x_f - mean) [e and f share a person]

  and not less than what independent comparisons would have,
  Σ_e w_e² (x_e - mean)².

  Args:
    values: of each comparison, such as whether it is an error, [comparisons].
    who: whom each compares.
    weights: of each in the mean, summing to 1; None for equal ones.

  Raises:
    ValueError: if shapes do not fit.

  References:
    Fogliato, Patil, Perona, *Confidence Intervals for Error Rates in 1:1
    Matching Tasks: Critical Statistical Analysis and Recommendations*, 2024.
    Aronow, Samii, Assenova, *Cluster-Robust Variance Estimation for Dyadic
    Data*, 2015.

  >>> four = compared([0, 1, 2, 3], [0, 1, 2, 3])
  >>> two = compared([0, 0, 1, 1], [0, 0, 1, 1])
  >>> variance([1, 1, 0, 0], four), variance([1, 1, 0, 0], two)
  (0.0625, 0.125)
  """
  values, weights = _weighted(values, who, weights)
  residuals = weights * (values - weights @ values)
  return max(who.shared(residuals), float(residuals @ residuals))


def wilson(
  values: npt.ArrayLike,
  who: Compared,
  *,
  weights: npt.ArrayLike | None = None,
  level: float = 0.95,
) -> intervals.Interval:
  """Wilson's interval of a share, for comparisons that share people.

      n* = p (1 - p) / variance, at most the comparisons n

  independent comparisons would tell as much, and take the place of n in
  `intervals.wilson`. Where all comparisons are right, or all wrong, nothing
  tells how dependent they are, and n is taken as it is.

  Args:
    values: whether each comparison counts, bool [comparisons].
    who: whom each compares.
    weights: see `variance`.
    level: as in `intervals.wilson`.

  Raises:
    ValueError: if shapes do not fit, or `level` is out of range.

  References:
    Fogliato, Patil, Perona, see `variance`.

  >>> right, same = [1, 1, 1, 0, 0, 1, 1, 1], list("aaabbccc")
  >>> interval = wilson(right, compared(same, same))
  >>> interval.low.__round__(2), interval.high.__round__(2)
  (0.28, 0.96)
  >>> [round(end, 2) for end in intervals.wilson(6, 8)]
  [0.41, 0.93]
  """
  values, weights = _weighted(values, who, weights)
  share = min(max(float(weights @ values), 0.0), 1.0)
  if values.all():
    share = 1.0
  # What comparisons of unlike weight tell, if they were independent.
  trials = 1 / float(weights @ weights)
  spread = variance(values, who, weights=weights)
  if 0 < share < 1 and spread:
    trials = min(trials, share * (1 - share) / spread)
  trials = max(trials, 1.0)
  return intervals.wilson(share * trials, trials, level=level)


def _weighted(
  values: npt.ArrayLike, who: Compared, weights: npt.ArrayLike | None
) -> tuple[np.ndarray, np.ndarray]:
  values = np.asarray(values, np.float64)
  fits(values, who)
  if weights is None:
    return values, np.full(len(who), 1 / len(who))
  weights = np.asarray(weights, np.float64)
  fits(weights, who)
  if (weights < 0).any() or not math.isclose(weights.sum(), 1, rel_tol=1e-6):
    raise ValueError(
      f"weights sum to {weights.sum():.6g}; use numbers from 0 on that sum to 1"
    )
  return values, weights


def fits(values: np.ndarray, who: Compared) -> None:
  """Raises ValueError unless there is a value for each comparison."""
  if values.shape != (len(who),):
    raise ValueError(
      f"{values.shape} values of {len(who)} comparisons; give one for each"
    )
