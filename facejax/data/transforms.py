"""Augmentation of single images."""

import dataclasses
import math

import numpy as np
from PIL import Image

_MIDDLE = 127.5  # of the range of a pixel
_GREY = (127, 127, 127)


def random_flip(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Mirrors left and right in one case of two.

  Args:
    image: [height, width, 3].
    rng: Where the draw comes from.

  Returns:
    The image, or a mirrored view of it.
  """
  return image[:, ::-1] if rng.random() < 0.5 else image


def random_shift(
  image: np.ndarray, rng: np.random.Generator, *, pixels: int
) -> np.ndarray:
  """Moves the image by whole pixels; the border pixels fill the gap.

  Args:
    image: [height, width, 3].
    rng: Where the draw comes from.
    pixels: The largest move along each axis, in pixels.

  Returns:
    [height, width, 3].
  """
  down, right = rng.integers(-pixels, pixels, size=2, endpoint=True)
  height, width = image.shape[:2]
  rows = np.clip(np.arange(height) - down, 0, height - 1)
  columns = np.clip(np.arange(width) - right, 0, width - 1)
  return image.take(rows, axis=0).take(columns, axis=1)


@dataclasses.dataclass(frozen=True)
class Augment:
  """A random change of an image; everything is off by default.

  Attributes:
    flip: Mirror left and right in one case of two.
    shift: The largest move along each axis, in pixels. Border pixels fill the
      gap, unless zoom or rotate is on: then grey does.
    zoom: The largest enlargement or reduction, as a share: 0.1 draws a factor
      between 1 / 1.1 and 1.1.
    rotate: The largest rotation about the centre, in degrees.
    brightness: The largest change of all pixels, as a share of 255.
    contrast: The largest change of the distance from mid-grey, as a share.
    erase: The probability that a rectangle turns grey; its sides measure
      between an eighth and a half of the image's.
  """

  flip: bool = False
  shift: int = 0
  zoom: float = 0.0
  rotate: float = 0.0
  brightness: float = 0.0
  contrast: float = 0.0
  erase: float = 0.0

  def __post_init__(self):
    limits = {
      "shift": math.inf,
      "zoom": math.inf,
      "rotate": 180.0,
      "brightness": 1.0,
      "contrast": 1.0,
      "erase": 1.0,
    }
    for field, limit in limits.items():
      value = getattr(self, field)
      if not 0 <= value <= limit or not math.isfinite(value):
        allowed = "at least 0" if limit == math.inf else f"in [0, {limit:g}]"
        raise ValueError(f"augment.{field} must be {allowed}, got {value}")
    if self.shift != int(self.shift):
      raise ValueError(f"augment.shift is in whole pixels, got {self.shift}")

  def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a changed image, or the image itself; never writes into it.

    Args:
      image: uint8 [height, width, 3].
      rng: Where the draws come from.
    """
    if self.flip:
      image = random_flip(image, rng)
    if self.zoom or self.rotate:
      image = _warp(image, rng, self.zoom, self.rotate, self.shift)
    elif self.shift:
      image = random_shift(image, rng, pixels=self.shift)
    if self.brightness or self.contrast:
      image = _relight(image, rng, self.brightness, self.contrast)
    if self.erase and rng.random() < self.erase:
      image = _erase(image, rng)
    return image


def _warp(
  image: np.ndarray,
  rng: np.random.Generator,
  zoom: float,
  rotate: float,
  shift: int,
) -> np.ndarray:
  """Zooms, rotates and moves in one go, so that pixels are blurred once."""
  u, v, right, down = rng.uniform(-1.0, 1.0, size=4)
  factor = math.exp(u * math.log1p(zoom))
  angle = math.radians(v * rotate)
  cos, sin = math.cos(angle) / factor, math.sin(angle) / factor
  x, y = image.shape[1] / 2, image.shape[0] / 2
  # Pillow wants the map from the result's pixels (q) to the image's (p):
  # p = centre + R (q - centre - move) / factor.
  a, b = x + right * shift, y + down * shift
  matrix = (cos, sin, x - cos * a - sin * b, -sin, cos, y + sin * a - cos * b)
  warped = Image.fromarray(np.ascontiguousarray(image)).transform(
    (image.shape[1], image.shape[0]),
    Image.Transform.AFFINE,
    matrix,
    resample=Image.Resampling.BILINEAR,
    fillcolor=_GREY,
  )
  return np.asarray(warped)


def _relight(
  image: np.ndarray,
  rng: np.random.Generator,
  brightness: float,
  contrast: float,
) -> np.ndarray:
  """Maps every pixel x to 127.5 + c (x - 127.5) + 255 b, cut to [0, 255]."""
  b, c = rng.uniform(-1.0, 1.0, size=2) * (brightness, contrast)
  levels = np.arange(256) - _MIDDLE
  table = np.clip(np.rint(_MIDDLE + (1.0 + c) * levels + 255.0 * b), 0, 255)
  return table.astype(np.uint8)[image]


def _erase(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  size = np.asarray(image.shape[:2])
  sides = np.maximum(1, (size * rng.uniform(1 / 8, 1 / 2, 2)).astype(int))
  top, left = rng.integers(0, size - sides, endpoint=True)
  image = image.copy()
  image[top : top + sides[0], left : left + sides[1]] = rng.integers(256)
  return image
