"""Checks of what the metrics are given."""

import numpy as np
import numpy.typing as npt

from facejax.runtime import unit_vectors

_ULPS = 8


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


def rounding(scores: np.ndarray) -> np.ndarray:
  """How far scores may lie apart that are equal but for rounding, [...].

  Products of equal vectors of length 1 were seen to differ by up to 2.5 units
  in the last place of 1, as a matrix product adds up in different orders.
  """
  return _ULPS * np.finfo(scores.dtype).eps * np.maximum(1, np.abs(scores))


def share(value: float, name: str) -> float:
  """Returns a rate or share that lies in [0, 1].

  Raises:
    ValueError: if it does not, or is nan.
  """
  if not 0 <= value <= 1:
    raise ValueError(f"{name} is {value}; a rate lies in [0, 1]")
  return float(value)


def allowed(rate: float, count: int) -> int:
  """The largest number whose share of `count` is at most `rate`.

  `int(rate * count)` would lose one to rounding: 0.29 * 100 lies below 29.
  """
  number = min(int(rate * count) + 1, count)
  while number / count > rate:  # at most once or, after rounding, twice
    number -= 1
  return number


def labels(values: npt.ArrayLike, count: int, name: str) -> np.ndarray:
  """Returns the labels of `count` things, ints or strings, [count].

  Raises:
    ValueError: if their number differs, there is none, or one is a float.
  """
  values = np.asarray(values)
  if values.shape != (count,) or not count:
    raise ValueError(
      f"{name} has shape {values.shape}; give one label for each of {count}"
      + ("" if count else ", and at least one")
    )
  if values.dtype.kind == "f":
    raise ValueError(f"{name} holds floats; labels are ints or strings")
  return values


def vectors(values: npt.ArrayLike, name: str) -> np.ndarray:
  """Returns vectors [rows, dim], float32 of half or single, else float64.

  Raises:
    ValueError: if they have another rank, there is none, or one is not finite.
  """
  x = np.asarray(values)
  half = x.dtype.itemsize == 2 and x.dtype.kind in "fV"  # V: bfloat16
  x = x.astype(np.float32) if half else x
  x = x if x.dtype == np.float32 else x.astype(np.float64)
  if x.ndim != 2 or not x.size:
    raise ValueError(f"{name} has shape {x.shape}; must be [rows, dim], not 0")
  # nan and infinity both show in the least and the largest entry.
  if not np.isfinite([x.min(), x.max()]).all():
    row = int(np.argmin(np.isfinite(x).all(axis=1)))
    raise ValueError(f"{name} holds a value that is not finite, in row {row}")
  return x


def units(values: npt.ArrayLike, name: str) -> np.ndarray:
  """Returns `vectors` divided by their lengths, [rows, dim].

  Raises:
    ValueError: as `vectors`, and if one is a zero vector.
  """
  return unit_vectors.unit(
    vectors(values, name), what=f"rows of {name}", name="row {}".format
  )
