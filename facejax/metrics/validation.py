"""Verification in FaceNet's terms: VAL and FAR at a squared L2 distance.

For unit embeddings D(i, j) = |f_i - f_j|^2 = 2 - 2 cosine, in [0, 4]. Of the
pairs of one person, P_same, and of two people, P_diff,

    TA(d) = {(i, j) in P_same: D(i, j) <= d}    true accepts
    FA(d) = {(i, j) in P_diff: D(i, j) <= d}    false accepts
    VAL(d) = |TA(d)| / |P_same|                 validation rate
    FAR(d) = |FA(d)| / |P_diff|                 false accept rate

Every function takes `scores`, the cosines of the pairs, and `same`, as those of
`facejax.metrics.verification` do.

References:
  Schroff et al., *FaceNet: A Unified Embedding for Face Recognition and
  Clustering*, 2015, section 4.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facejax.metrics import checks


class Accepts(NamedTuple):
  """What a distance threshold accepts."""

  true_accepts: np.ndarray  # TA(d): indices of pairs
  false_accepts: np.ndarray  # FA(d): indices of pairs
  validation_rate: float  # VAL(d)
  false_accept_rate: float  # FAR(d)


@dataclasses.dataclass(frozen=True, eq=False)
class FoldValidation:
  """VAL on each fold at a threshold chosen on the other folds."""

  mean: float  # VAL over folds, in [0, 1]
  standard_error: float  # of the mean: sample deviation / sqrt(folds)
  far: float  # mean FAR that the folds reach at their thresholds
  rates: np.ndarray  # VAL, [folds]
  false_accept_rates: np.ndarray  # FAR, [folds]
  thresholds: np.ndarray  # as squared L2 distances, [folds]


def accepts_at(
  scores: npt.ArrayLike, same: npt.ArrayLike, distance: float
) -> Accepts:
  """TA(d), FA(d), VAL(d) and FAR(d) at the squared L2 distance d.

  Raises:
    ValueError: as `verification.roc`, and if `distance` is nan.

  >>> accepts = accepts_at([0.9, 0.2, 0.6, 0.1], [True, True, False, False], 0.8)
  >>> accepts.true_accepts.tolist(), accepts.false_accepts.tolist()
  ([0], [2])
  >>> accepts.validation_rate, accepts.false_accept_rate
  (0.5, 0.5)
  """
  scores, same = checks.pairs(scores, same)
  if np.isnan(distance):
    raise ValueError("distance is nan; it must be a number")
  accepted = 2 - 2 * scores <= distance
  return Accepts(
    true_accepts=np.flatnonzero(accepted & same),
    false_accepts=np.flatnonzero(accepted & ~same),
    validation_rate=float(accepted[same].mean()),
    false_accept_rate=float(accepted[~same].mean()),
  )


def validation_at_far(
  scores: npt.ArrayLike, same: npt.ArrayLike, fold: npt.ArrayLike, *, far: float
) -> FoldValidation:
  """VAL at a false accept rate, cross-validated as in FaceNet.

  For each fold the largest d with FAR(d) <= far on the other folds, then VAL(d)
  and FAR(d) of this fold. That d ends just before the distance of the next
  false accept; with n different pairs outside of the fold, targets below 1 / n
  all mean "no false accept there at all".

  Args:
    scores: cosines, [pairs].
    same: bool, [pairs].
    fold: the fold of each pair, at least two distinct ints, [pairs].
    far: the target, in [0, 1].

  Raises:
    ValueError: as `verification.ten_fold_accuracy`, and if `far` is no rate or
      a fold lacks one kind of pair.

  >>> result = validation_at_far(
  ...   [0.9, 0.2, 0.7, 0.4, 0.8, 0.3, 0.6, 0.5],
  ...   [True, False] * 4, [0, 0, 0, 0, 1, 1, 1, 1], far=0.0
  ... )
  >>> result.mean, result.far, result.thresholds.round(3).tolist()
  (1.0, 0.25, [1.0, 1.2])
  """
  if not 0 <= far <= 1:
    raise ValueError(f"far is {far}; a rate lies in [0, 1]")
  scores, same = checks.pairs(scores, same)
  names = np.unique(fold)
  fold = checks.folds(fold, same)
  if (lacking := _lacking_folds(same, fold)).size:
    raise ValueError(
      f"fold {names[lacking[0]]} has pairs of one kind only; VAL and FAR of a "
      "fold need both"
    )
  distances = 2 - 2 * scores
  thresholds, rates, fars = [], [], []
  for k in range(len(names)):
    mine = fold == k
    thresholds.append(_largest_distance(distances[~mine & ~same], far))
    accepted = distances <= thresholds[-1]
    rates.append(accepted[mine & same].mean())
    fars.append(accepted[mine & ~same].mean())
  rates, fars = np.array(rates), np.array(fars)
  return FoldValidation(
    mean=float(rates.mean()),
    standard_error=float(rates.std(ddof=1) / np.sqrt(rates.size)),
    far=float(fars.mean()),
    rates=rates,
    false_accept_rates=fars,
    thresholds=np.array(thresholds),
  )


def _lacking_folds(same: np.ndarray, fold: np.ndarray) -> np.ndarray:
  pairs = np.bincount(fold)
  positive = np.bincount(fold, weights=same)
  return np.flatnonzero((positive == 0) | (positive == pairs))


def _largest_distance(different: np.ndarray, far: float) -> float:
  """The largest d that a share of at most `far` of different pairs lie within."""
  allowed = checks.allowed(far, different.size)
  if allowed == different.size:
    return 4.0
  barred = np.partition(different, allowed)[allowed]
  return float(np.nextafter(barred, -np.inf))
