"""Where the face lies in the image: mirrored, moved, turned or cut."""

import math

import numpy as np
from PIL import Image

from facejax.data.augment import common

_LOG_RATIO = math.log(4 / 3)  # the most, of the width to the height of a crop
_TRIES = 10


def random_flip(
  image: np.ndarray, rng: np.random.Generator, *, probability: float = 0.5
) -> np.ndarray:
  """Mirrors left and right.

  Args:
    image: uint8 [height, width, 3].
    rng: Where the draw comes from.
    probability: How often.

  Returns:
    uint8 [height, width, 3]; the image itself when nothing is changed.
  """
  if not common.happens(rng, probability):
    return image
  # Channel by channel: four times as fast as to copy image[:, ::-1].
  mirrored = np.empty_like(image)
  for channel in range(image.shape[2]):
    mirrored[..., channel] = image[:, ::-1, channel]
  return mirrored


def random_shift(
  image: np.ndarray, rng: np.random.Generator, *, pixels: int
) -> np.ndarray:
  """Moves the image by whole pixels; the border pixels fill the gap.

  Args:
    image: uint8 [height, width, 3].
    rng: Where the draws come from.
    pixels: The largest move along each axis, in pixels.

  Returns:
    uint8 [height, width, 3]; the image itself if `pixels` is 0.
  """
  if not pixels:
    return image
  down, right = rng.integers(-pixels, pixels, size=2, endpoint=True)
  height, width = image.shape[:2]
  rows = np.clip(np.arange(height) - down, 0, height - 1)
  columns = np.clip(np.arange(width) - right, 0, width - 1)
  return image.take(rows, axis=0).take(columns, axis=1)


def random_warp(
  image: np.ndarray,
  rng: np.random.Generator,
  *,
  zoom: float = 0.0,
  rotate: float = 0.0,
  shift: int = 0,
) -> np.ndarray:
  """Zooms, rotates and moves in one go, so that pixels are blurred once.

  Args:
    image: uint8 [height, width, 3].
    rng: Where the draws come from.
    zoom: The factor lies between 1 / (1 + zoom) and 1 + zoom.
    rotate: The largest rotation about the centre, in degrees.
    shift: The largest move along each axis, in pixels.

  Returns:
    uint8 [height, width, 3], grey where there was no image. Without zoom and
    rotation the move is by whole pixels, and border pixels fill the gap.
  """
  if not (zoom or rotate):
    return random_shift(image, rng, pixels=shift)
  u, v, right, down = rng.uniform(-1.0, 1.0, size=4)
  factor = math.exp(u * math.log1p(zoom))
  angle = math.radians(v * rotate)
  cos, sin = math.cos(angle) / factor, math.sin(angle) / factor
  x, y = image.shape[1] / 2, image.shape[0] / 2
  # Pillow wants the map from the result's pixels (q) to the image's (p):
  # p = centre + R (q - centre - move) / factor.
  a, b = x + right * shift, y + down * shift
  matrix = (cos, sin, x - cos * a - sin * b, -sin, cos, y + sin * a - cos * b)
  warped = common.to_pillow(image).transform(
    (image.shape[1], image.shape[0]),
    Image.Transform.AFFINE,
    matrix,
    resample=Image.Resampling.BILINEAR,
    fillcolor=common.GREY,
  )
  return np.asarray(warped)


def random_crop(
  image: np.ndarray,
  rng: np.random.Generator,
  *,
  probability: float = 1.0,
  area: float = 0.2,
) -> np.ndarray:
  """Turns all black but a rectangle, which stays where it is.

  Args:
    image: uint8 [height, width, 3].
    rng: Where the draws come from.
    probability: How often.
    area: The smallest share of the image that is kept, in (0, 1].

  Returns:
    uint8 [height, width, 3]; the image itself when nothing is changed.

  References:
    M. Kim, A. K. Jain, X. Liu. AdaFace: Quality Adaptive Margin for Face
    Recognition. 2022. Its code keeps the crop in place.
  """
  if area >= 1 or not common.happens(rng, probability):
    return image
  top, left, bottom, right = _window(image, rng, area)
  canvas = np.zeros_like(image, order="C")
  canvas[top:bottom, left:right] = image[top:bottom, left:right]
  return canvas


def random_resized_crop(
  image: np.ndarray,
  rng: np.random.Generator,
  *,
  probability: float = 1.0,
  area: float = 0.2,
) -> np.ndarray:
  """Cuts out a rectangle and enlarges it to the whole image.

  Args:
    image: uint8 [height, width, 3].
    rng: Where the draws come from.
    probability: How often.
    area: The smallest share of the image that is kept, in (0, 1].

  Returns:
    uint8 [height, width, 3]; the image itself when nothing is changed.

  References:
    C. Szegedy et al. Going Deeper with Convolutions. 2015.
  """
  if area >= 1 or not common.happens(rng, probability):
    return image
  top, left, bottom, right = _window(image, rng, area)
  resized = common.to_pillow(image).resize(
    (image.shape[1], image.shape[0]),
    Image.Resampling.BILINEAR,
    box=(left, top, right, bottom),
  )
  return np.asarray(resized)


def _window(
  image: np.ndarray, rng: np.random.Generator, area: float
) -> tuple[int, int, int, int]:
  """Draws a rectangle: top, left, bottom, right.

  The first of ten draws of area and ratio that fits, as torchvision has it; the
  whole image if none does.
  """
  height, width = image.shape[:2]
  areas = height * width * rng.uniform(area, 1.0, _TRIES)
  ratios = np.exp(rng.uniform(-_LOG_RATIO, _LOG_RATIO, _TRIES))
  rows = np.rint(np.sqrt(areas / ratios)).astype(int)
  columns = np.rint(np.sqrt(areas * ratios)).astype(int)
  fits = (rows <= height) & (columns <= width) & (rows > 0) & (columns > 0)
  first = int(np.argmax(fits))
  h, w = (rows[first], columns[first]) if fits[first] else (height, width)
  top, left = rng.integers(0, (height - h, width - w), endpoint=True)
  return int(top), int(left), int(top + h), int(left + w)
