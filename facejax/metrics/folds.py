"""Rules for the threshold of each fold, from the pairs of the other folds.

Each takes checked scores, float64 [pairs], same, bool [pairs], and fold, int
[pairs], numbered 0, 1, …; each returns the accuracies and the thresholds, both
[folds]. `facejax.metrics.verification.ten_fold_accuracy` names them.
"""

import numpy as np

from facejax.metrics import counts

Folds = tuple[np.ndarray, np.ndarray]

_SPHEREFACE = np.arange(-10_000, 10_001) / 10_000


def facenet(scores: np.ndarray, same: np.ndarray, fold: np.ndarray) -> Folds:
  """Squared L2 0, 0.01 … 3.99, accepted strictly below; the first best one.

  Raises:
    ValueError: if the scores are no cosines.

  >>> accuracy, threshold = facenet(
  ...   np.array([0.9, 0.2] * 2), np.array([True, False] * 2), np.arange(4) // 2
  ... )
  >>> accuracy.tolist(), (2 - 2 * threshold).round(2).tolist()
  ([1.0, 1.0], [0.2, 0.2])
  """
  cosines(scores, "exact")
  grid = np.arange(0, 4, 0.01)
  # The first grid value above the distance; that one and all later ones accept.
  place = np.searchsorted(grid, 2 - 2 * scores, side="right")
  accepted = _passed(place, fold, same, len(grid))
  mistaken = _passed(place, fold, ~same, len(grid))
  correct = (accepted + mistaken[:, -1:] - mistaken)[:, :-1]
  best = np.argmax(correct.sum(axis=0) - correct, axis=1)
  accuracies = correct[np.arange(len(best)), best] / np.bincount(fold)
  return accuracies, 1 - grid[best] / 2


def sphereface(scores: np.ndarray, same: np.ndarray, fold: np.ndarray) -> Folds:
  """Cosines -1, -0.9999 … 1; the mean of all the best ones.

  Right are same pairs strictly above and different pairs strictly below, so a
  score that equals the threshold is wrong for both.

  Raises:
    ValueError: if the scores are no cosines.

  >>> accuracy, threshold = sphereface(
  ...   np.array([0.9, 0.2] * 2), np.array([True, False] * 2), np.arange(4) // 2
  ... )
  >>> accuracy.tolist(), threshold.round(6).tolist()
  ([1.0, 1.0], [0.55, 0.55])
  """
  cosines(scores, "exact")
  grid = _SPHEREFACE
  above = np.searchsorted(grid, scores, side="left")  # thresholds below a score
  below = np.searchsorted(grid, scores, side="right")  # the first one above it
  # A same pair is right at thresholds before `above`, a different one from
  # `below` on.
  missed = _passed(above, fold, same, len(grid))
  correct = missed[:, -1:] - missed + _passed(below, fold, ~same, len(grid))
  correct = correct[:, :-1]
  others = correct.sum(axis=0) - correct
  accuracies, thresholds = [], []
  for k, gain in enumerate(others):
    thresholds.append(grid[gain == gain.max()].mean())
    mine = fold == k
    right = np.where(
      same[mine], scores[mine] > thresholds[k], scores[mine] < thresholds[k]
    )
    accuracies.append(right.mean())
  return np.array(accuracies), np.array(thresholds)


def exact(scores: np.ndarray, same: np.ndarray, fold: np.ndarray) -> Folds:
  """Every split of the scores, `best_split`; accepted from there upwards.

  >>> exact(np.array([0.9, 0.2] * 2), np.array([True, False] * 2),
  ...       np.arange(4) // 2)
  (array([1., 1.]), array([0.55, 0.55]))
  """
  accuracies, thresholds = [], []
  for k in range(fold.max() + 1):
    mine = fold == k
    thresholds.append(best_split(scores[~mine], same[~mine]))
    accuracies.append(np.mean((scores[mine] >= thresholds[-1]) == same[mine]))
  return np.array(accuracies), np.array(thresholds)


def oracle(scores: np.ndarray, same: np.ndarray, fold: np.ndarray) -> Folds:
  """`best_split` of all pairs, those of the fold itself among them.

  What it returns is no estimate of the accuracy on other people.

  >>> oracle(np.array([0.9, 0.2] * 2), np.array([True, False] * 2),
  ...        np.arange(4) // 2)
  (array([1., 1.]), array([0.55, 0.55]))
  """
  threshold = best_split(scores, same)
  right = np.bincount(fold, weights=(scores >= threshold) == same)
  return right / np.bincount(fold), np.full(len(right), threshold)


def best_split(scores: np.ndarray, same: np.ndarray) -> float:
  """Middle of the middle one of the best intervals between scores.

  >>> best_split(np.array([0.9, 0.7, 0.3]), np.array([True, True, False]))
  0.5
  """
  tally = counts.count(scores, same)
  values = tally.thresholds
  gain = np.r_[0, tally.same - tally.different]
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


def right(
  convention: str, scores: np.ndarray, same: np.ndarray, threshold: np.ndarray
) -> np.ndarray:
  """Which pairs are decided rightly, bool [pairs]; by a threshold each.

  >>> scores, same = np.array([0.5, 0.5]), np.array([True, False])
  >>> right("exact", scores, same, scores).tolist()
  [True, False]
  >>> right("sphereface", scores, same, scores).tolist()
  [False, False]
  """
  if convention == "sphereface":
    return np.where(same, scores > threshold, scores < threshold)
  if convention == "facenet":
    # The very number of the grid: a cosine that stands for it is rounded.
    grid = np.arange(0, 4, 0.01)
    place = np.rint((2 - 2 * threshold) * 100).astype(int)
    return (2 - 2 * scores < grid[place]) == same
  return (scores >= threshold) == same


def cosines(scores: np.ndarray, other: str) -> None:
  """Checks that scores are cosines, up to rounding.

  Raises:
    ValueError: if they are not; it names the `other` convention to use.
  """
  if np.abs(scores).max() > 1 + 1e-4:
    raise ValueError(
      f"scores lie in [{scores.min():.4g}, {scores.max():.4g}], cosines in "
      f'[-1, 1]; normalise the embeddings or use convention="{other}"'
    )


def _passed(
  place: np.ndarray, fold: np.ndarray, kind: np.ndarray, size: int
) -> np.ndarray:
  """Pairs of a kind by fold with place <= column, [folds, size + 1]."""
  shape = fold.max() + 1, size + 1
  cell = fold[kind] * shape[1] + place[kind]
  found = np.bincount(cell, minlength=shape[0] * shape[1])
  return found.reshape(shape).cumsum(axis=1)
