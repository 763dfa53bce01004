"""Distances and similarities of vectors, and what turns one into another.

Numbers of this package are cosines or squared L2 distances of unit vectors,
and every name says which. `a` and `b` are arrays of numbers of one shape,
[..., dim]; the result is [...], float64. Every function raises ValueError if
the shapes differ or a value is not finite; those of angles also on a zero
vector, which has none.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt


def euclidean(a: npt.ArrayLike, b: npt.ArrayLike) -> np.ndarray:
  """L2 distance, sqrt(sum (a - b)^2); all dimensions in the same unit.

  >>> round(float(euclidean([1, 2], [4, 5])), 6)
  4.242641
  """
  a, b = _checked(a, b)
  return np.linalg.norm(a - b, axis=-1)


def manhattan(a: npt.ArrayLike, b: npt.ArrayLike) -> np.ndarray:
  """L1 distance, sum |a - b|.

  >>> float(manhattan([1, 2], [4, 5]))
  6.0
  """
  a, b = _checked(a, b)
  return np.abs(a - b).sum(axis=-1)


def cosine_similarity(a: npt.ArrayLike, b: npt.ArrayLike) -> np.ndarray:
  """Cosine of the angle between a and b, in [-1, 1].

  >>> round(float(cosine_similarity([1, 2], [4, 5])), 6)
  0.977802
  """
  a, b = _checked(a, b)
  return np.clip((_units(a, "a") * _units(b, "b")).sum(axis=-1), -1, 1)


def cosine_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> np.ndarray:
  """1 - cosine, in [0, 2]; half of `squared_euclidean_of_units`.

  >>> round(float(cosine_distance([1, 2], [4, 5])), 6)
  0.022198
  """
  return squared_euclidean_of_units(a, b) / 2


def adjusted_cosine(
  a: npt.ArrayLike, b: npt.ArrayLike, *, mean: npt.ArrayLike
) -> np.ndarray:
  """Cosine of a - mean and b - mean.

  Features that are all positive lie within a quarter turn of each other; their
  mean, taken from training data, gives back the full range.

  Args:
    a: [..., dim].
    b: [..., dim].
    mean: one number, or [dim].

  >>> round(float(adjusted_cosine([1, 2], [4, 5], mean=3)), 6)
  -0.8
  """
  a, b = _checked(a, b)
  mean = np.asarray(mean, np.float64)
  if mean.shape not in ((), a.shape[-1:]):
    raise ValueError(
      f"mean of shape {mean.shape}: must be one number, or {a.shape[-1:]}"
    )
  return cosine_similarity(a - mean, b - mean)


def squared_euclidean_of_units(
  a: npt.ArrayLike, b: npt.ArrayLike
) -> np.ndarray:
  """Squared L2 distance of a / |a| and b / |b|, 2 (1 - cosine), in [0, 4].

  >>> round(float(squared_euclidean_of_units([1, 2], [4, 5])), 6)
  0.044395
  """
  a, b = _checked(a, b)
  return ((_units(a, "a") - _units(b, "b")) ** 2).sum(axis=-1)


def cosine_of_squared_euclidean(distance: npt.ArrayLike) -> np.ndarray:
  """The cosine at a squared L2 distance d of unit vectors, 1 - d / 2.

  For thresholds: FaceNet's 1.242 is a cosine of 0.379.

  Raises:
    ValueError: if a distance is outside of [0, 4].

  >>> round(float(cosine_of_squared_euclidean(1.242)), 6)
  0.379
  """
  return 1 - _within(distance, 0, 4, "squared L2 distance of unit vectors") / 2


def squared_euclidean_of_cosine(cosine: npt.ArrayLike) -> np.ndarray:
  """The squared L2 distance of unit vectors at a cosine c, 2 (1 - c).

  Raises:
    ValueError: if a cosine is outside of [-1, 1].

  >>> round(float(squared_euclidean_of_cosine(0.379)), 6)
  1.242
  """
  return 2 * (1 - _within(cosine, -1, 1, "cosine"))


def pairwise(
  metric: Callable[[npt.ArrayLike, npt.ArrayLike], np.ndarray],
  a: npt.ArrayLike,
  b: npt.ArrayLike,
) -> np.ndarray:
  """A metric of every vector of `a` with every vector of `b`.

  Takes a row at a time, so the memory is that of the result and one more `b`.

  Args:
    metric: any function of two arrays above.
    a: [rows, dim].
    b: [columns, dim].

  Returns:
    [rows, columns].

  >>> pairwise(manhattan, [[0, 0], [1, 1]], [[0, 2]]).tolist()
  [[2.0], [2.0]]
  """
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
    raise ValueError(
      f"a {a.shape} and b {b.shape}: must be [rows, dim] and [columns, dim]"
    )
  result = np.empty((len(a), len(b)))
  for row, vector in enumerate(a):
    result[row] = metric(np.broadcast_to(vector, b.shape), b)
  return result


def _checked(a, b) -> tuple[np.ndarray, np.ndarray]:
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  if a.shape != b.shape or a.ndim == 0:
    raise ValueError(
      f"a {a.shape} and b {b.shape}: must have one shape, [..., dim]"
    )
  for name, x in (("a", a), ("b", b)):
    if not np.isfinite(x).all():
      raise ValueError(f"{name} holds a value that is not finite")
  return a, b


def _units(x: np.ndarray, name: str) -> np.ndarray:
  # By the largest entry first: squares of 1e200 would be infinite.
  largest = np.abs(x).max(axis=-1, keepdims=True, initial=0)
  if not (largest > 0).all():
    where = tuple(int(i) for i in np.argwhere(largest[..., 0] == 0)[0])
    raise ValueError(
      f"{name} holds a zero vector{f' at {where}' if where else ''}: it has no "
      "direction, so no cosine"
    )
  x = x / largest
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _within(value, low, high, name) -> np.ndarray:
  value = np.asarray(value, np.float64)
  wrong = ~((value >= low) & (value <= high))
  if wrong.any():
    raise ValueError(
      f"{name} {value[wrong].flat[0]}: must lie in [{low}, {high}]"
    )
  return value
