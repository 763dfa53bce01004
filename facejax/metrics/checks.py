"""Checks of what the verification metrics are given."""

import numpy as np
import numpy.typing as npt


def pairs(
  scores: npt.ArrayLike, same: npt.ArrayLike, *, both_kinds: bool = True
) -> tuple[np.ndarray, np.ndarray]:
  """Returns scores, float64 [pairs], and same, bool [pairs].

  Raises:
    ValueError: if they are empty, differ in length, are not finite or no truth
      values, or if `both_kinds` are asked for and there is one.
  """
  scores, same = np.asarray(scores, np.float64), np.asarray(same)
  if scores.ndim != 1 or scores.shape != same.shape:
    raise ValueError(f"scores have shape {scores.shape}, same {same.shape}")
  if not scores.size:
    raise ValueError("there are no pairs; give at least one of each kind")
  bad = np.flatnonzero(~np.isfinite(scores))
  if bad.size:
    raise ValueError(
      f"{bad.size} of {scores.size} scores are not finite; "
      f"the first is {scores[bad[0]]} of pair {bad[0]}"
    )
  if same.dtype != bool and not np.isin(same, (0, 1)).all():
    raise ValueError(f"same holds {np.unique(same)[:5]}; use true and false")
  same = same.astype(bool)
  if both_kinds and (same.all() or not same.any()):
    raise ValueError(
      f"there are {same.sum()} same and {(~same).sum()} different pairs; give "
      "at least one of each kind"
    )
  return scores, same


def folds(fold: npt.ArrayLike, same: np.ndarray) -> np.ndarray:
  """Returns the fold of each pair, [pairs], renumbered 0, 1, 2, ….

  Raises:
    ValueError: if there is one fold only, or if the pairs outside of some fold
      are of one kind.
  """
  fold = np.asarray(fold)
  if fold.shape != same.shape:
    raise ValueError(f"fold has shape {fold.shape}, same has {same.shape}")
  names, fold = np.unique(fold, return_inverse=True)
  if len(names) < 2:
    raise ValueError(f"all pairs are in fold {names[0]}; use 2 folds or more")
  outside = same.size - np.bincount(fold)
  positive = same.sum() - np.bincount(fold, weights=same)
  lopsided = np.flatnonzero((positive == 0) | (positive == outside))
  if lopsided.size:
    k = lopsided[0]
    raise ValueError(
      f"the {outside[k]} pairs outside of fold {names[k]} are all of one kind; "
      "spread same and different pairs over the folds"
    )
  return fold
