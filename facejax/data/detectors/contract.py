"""What a detector gives: boxes, scores and points of all faces of an image."""

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import numpy as np


@dataclasses.dataclass(frozen=True)
class Faces:
  """The faces of one image, in any order.

  Coordinates are (x, y) in pixels, from the centre of the upper left pixel, so
  that an image of 250 x 250 reaches from -0.5 to 249.5.

  Attributes:
    boxes: float64 [n, 4], left, top, right and bottom edge.
    scores: float64 [n], how sure the detector is, 0 to 1; NaN if it says
      nothing.
    points: float64 [n, 5, 2], eye, eye, nose, corner, corner of the mouth, each
      time first that left in the picture.
  """

  boxes: np.ndarray
  scores: np.ndarray
  points: np.ndarray

  def __len__(self) -> int:
    return len(self.scores)

  def take(self, places: np.ndarray) -> "Faces":
    """Some of the faces, those at `places`."""
    return Faces(self.boxes[places], self.scores[places], self.points[places])

  def enlarged(self, factor: float) -> "Faces":
    """The same faces in an image whose pixels are `factor` times as many."""
    return Faces(
      enlarged(self.boxes, factor), self.scores, enlarged(self.points, factor)
    )


Detector: TypeAlias = Callable[[np.ndarray], Faces]


def enlarged(places: np.ndarray, factor: float) -> np.ndarray:
  """Coordinates in an image of `factor` times as many pixels a side.

  >>> enlarged(np.asarray([-0.5, 0.0]), 2).tolist()
  [-0.5, 0.5]
  """
  return (places + 0.5) * factor - 0.5


def nothing() -> Faces:
  """No face."""
  return Faces(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))


def checked(found: Faces | np.ndarray) -> Faces:
  """Returns what a detector gave as `Faces` that can be worked with.

  Args:
    found: Faces, or their points alone, float [n, 5, 2]; the box then is that
      around the points, and there is no score.

  Returns:
    Those whose points and boxes are finite and whose boxes have a size.

  Raises:
    ValueError: The arrays are of other shapes.
  """
  faces = found if isinstance(found, Faces) else _of_points(found)
  faces = Faces(
    *(np.asarray(a, float) for a in (faces.boxes, faces.scores, faces.points))
  )
  count = len(faces.points)
  shapes = [a.shape for a in (faces.boxes, faces.scores, faces.points)]
  if shapes != [(count, 4), (count,), (count, 5, 2)]:
    raise ValueError(
      "a detector must return boxes [n, 4], scores [n] and points [n, 5, 2] of"
      f" n faces, got {', '.join(map(str, shapes))}"
    )
  numbers = np.concatenate([faces.points.reshape(-1, 10), faces.boxes], 1)
  sized = faces.boxes[:, 2:] > faces.boxes[:, :2]
  good = np.isfinite(numbers).all(axis=1) & sized.all(axis=1)
  return faces.take(np.flatnonzero(good))


def _of_points(points: np.ndarray) -> Faces:
  points = np.asarray(points, float)
  if points.size == 0:
    return nothing()
  if points.ndim != 3 or points.shape[1:] != (5, 2):
    raise ValueError(
      "a detector must return the landmarks of n faces as an array [n, 5, 2],"
      f" got {points.shape}"
    )
  boxes = np.concatenate([points.min(1), points.max(1)], 1)
  return Faces(boxes, np.full(len(points), np.nan), points)
