"""Verification metrics: do two images show the same person?

Every function takes `scores`, the cosines of the pairs' embeddings, [pairs],
and `same`, true where both images show one person, bool, [pairs]. A pair is
accepted when its score reaches the threshold. On unit vectors squared L2
distance is `2 - 2 cosine`: a distance threshold d is the cosine `1 - d / 2`.

Every function raises ValueError if the inputs are empty, differ in length, are
not finite or (but for `accuracy_at`) hold one kind of pair only. Sorting does
all the work, so ten million pairs take seconds.
"""

import dataclasses
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from facejax.metrics import checks

Convention = Literal["facenet", "exact"]


@dataclasses.dataclass(frozen=True, eq=False)
class FoldAccuracy:
  """Accuracy on each fold at a threshold chosen on the other folds."""

  mean: float  # over folds, in [0, 1]
  std: float  # population standard deviation over folds
  standard_error: float  # of the mean: sample deviation / sqrt(folds)
  accuracies: np.ndarray  # [folds]
  thresholds: np.ndarray  # as cosines, [folds]
  convention: Convention


class Roc(NamedTuple):
  """Receiver operating characteristic, by falling threshold, [points] each."""

  far: np.ndarray
  tar: np.ndarray
  thresholds: np.ndarray


def ten_fold_accuracy(
  scores: npt.ArrayLike,
  same: npt.ArrayLike,
  fold: npt.ArrayLike,
  *,
  convention: Convention = "facenet",
) -> FoldAccuracy:
  """Cross-validated accuracy, the number that papers quote for LFW.

  For each fold: the threshold with the best accuracy on the other folds, and
  the accuracy of this fold at that threshold. `convention` names the rule:

  - `"facenet"` (and insightface): squared L2 thresholds 0, 0.01 … 3.99, accept
    when distance < threshold (strictly), the first of equally good ones.
  - `"exact"`: `best_threshold`, where every split of the scores is tried.

  Args:
    scores: cosines, [pairs].
    same: bool, [pairs].
    fold: the fold of each pair, at least two distinct ints, [pairs].
    convention: the rule for the threshold.

  Raises:
    ValueError: also if there is one fold only, if the pairs outside of some
      fold are of one kind, or if `"facenet"` gets scores that are no cosines.

  References:
    Huang et al., *Labeled Faces in the Wild*, 2007. Schroff et al., *FaceNet: A
    Unified Embedding for Face Recognition and Clustering*, 2015.

  >>> result = ten_fold_accuracy(
  ...   [0.9, 0.2, 0.9, 0.1], [True, False, True, False], [0, 0, 1, 1]
  ... )
  >>> result.mean, result.std
  (1.0, 0.0)
  """
  scores, same = checks.pairs(scores, same)
  fold = checks.folds(fold, same)
  if convention == "facenet":
    accuracies, thresholds = _grid_folds(scores, same, fold)
  elif convention == "exact":
    accuracies, thresholds = _exact_folds(scores, same, fold)
  else:
    raise ValueError(f"convention {convention!r}; use {get_args(Convention)}")
  return FoldAccuracy(
    mean=float(accuracies.mean()),
    std=float(accuracies.std()),
    standard_error=float(accuracies.std(ddof=1) / np.sqrt(accuracies.size)),
    accuracies=accuracies,
    thresholds=thresholds,
    convention=convention,
  )


def best_threshold(scores: npt.ArrayLike, same: npt.ArrayLike) -> float:
  """Threshold with the highest accuracy on these very pairs.

  Accuracy is constant between neighbouring scores: the answer is the midpoint
  of the best such interval; of several equally good ones, the middle (for two,
  the lower). If it is best to accept all or none, it is the lowest score or
  just above the highest.

  Quote the accuracy of this threshold on *other* pairs only.

  >>> best_threshold([0.9, 0.7, 0.3, 0.1], [True, True, False, False])
  0.5
  """
  return _best_split(*checks.pairs(scores, same))


def accuracy_at(
  scores: npt.ArrayLike, same: npt.ArrayLike, threshold: float
) -> float:
  """Share of pairs decided rightly when `score >= threshold` is accepted.

  One kind of pair is enough here.

  >>> accuracy_at([0.9, 0.5, 0.1], [True, True, True], 0.5) == 2 / 3
  True
  """
  scores, same = checks.pairs(scores, same, both_kinds=False)
  if np.isnan(threshold):
    raise ValueError("threshold is nan; it must be a number")
  return float(np.mean((scores >= threshold) == same))


def roc(scores: npt.ArrayLike, same: npt.ArrayLike) -> Roc:
  """False and true accept rates at every distinct score.

      far(t) = |{different: score >= t}| / |different|
      tar(t) = |{same: score >= t}| / |same|

  Returns:
    `far`, `tar` and `thresholds`, from (0, 0) at threshold infinity to (1, 1)
    at the lowest score; pairs with equal scores share one point.

  >>> roc([0.9, 0.5, 0.5, 0.1], [True, True, False, False]).tar.tolist()
  [0.0, 0.5, 1.0, 1.0]
  """
  thresholds, accepted, mistaken = _ranked(*checks.pairs(scores, same))
  return Roc(
    far=np.r_[0, mistaken] / mistaken[-1],
    tar=np.r_[0, accepted] / accepted[-1],
    thresholds=np.r_[np.inf, thresholds],
  )


def tar_at_far(scores: npt.ArrayLike, same: npt.ArrayLike, far: float) -> float:
  """Largest true accept rate whose false accept rate is at most `far`.

  No interpolation: some threshold reaches this very rate. With n different
  pairs, targets below 1 / n all mean "no false accept at all".

  >>> tar_at_far([0.9, 0.5, 0.4, 0.1], [True, False, True, False], 0.0)
  0.5
  """
  if not 0 <= far <= 1:
    raise ValueError(f"far is {far}; a rate lies in [0, 1]")
  curve = roc(scores, same)
  return float(curve.tar[np.searchsorted(curve.far, far, side="right") - 1])


def equal_error_rate(scores: npt.ArrayLike, same: npt.ArrayLike) -> float:
  """Error rate where false accepts are as frequent as false rejects.

  Solves far(t) = 1 - tar(t) on the ROC, whose points are joined by straight
  lines (the rates that mixing two neighbouring thresholds reaches).

  >>> equal_error_rate([0.9, 0.5, 0.4, 0.1], [True, False, True, False])
  0.5
  """
  far, tar, _ = roc(scores, same)
  excess = far + tar - 1  # rises from -1 to 1
  above = int(np.argmax(excess >= 0))
  below = above - 1
  weight = excess[above] / (excess[above] - excess[below])
  return float(weight * far[below] + (1 - weight) * far[above])


def area_under_curve(scores: npt.ArrayLike, same: npt.ArrayLike) -> float:
  """Chance that a random same pair scores above a random different pair.

  The area under the ROC, which equals the Mann-Whitney statistic
  P(same > different) + P(same = different) / 2, exact with ties.

  >>> area_under_curve([0.9, 0.5, 0.5, 0.1], [True, True, False, False])
  0.875
  """
  far, tar, _ = roc(scores, same)
  return float(np.trapezoid(tar, far))


def _ranked(
  scores: np.ndarray, same: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Distinct scores, falling, with the same and different pairs they accept."""
  order = np.argsort(-scores, kind="stable")  # linear in sorted scores
  scores, same = scores[order], same[order]
  last = np.flatnonzero(np.r_[scores[1:] != scores[:-1], True])
  accepted = np.cumsum(same)[last]
  return scores[last], accepted, last + 1 - accepted


def _best_split(scores: np.ndarray, same: np.ndarray) -> float:
  values, accepted, mistaken = _ranked(scores, same)
  gain = np.r_[0, accepted - mistaken]
  best = np.flatnonzero(gain == gain.max())
  split = best[len(best) // 2]  # number of distinct scores that are accepted
  if split == 0:
    return float(np.nextafter(values[0], np.inf))
  if split == len(values):
    return float(values[-1])
  upper, lower = values[split - 1], values[split]
  middle = (upper + lower) / 2
  # Neighbouring floats have no midpoint: it would round onto the lower one.
  return float(middle if middle > lower else upper)


def _exact_folds(
  scores: np.ndarray, same: np.ndarray, fold: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  order = np.argsort(-scores, kind="stable")
  scores, same, fold = scores[order], same[order], fold[order]
  accuracies, thresholds = [], []
  for k in range(fold.max() + 1):
    mine = fold == k
    thresholds.append(_best_split(scores[~mine], same[~mine]))
    accuracies.append(np.mean((scores[mine] >= thresholds[-1]) == same[mine]))
  return np.array(accuracies), np.array(thresholds)


def _grid_folds(
  scores: np.ndarray, same: np.ndarray, fold: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  if np.abs(scores).max() > 1 + 1e-4:
    raise ValueError(
      f"scores lie in [{scores.min():.4g}, {scores.max():.4g}], cosines in "
      '[-1, 1]; normalise the embeddings or use convention="exact"'
    )
  grid = np.arange(0, 4, 0.01)
  # The first grid value above the distance; that one and all later ones accept.
  place = np.searchsorted(grid, 2 - 2 * scores, side="right")
  shape = fold.max() + 1, len(grid) + 1

  def accepted(kind: np.ndarray) -> np.ndarray:
    cell = fold[kind] * shape[1] + place[kind]
    counts = np.bincount(cell, minlength=shape[0] * shape[1])
    return counts.reshape(shape).cumsum(axis=1)

  mistaken = accepted(~same)
  correct = (accepted(same) + mistaken[:, -1:] - mistaken)[:, :-1]
  best = np.argmax(correct.sum(axis=0) - correct, axis=1)
  accuracies = correct[np.arange(shape[0]), best] / np.bincount(fold)
  return accuracies, 1 - grid[best] / 2
