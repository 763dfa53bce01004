"""What lenses, sensors and files do to an image: blur, few pixels, JPEG."""

import math

import numpy as np
import simplejpeg
from PIL import Image

from facejax.data.augment import common

WIDEST_BLUR = 16  # pixels
BEST_JPEG = 95  # above, files grow and nothing is seen
_FILTERS = (
  Image.Resampling.NEAREST,
  Image.Resampling.BILINEAR,
  Image.Resampling.BOX,
  Image.Resampling.BICUBIC,
  Image.Resampling.LANCZOS,
)
_UNIT = 256  # of fixed-point weights: 255 * 256 is the most that uint16 holds
_NARROW = 0.2  # pixels: a Gaussian below this leaves every value as it is


def random_blur(
  image: np.ndarray,
  rng: np.random.Generator,
  *,
  probability: float = 1.0,
  sigma: float = 2.0,
) -> np.ndarray:
  """Blurs with a Gaussian of random width; the border pixels go on outside.

  Args:
    image: uint8 [height, width, 3].
    rng: Where the draws come from.
    probability: How often.
    sigma: The largest standard deviation, in pixels, at most 16.

  Returns:
    uint8 [height, width, 3]; the image itself when nothing is changed.
  """
  if not sigma or not common.happens(rng, probability):
    return image
  width = rng.uniform(0.0, sigma)
  if width < _NARROW:
    return image
  weights = _gaussian(width)
  return _smooth(_smooth(image, weights, 0), weights, 1)


def _gaussian(sigma: float) -> list[int]:
  """Weights of the pixel itself, of its neighbours, … in units of 1 / 256."""
  away = np.arange(math.ceil(3 * sigma) + 1)
  weights = np.exp(-0.5 * (away / sigma) ** 2)
  weights[0] /= 2
  # Rounded sums instead of summands: each half has exactly 128 units.
  sums = np.rint(np.cumsum(weights) * (_UNIT // 2 / weights.sum())).astype(int)
  near = np.diff(sums, prepend=0)
  near[0] *= 2
  return near[: 1 + np.flatnonzero(near)[-1]].tolist()


def _smooth(image: np.ndarray, weights: list[int], axis: int) -> np.ndarray:
  """Convolves one axis with symmetric weights, to the nearest integer.

  Integers of 16 bits make it three times as fast as Pillow's filter.
  """
  size, reach = image.shape[axis], len(weights) - 1
  inside = np.arange(-reach, size + reach).clip(0, size - 1)
  padded = image.take(inside, axis=axis).astype(np.uint16)
  lanes = np.moveaxis(padded, axis, 0)
  total = lanes[reach : reach + size] * np.uint16(weights[0])
  total += _UNIT // 2
  for away, weight in enumerate(weights[1:], 1):
    left, right = reach - away, reach + away
    pair = lanes[left : left + size] + lanes[right : right + size]
    pair *= np.uint16(weight)
    total += pair
  total >>= 8
  return np.moveaxis(total, 0, axis).astype(np.uint8)


def random_motion_blur(
  image: np.ndarray,
  rng: np.random.Generator,
  *,
  probability: float = 1.0,
  length: float = 0.1,
) -> np.ndarray:
  """Smears the image along a line of random direction and length.

  Args:
    image: uint8 [height, width, 3].
    rng: Where the draws come from.
    probability: How often.
    length: The longest line, as a share of the longer side, in [0, 1].

  Returns:
    uint8 [height, width, 3]; the image itself when nothing is changed.
  """
  if not length or not common.happens(rng, probability):
    return image
  share, turn = rng.uniform(0.0, 1.0, size=2)
  height, width = image.shape[:2]
  cos, sin = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
  steep = max(abs(cos), abs(sin))
  # One tap for every pixel along the axis that the line runs nearer to.
  taps = 1 + round(share * length * max(height, width) * steep)
  taps = min(_UNIT, taps)
  line = np.arange(taps) - taps // 2
  down = np.rint(line * (sin / steep)).astype(int)
  right = np.rint(line * (cos / steep)).astype(int)
  reach_down, reach_right = abs(down).max(), abs(right).max()
  rows = np.arange(-reach_down, height + reach_down).clip(0, height - 1)
  columns = np.arange(-reach_right, width + reach_right).clip(0, width - 1)
  padded = image.take(rows, axis=0).take(columns, axis=1)
  total = np.full(image.shape, taps // 2, np.uint16)
  for i, j in zip(down + reach_down, right + reach_right, strict=True):
    total += padded[i : i + height, j : j + width]
  total //= np.uint16(taps)
  return total.astype(np.uint8)


def random_downscale(
  image: np.ndarray,
  rng: np.random.Generator,
  *,
  probability: float = 1.0,
  side: float = 0.2,
) -> np.ndarray:
  """Shrinks the image and enlarges it again: few pixels, as from far away.

  Both ways take a filter by chance: nearest, bilinear, box, bicubic or Lanczos.
  All but the nearest smooth before they shrink, which those of OpenCV in the
  code of AdaFace do not.

  Args:
    image: uint8 [height, width, 3].
    rng: Where the draws come from.
    probability: How often.
    side: The smallest share of each side, in (0, 1].

  Returns:
    uint8 [height, width, 3]; the image itself when nothing is changed.

  References:
    M. Kim, A. K. Jain, X. Liu. AdaFace: Quality Adaptive Margin for Face
    Recognition. 2022.
  """
  if side >= 1 or not common.happens(rng, probability):
    return image
  share = rng.uniform(side, 1.0)
  shrink, enlarge = rng.integers(len(_FILTERS), size=2)
  height, width = image.shape[:2]
  small = max(1, round(share * width)), max(1, round(share * height))
  pillow = common.to_pillow(image).resize(small, _FILTERS[shrink])
  return np.asarray(pillow.resize((width, height), _FILTERS[enlarge]))


def random_jpeg(
  image: np.ndarray,
  rng: np.random.Generator,
  *,
  probability: float = 1.0,
  quality: int = 30,
) -> np.ndarray:
  """Writes the image as JPEG of random quality, up to 95, and reads it again.

  Args:
    image: uint8 [height, width, 3].
    rng: Where the draws come from.
    probability: How often.
    quality: The lowest quality, in [1, 95].

  Returns:
    uint8 [height, width, 3]; the image itself when nothing is changed.
  """
  if not common.happens(rng, probability):
    return image
  data = simplejpeg.encode_jpeg(
    np.ascontiguousarray(image),
    quality=int(rng.integers(quality, BEST_JPEG, endpoint=True)),
    colorspace="RGB",
    colorsubsampling="420",
  )
  return simplejpeg.decode_jpeg(data, colorspace="RGB")
