"""Scores to log likelihood ratios, and what these ratios are worth.

The likelihood ratio of a score is how much more likely it is of one person than
of two:

    LLR(s) = log p(s | same) / p(s | different)        natural logarithm

It says nothing of how often people are met: odds before the comparison, times
the ratio, are the odds after it.

References:
  Brümmer, du Preez, *Application-independent evaluation of speaker detection*,
  2006.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize

from facejax.metrics import checks, counts, intervals

_ITERATIONS = 100
_LN2 = float(np.log(2))


class LogRatioLine(NamedTuple):
  """LLR(s) = slope s + intercept, in natural logarithms."""

  slope: float
  intercept: float

  def __call__(self, scores: npt.ArrayLike) -> np.ndarray:
    """Log likelihood ratios of scores, of any shape."""
    return self.slope * np.asarray(scores, np.float64) + self.intercept


class Reliability(NamedTuple):
  """What was said of pairs and what was so, by rising bins, [bins] each.

  As probabilities of one person where same and different are equally frequent.
  """

  said: np.ndarray
  found: np.ndarray
  low: np.ndarray  # Wilson's interval of `found`, of independent pairs
  high: np.ndarray
  pairs: np.ndarray  # how many there are


def logistic(
  scores: npt.ArrayLike, same: npt.ArrayLike, *, prior: float = 0.5
) -> LogRatioLine:
  """The line of scores that tells kinds apart best: logistic regression.

  Minimises, with z = slope s + intercept + logit(prior),

      prior / |same| Σ_same log(1 + e^-z)
        + (1 - prior) / |different| Σ_different log(1 + e^z)

  Both kinds weigh as the prior says, however many pairs there are of each.

  Args:
    scores: similarities, [pairs].
    same: bool, [pairs].
    prior: share of same pairs that is optimised for, in (0, 1).

  Raises:
    ValueError: as `verification.roc`; if the prior is out of range, or the
      scores of the two kinds do not overlap, so that no finite line is best.

  >>> line = logistic([0, 0, 0, 0, 1, 1, 1, 1], [1, 0, 0, 0, 1, 1, 1, 0])
  >>> round(line.slope, 4), round(line.intercept, 4)  # ± log 3
  (2.1972, -1.0986)
  """
  scores, same = checks.pairs(scores, same)
  if not 0 < prior < 1:
    raise ValueError(f"prior is {prior}; use a share within (0, 1)")
  mine, theirs = scores[same], scores[~same]
  if mine.min() >= theirs.max() or mine.max() <= theirs.min():
    raise ValueError(
      "the scores of same and of different pairs do not overlap: no finite line"
      " fits them best"
    )
  middle, spread = scores.mean(), scores.std()
  rows = np.stack([(scores - middle) / spread, np.ones(len(scores))], axis=1)
  weights = np.where(same, prior / same.sum(), (1 - prior) / (~same).sum())
  offset = float(np.log(prior / (1 - prior)))
  slope, intercept = _newton(rows, np.where(same, 1.0, -1.0), weights, offset)
  slope /= spread
  return LogRatioLine(float(slope), float(intercept - slope * middle))


def _newton(
  rows: np.ndarray, signs: np.ndarray, weights: np.ndarray, offset: float
) -> np.ndarray:
  """The minimum of Σ w log(1 + exp(-sign (rows · x + offset))), convex in x."""

  def loss(x: np.ndarray) -> float:
    return float(weights @ np.logaddexp(0, -signs * (rows @ x + offset)))

  x = np.zeros(rows.shape[1])
  for _ in range(_ITERATIONS):
    margin = signs * (rows @ x + offset)
    wrong = np.exp(-np.logaddexp(0, margin))  # 1 / (1 + e^margin)
    slope = -(weights * signs * wrong) @ rows
    curvature = (rows.T * (weights * wrong * (1 - wrong))) @ rows
    step, before = np.linalg.lstsq(curvature, slope)[0], loss(x)
    size = 1.0
    while size > 1e-10 and loss(x - size * step) > before:
      size /= 2
    x = x - size * step
    if np.abs(size * step).max() <= 1e-12 * (1 + np.abs(x).max()):
      break
  return x


def cross_fitted(
  scores: npt.ArrayLike,
  same: npt.ArrayLike,
  fold: npt.ArrayLike,
  *,
  prior: float = 0.5,
) -> np.ndarray:
  """LLRs of pairs by `logistic` of the other folds, [pairs].

  Args:
    scores: similarities, [pairs].
    same: bool, [pairs].
    fold: the fold of each pair, at least two distinct ints, [pairs].
    prior: see `logistic`.

  Raises:
    ValueError: as `logistic`, and if there is one fold only.
  """
  scores, same = checks.pairs(scores, same)
  fold = checks.folds(fold, same)
  found = np.empty(len(scores))
  for k in np.unique(fold):
    mine = fold == k
    line = logistic(scores[~mine], same[~mine], prior=prior)
    found[mine] = line(scores[mine])
  return found


def cllr(llrs: npt.ArrayLike, same: npt.ArrayLike) -> float:
  """Cost of log likelihood ratios, over all priors and costs of errors, in bits.

      Cllr = 1/2 mean_same log2(1 + e^-LLR) + 1/2 mean_different log2(1 + e^LLR)

  0 is perfect, 1 is what LLR = 0 costs, which says nothing; ratios that mislead
  cost more.

  Args:
    llrs: natural logarithms, which may be infinite, [pairs].
    same: bool, [pairs].

  Raises:
    ValueError: if shapes differ, one is not a number, or one kind is missing.

  >>> cllr([0, 0, 0], [True, False, False])
  1.0
  """
  llrs, same = np.asarray(llrs, np.float64), np.asarray(same, bool)
  if llrs.shape != same.shape or np.isnan(llrs).any():
    raise ValueError(f"llrs must be numbers, one for each {same.shape} pair")
  if same.all() or not same.any():
    raise ValueError("give at least one same and one different pair")
  mine, theirs = (
    np.logaddexp(0, values).mean() for values in (-llrs[same], llrs[~same])
  )
  return float((mine + theirs) / (2 * _LN2))


def cllr_of_counts(tally: counts.Counts) -> float:
  """`cllr` of pairs that were counted by their LLRs."""
  mine, theirs = _kinds(tally)
  cost = mine @ np.logaddexp(0, -tally.thresholds)
  cost += theirs @ np.logaddexp(0, tally.thresholds)
  return float(cost / (2 * _LN2))


def pav(scores: npt.ArrayLike, same: npt.ArrayLike) -> np.ndarray:
  """The LLRs that cost least of all that rise with the score, [pairs].

  Pool adjacent violators: isotonic regression of the kind on the score, both
  kinds weighing alike. They are infinite at the ends, where pairs are of one
  kind, and of these very pairs: a bound (`min_cllr`), no calibration for others.

  Args:
    scores: similarities, [pairs]; equal ones get one LLR.
    same: bool, [pairs].

  Raises:
    ValueError: as `verification.roc`.

  >>> pav([1, 2, 2, 3], [False, True, False, True]).round(3).tolist()
  [-inf, 0.0, 0.0, inf]
  """
  scores, same = checks.pairs(scores, same)
  tally = counts.count(scores, same)
  place = np.searchsorted(-tally.thresholds, -scores)
  return _pooled(tally)[place]


def min_cllr(scores: npt.ArrayLike, same: npt.ArrayLike) -> float:
  """`cllr` of `pav`: what order alone costs, in bits.

  What `cllr` has above it is the cost of calibration.

  >>> round(min_cllr([1, 2, 2, 3], [False, True, False, True]), 3)
  0.5
  """
  return min_cllr_of_counts(counts.count(scores, same))


def min_cllr_of_counts(tally: counts.Counts) -> float:
  """`min_cllr` of pairs that were counted."""
  mine, theirs = _kinds(tally)
  llrs = _pooled(tally)
  # Where a kind has no pair its cost may be infinite, and does not count.
  cost = mine[mine > 0] @ np.logaddexp(0, -llrs[mine > 0])
  cost += theirs[theirs > 0] @ np.logaddexp(0, llrs[theirs > 0])
  return float(cost / (2 * _LN2))


def reliability(
  llrs: npt.ArrayLike, same: npt.ArrayLike, *, bins: int = 10
) -> Reliability:
  """What LLRs say of pairs, beside what was so, in bins of as many pairs.

  Args:
    llrs: natural logarithms, [pairs].
    same: bool, [pairs].
    bins: how many; fewer where LLRs are equal.

  Raises:
    ValueError: as `verification.roc`, and if `bins` is below 1.

  >>> found = reliability([-1, -1, -1, 1, 1, 1], [0, 0, 1, 1, 1, 0], bins=2)
  >>> found.found.round(2).tolist(), found.said.round(2).tolist()
  ([0.33, 0.67], [0.27, 0.73])
  """
  llrs, same = checks.pairs(llrs, same)
  if bins < 1:
    raise ValueError(f"bins is {bins}; use 1 or more")
  rows = len(llrs) * np.arange(1, bins) // bins - 1
  edges = np.sort(llrs)[rows.clip(0)]  # the last of each bin
  place = np.unique(np.searchsorted(edges, llrs), return_inverse=True)[1]
  weights = np.where(same, 1 / same.sum(), 1 / (~same).sum())
  said = np.exp(-np.logaddexp(0, -llrs))
  total = np.bincount(place, weights)
  pairs, mine = np.bincount(place), np.bincount(place, same)
  ends = np.array(
    [intervals.wilson(k, n) for k, n in zip(mine, pairs, strict=True)]
  )
  # From the share among these pairs to that where kinds are equally frequent.
  rare = (~same).sum() / same.sum()
  low, high = (rare * end / (rare * end + 1 - end) for end in ends.T)
  return Reliability(
    np.bincount(place, weights * said) / total,
    np.bincount(place, weights * same) / total,
    *(low, high, pairs),
  )


def _kinds(tally: counts.Counts) -> tuple[np.ndarray, np.ndarray]:
  """Shares of same and of different pairs at each threshold, [points]."""
  same, different = tally.totals()
  return (
    np.diff(tally.same, prepend=0) / same,
    np.diff(tally.different, prepend=0) / different,
  )


def _pooled(tally: counts.Counts) -> np.ndarray:
  """`pav` at each threshold of counts, [points]."""
  kinds = np.stack([np.diff(tally.same, prepend=0),
                    np.diff(tally.different, prepend=0)])  # fmt: skip
  held = np.flatnonzero(kinds.any(axis=0))
  mine, theirs = kinds[:, held]
  same, different = tally.totals()
  weight = mine / same + theirs / different
  # Thresholds fall.
  fit = optimize.isotonic_regression(
    mine / same / weight, weights=weight, increasing=False
  )
  # Sums of counts are exact: a block of one kind is infinite, not nearly so.
  sums = np.add.reduceat(kinds[:, held], fit.blocks[:-1], axis=1)
  with np.errstate(divide="ignore"):
    logs = np.log(sums[0] / same) - np.log(sums[1] / different)
  out = np.zeros(len(tally.thresholds))
  out[held] = np.repeat(logs, np.diff(fit.blocks))
  return out
