"""Arithmetic of boxes: sizes of a pyramid, suppression, regression, squares.

Boxes are float [n, 4]: left, top, right and bottom edge, in pixels from the
upper left corner of the image, so that an image of 250 x 250 is 0, 0, 250, 250.
"""

import math

import numpy as np

# Of two neighbouring sizes of a pyramid, near 1 / sqrt(2): half the pixels.
_STEP = 0.709


def pyramid(
  height: int, width: int, *, window: int, smallest: float
) -> list[tuple[int, int]]:
  """The sizes at which a net of a fixed window looks for faces of all sizes.

  The first one brings the smallest faces to the window, the last one is the
  smallest that holds it.

  Args:
    height: Of the image.
    width: Of the image.
    window: Side of the square that the net sees at a time.
    smallest: Side of the smallest faces to be found, in pixels of the image.

  Returns:
    (height, width) of each; none if the image is smaller than `smallest`.

  >>> pyramid(40, 80, window=12, smallest=20)
  [(24, 48), (18, 35), (13, 25)]
  """
  sizes = []
  scale = window / smallest
  while min(height, width) * scale >= window:
    sizes.append((math.ceil(height * scale), math.ceil(width * scale)))
    scale *= _STEP
  return sizes


def suppress(
  boxes: np.ndarray,
  scores: np.ndarray,
  *,
  most: float,
  within: bool = False,
) -> np.ndarray:
  """Of boxes that overlap, keeps that of the highest score.

  Args:
    boxes: [n, 4].
    scores: [n]; of equal ones the first box goes first.
    most: The largest overlap that two boxes may have which are both kept: the
      area that they share, as a share of that which they cover together.
    within: Takes the share of the smaller one's area instead, so that a box
      inside of another one goes.

  Returns:
    int [m], the places of those kept, from the highest score down.
  """
  sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
  areas = sides[:, 0] * sides[:, 1]
  left = np.argsort(-scores, kind="stable")
  kept = []
  while len(left):
    best, left = left[0], left[1:]
    kept.append(best)
    upper = np.maximum(boxes[best, :2], boxes[left, :2])
    lower = np.minimum(boxes[best, 2:], boxes[left, 2:])
    shared = np.maximum(lower - upper, 0.0).prod(1)
    if within:
      of = np.minimum(areas[best], areas[left])
    else:
      of = areas[best] + areas[left] - shared
    # As a product: boxes of no area overlap nothing, and divide nothing.
    left = left[shared <= most * of]
  return np.asarray(kept, int)


def regress(boxes: np.ndarray, shifts: np.ndarray) -> np.ndarray:
  """Moves each edge by a share of the box's width or height.

  Args:
    boxes: [n, 4].
    shifts: [n, 4], of left, top, right and bottom edge.
  """
  sides = boxes[:, 2:] - boxes[:, :2]
  return boxes + shifts * np.concatenate([sides, sides], 1)


def square(boxes: np.ndarray) -> np.ndarray:
  """Squares of the same middles, as large as the longer side."""
  middles = (boxes[:, :2] + boxes[:, 2:]) / 2
  half = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True) / 2
  return np.concatenate([middles - half, middles + half], 1)


def usable(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
  """Which boxes can be cut out of an image.

  Those of at least a pixel that reach into it, and that are no more than four
  times as large: a net that errs must not ask for gigabytes.

  Returns:
    bool [n].
  """
  sides = boxes[:, 2:] - boxes[:, :2]
  inside = (boxes[:, 2:] > 0) & (boxes[:, :2] < (width, height))
  sized = (sides >= 1) & (sides <= 4 * max(height, width))
  # What is no number passes no comparison.
  return np.all(inside & sized, axis=1)
