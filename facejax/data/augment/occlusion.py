"""What hides a part of the face: masks, glasses, holes in the image."""

import numpy as np
from PIL import ImageDraw

from facejax.data.augment import common


def random_mask(
  image: np.ndarray, rng: np.random.Generator, *, probability: float = 1.0
) -> np.ndarray:
  """Covers nose, mouth and chin, as a face mask does, in one random colour.

  Its place is that of a face aligned to the five-point template: eyes at 46 %
  of the height, mouth at 82 %. The shape is an ellipse or a mask with straps'
  corners.

  Args:
    image: uint8 [height, width, 3].
    rng: Where the draws come from.
    probability: How often.

  Returns:
    uint8 [height, width, 3]; the image itself when nothing is changed.
  """
  if not common.happens(rng, probability):
    return image
  height, width = image.shape[:2]
  left, right = rng.uniform((0.06, 0.78), (0.22, 0.94)) * width
  top, bottom = rng.uniform((0.52, 0.96), (0.66, 1.15)) * height
  colour = tuple(rng.integers(256, size=3).tolist())
  pillow = common.to_pillow(image)
  draw = ImageDraw.Draw(pillow)
  if rng.random() < 0.5:
    draw.ellipse((left, top, right, bottom), fill=colour)
  else:
    middle, inset = (left + right) / 2, 0.2 * (right - left)
    bridge, cheek = top - 0.06 * height, top + 0.65 * (bottom - top)
    draw.polygon(
      [
        (left, top), (middle, bridge), (right, top), (right, cheek),
        (right - inset, bottom), (left + inset, bottom), (left, cheek),
      ],
      fill=colour,
    )  # fmt: skip
  return np.asarray(pillow)


def random_sunglasses(
  image: np.ndarray, rng: np.random.Generator, *, probability: float = 1.0
) -> np.ndarray:
  """Covers the eyes with two dark lenses and a bar.

  Their place is that of a face aligned to the five-point template: eyes at 34 %
  and 66 % of the width and 46 % of the height.

  Args:
    image: uint8 [height, width, 3].
    rng: Where the draws come from.
    probability: How often.

  Returns:
    uint8 [height, width, 3]; the image itself when nothing is changed.
  """
  if not common.happens(rng, probability):
    return image
  height, width = image.shape[:2]
  x, y = rng.uniform((0.47, 0.43), (0.53, 0.50))
  apart, half_width, half_height = rng.uniform(
    (0.15, 0.11, 0.06), (0.19, 0.145, 0.12)
  )
  colour = tuple(rng.integers(80, size=3).tolist())
  pillow = common.to_pillow(image)
  draw = ImageDraw.Draw(pillow)
  shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
  for centre in (x - apart, x + apart):
    shape(
      (
        (centre - half_width) * width, (y - half_height) * height,
        (centre + half_width) * width, (y + half_height) * height,
      ),
      fill=colour,
    )  # fmt: skip
  bar = (0.1 * width, (y - 0.03) * height, 0.9 * width, y * height)
  draw.rectangle(bar, fill=colour)
  return np.asarray(pillow)


def random_cutout(
  image: np.ndarray,
  rng: np.random.Generator,
  *,
  probability: float = 1.0,
  count: int = 3,
  size: float = 0.4,
) -> np.ndarray:
  """Fills one rectangle or several with a grey, or with noise.

  Their centres lie anywhere in the image, so that the border may cut them.

  Args:
    image: uint8 [height, width, 3].
    rng: Where the draws come from.
    probability: How often.
    count: The largest number of rectangles, at least 1.
    size: The longest side, as a share of the image's, in [0, 1]; the shortest
      is a quarter of it.

  Returns:
    uint8 [height, width, 3]; the image itself when nothing is changed.

  References:
    T. DeVries, G. W. Taylor. Improved Regularization of Convolutional Neural
    Networks with Cutout. 2017.
    Z. Zhong et al. Random Erasing Data Augmentation. 2017 (noise).
  """
  if not size or not common.happens(rng, probability):
    return image
  shape = np.asarray(image.shape[:2])
  image = image.copy()
  for _ in range(rng.integers(1, count, endpoint=True)):
    sides = np.maximum(1, (shape * rng.uniform(size / 4, size, 2)).astype(int))
    corner = rng.integers(0, shape) - sides // 2
    top, left = corner.clip(0)
    bottom, right = corner + sides
    hole = image[top:bottom, left:right]
    noisy = rng.random() < 0.5
    hole[...] = rng.integers(256, size=hole.shape if noisy else None)
  return image


def random_erase(
  image: np.ndarray, rng: np.random.Generator, *, probability: float = 0.5
) -> np.ndarray:
  """Fills one rectangle with a grey; it lies inside the image.

  Args:
    image: uint8 [height, width, 3].
    rng: Where the draws come from.
    probability: How often.

  Returns:
    uint8 [height, width, 3]; the image itself when nothing is changed.
  """
  if not common.happens(rng, probability):
    return image
  size = np.asarray(image.shape[:2])
  sides = np.maximum(1, (size * rng.uniform(1 / 8, 1 / 2, 2)).astype(int))
  top, left = rng.integers(0, size - sides, endpoint=True)
  image = image.copy()
  image[top : top + sides[0], left : left + sides[1]] = rng.integers(256)
  return image
