"""How good a picture of a face is, from its points and its pixels alone.

Four numbers from 0 to 1, of which the first is the product of the others. They
say nothing of what a net sees; the norm of an embedding may.
"""

from typing import NamedTuple

import numpy as np

from facejax.data.aligning import landmarks as geometry

_BLUR = 9


class Quality(NamedTuple):
  """See `of_face`."""

  quality: float
  size: float
  frontal: float
  sharpness: float


def of_face(
  aligned: np.ndarray, points: np.ndarray, kind: geometry.Template = "arcface"
) -> Quality:
  """Judges a face.

  Args:
    aligned: uint8 RGB [height, width, 3], as `landmarks.align` gives it.
    points: [5, 2], the points in the photo.
    kind: The template that it was aligned to.

  Returns:
    size: Pixels of the photo for each of the aligned face, at most 1: below,
      the face had to be enlarged.
    frontal: 1 where the nose lies midway between the eyes, 0 where it is as far
      to the side as one of them.
    sharpness: see `sharpness`.
    quality: the product.
  """
  wanted = geometry.template(aligned.shape[:2], kind)
  matrix = geometry.similarity_transform(points, wanted)
  size = min(1.0, 1.0 / float(np.hypot(*matrix[0, :2])))
  front, sharp = frontal(points), sharpness(aligned)
  return Quality(size * front * sharp, size, front, sharp)


def frontal(points: np.ndarray) -> float:
  """How midway between the eyes the nose lies, measured along their line.

  >>> frontal(np.asarray([[0, 0], [4, 0], [3, 2], [1, 4], [3, 4]]))
  0.5
  """
  left, right, nose = np.asarray(points, float)[:3]
  along = right - left
  square = float(along @ along)
  if not square:
    return 0.0
  place = float((nose - (left + right) / 2) @ along) / square
  return max(0.0, 1.0 - 2.0 * abs(place))


def sharpness(image: np.ndarray) -> float:
  """How much of the contrast between neighbours a blur would take.

  A sharp picture loses most of it, a blurred one little. Of both directions the
  worse one counts, so that shake in one shows.

  Args:
    image: uint8 RGB [height, width, 3].

  References:
    Crete, Dolmiere, Ladret, Nicolas. The Blur Effect: Perception and Estimation
    with a New No-Reference Perceptual Blur Metric. 2007.
  """
  grey = image.astype(float).mean(2)
  return min(_lost(grey), _lost(grey.T))


def _lost(grey: np.ndarray) -> float:
  """The share of the steps along the rows that a blur along them takes."""
  framed = np.pad(grey, ((0, 0), (_BLUR // 2, _BLUR // 2)), mode="edge")
  windows = np.lib.stride_tricks.sliding_window_view(framed, _BLUR, axis=1)
  steps = np.abs(np.diff(grey))
  left = np.abs(np.diff(windows.mean(-1)))
  total = float(steps.sum())
  return float(np.maximum(steps - left, 0.0).sum()) / total if total else 0.0
