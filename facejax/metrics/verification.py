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
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from facejax.metrics import checks, counts, curves, distances, folds

Convention = Literal["facenet", "sphereface", "exact", "oracle"]

Roc = counts.Roc


@dataclasses.dataclass(frozen=True, eq=False)
class FoldAccuracy:
  """Accuracy on each fold at a threshold chosen on the other folds."""

  mean: float  # over folds, in [0, 1]
  std: float  # population standard deviation over folds
  standard_error: float  # of the mean: sample deviation / sqrt(folds)
  accuracies: np.ndarray  # [folds]
  thresholds: np.ndarray  # as cosines, [folds]
  convention: Convention
  right: np.ndarray  # whether each pair is decided rightly, bool [pairs]


def ten_fold_accuracy(
  scores: npt.ArrayLike,
  same: npt.ArrayLike,
  fold: npt.ArrayLike,
  *,
  convention: Convention = "facenet",
  allow_oracle: bool = False,
) -> FoldAccuracy:
  """Cross-validated accuracy, the number that papers quote for LFW.

  For each fold: the threshold with the best accuracy on the other folds, and
  the accuracy of this fold at that threshold. `convention` names the rule:

  - `"facenet"` (and insightface): squared L2 thresholds 0, 0.01 … 3.99, accept
    when distance < threshold (strictly), the first of equally good ones.
  - `"sphereface"`: cosines -1, -0.9999 … 1, right when strictly on its side,
    the mean of all equally good ones; `centred_accuracy` makes its scores.
  - `"exact"`: `best_threshold`, where every split of the scores is tried.
  - `"oracle"`: `best_threshold` of *all* pairs, the fold itself among them.
    Some repositories report it as accuracy; it flatters, and compares with none
    of the others. Refused unless `allow_oracle`.

  One set of forty pairs scores 0.825, 0.85, 0.8 and 0.875 under the four: name
  the convention with the number. Its interval: `people_intervals.wilson` of
  `right`, or `intervals.wilson(mean * n, n)` with the n of all pairs where their
  people are not known.

  Args:
    scores: cosines, [pairs].
    same: bool, [pairs].
    fold: the fold of each pair, at least two distinct ints, [pairs].
    convention: the rule for the threshold.
    allow_oracle: whether `"oracle"` is really wanted.

  Raises:
    ValueError: also if there is one fold only, if the pairs outside of some
      fold are of one kind, if the first two get scores that are no cosines, or
      if `"oracle"` is not allowed.

  References:
    Huang et al., *Labeled Faces in the Wild*, 2007. Schroff et al., *FaceNet: A
    Unified Embedding for Face Recognition and Clustering*, 2015. Liu et al.,
    *SphereFace: Deep Hypersphere Embedding for Face Recognition*, 2017.

  >>> result = ten_fold_accuracy(
  ...   [0.9, 0.2, 0.9, 0.1], [True, False, True, False], [0, 0, 1, 1]
  ... )
  >>> result.mean, result.std
  (1.0, 0.0)
  """
  scores, same = checks.pairs(scores, same)
  fold = checks.folds(fold, same)
  accuracies, thresholds = _rule(convention, allow_oracle)(scores, same, fold)
  right = folds.right(convention, scores, same, thresholds[fold])
  return _fold_accuracy(accuracies, thresholds, convention, right)


def centred_accuracy(
  left: npt.ArrayLike,
  right: npt.ArrayLike,
  same: npt.ArrayLike,
  fold: npt.ArrayLike,
  *,
  convention: Convention = "sphereface",
) -> FoldAccuracy:
  """Cross-validated accuracy after taking away the mean feature, SphereFace's.

  For each fold, with the mean μ of the features of all pairs outside of it,

      score = cosine(left - μ, right - μ)

  then the threshold of `convention` on the other folds, as `ten_fold_accuracy`.

  Args:
    left: features as the network gives them, not normalised, [pairs, dim];
      SphereFace's are those of image and mirror image, concatenated.
    right: features of the other image of each pair, [pairs, dim].
    same: bool, [pairs].
    fold: the fold of each pair, at least two distinct ints, [pairs].
    convention: the rule for the threshold, all but `"oracle"`.

  Raises:
    ValueError: as `ten_fold_accuracy`, and if features differ in shape, are not
      finite, or one is the mean itself.

  References:
    Liu et al., *SphereFace: Deep Hypersphere Embedding for Face Recognition*,
    2017, and its public evaluation code.

  >>> left, right = [[2, 1], [2, 1]] * 2, [[2, 0.9], [1, 2]] * 2
  >>> centred_accuracy(left, right, [True, False] * 2, [0, 0, 1, 1]).mean
  1.0
  """
  left, right = checks.vectors(left, "left"), checks.vectors(right, "right")
  if left.shape != right.shape:
    raise ValueError(f"left has shape {left.shape}, right {right.shape}")
  _, same = checks.pairs(np.zeros(len(left)), same)
  fold, rule = checks.folds(fold, same), _rule(convention, False)
  accuracies, thresholds = [], []
  right_pairs = np.empty(len(same), bool)
  for k in range(fold.max() + 1):
    out = fold != k
    mean = (left[out].mean(axis=0) + right[out].mean(axis=0)) / 2
    scores = distances.cosine_similarity(left - mean, right - mean)
    accuracy, threshold = rule(scores, same, (~out).astype(int))
    accuracies.append(accuracy[1])
    thresholds.append(threshold[1])
    right_pairs[~out] = folds.right(
      convention, scores[~out], same[~out], threshold[1]
    )
  return _fold_accuracy(
    np.array(accuracies), np.array(thresholds), convention, right_pairs
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
  return folds.best_split(*checks.pairs(scores, same))


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
  return counts.count(scores, same).roc()


def tar_at_far(scores: npt.ArrayLike, same: npt.ArrayLike, far: float) -> float:
  """Largest true accept rate whose false accept rate is at most `far`.

  No interpolation: some threshold reaches this very rate. With n different
  pairs, targets below 1 / n all mean "no false accept at all".

  >>> tar_at_far([0.9, 0.5, 0.4, 0.1], [True, False, True, False], 0.0)
  0.5
  """
  return curves.at_far(counts.count(scores, same), far).tar.value


def equal_error_rate(scores: npt.ArrayLike, same: npt.ArrayLike) -> float:
  """Error rate where false accepts are as frequent as false rejects.

  See `curves.equal_error_rate`.

  >>> equal_error_rate([0.9, 0.5, 0.4, 0.1], [True, False, True, False])
  0.5
  """
  return curves.equal_error_rate(counts.count(scores, same))


def area_under_curve(scores: npt.ArrayLike, same: npt.ArrayLike) -> float:
  """Chance that a random same pair scores above a random different pair.

  The area under the ROC, which equals the Mann-Whitney statistic
  P(same > different) + P(same = different) / 2, exact with ties.

  >>> area_under_curve([0.9, 0.5, 0.5, 0.1], [True, True, False, False])
  0.875
  """
  return curves.area(counts.count(scores, same))


def _rule(
  convention: Convention, allow_oracle: bool
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], folds.Folds]:
  names = get_args(Convention)
  if convention not in names or (convention == "oracle" and not allow_oracle):
    raise ValueError(
      f"convention {convention!r}; use one of {names[:-1]}. "
      '"oracle" tunes its threshold on the pairs that it is tested on: only '
      "ten_fold_accuracy has it, with allow_oracle=True"
    )
  return getattr(folds, convention)


def _fold_accuracy(
  accuracies: np.ndarray,
  thresholds: np.ndarray,
  convention: Convention,
  right: np.ndarray,
) -> FoldAccuracy:
  return FoldAccuracy(
    mean=float(accuracies.mean()),
    std=float(accuracies.std()),
    standard_error=float(accuracies.std(ddof=1) / np.sqrt(accuracies.size)),
    accuracies=accuracies,
    thresholds=thresholds,
    convention=convention,
    right=right,
  )
