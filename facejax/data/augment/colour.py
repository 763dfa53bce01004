"""Light and colour of the image; nothing moves."""

import math

import numpy as np

from facejax.data.augment import common

_MIDDLE = 127.5  # of the range of a pixel
# Luma, and two axes of chroma (YIQ); the rows of chroma sum to 0, so that grey
# stays grey.
_TO_YIQ = np.array(
  [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
)
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


def random_relight(
  image: np.ndarray,
  rng: np.random.Generator,
  *,
  brightness: float = 0.0,
  contrast: float = 0.0,
) -> np.ndarray:
  """Maps every value x to 127.5 + (1 + c) (x - 127.5) + 255 b.

  Args:
    image: uint8 [height, width, 3].
    rng: Where the draws of b and c come from, uniform.
    brightness: The largest |b|.
    contrast: The largest |c|, at most 1.

  Returns:
    uint8 [height, width, 3], cut to [0, 255]; the image itself if both are 0.
  """
  if not (brightness or contrast):
    return image
  b, c = rng.uniform(-1.0, 1.0, size=2) * (brightness, contrast)
  levels = np.arange(256) - _MIDDLE
  table = np.clip(np.rint(_MIDDLE + (1.0 + c) * levels + 255.0 * b), 0, 255)
  return table.astype(np.uint8).take(image)


def random_jitter(
  image: np.ndarray,
  rng: np.random.Generator,
  *,
  probability: float = 1.0,
  light: float = 0.5,
  saturation: float = 0.5,
  hue: float = 0.0,
) -> np.ndarray:
  """Changes brightness, contrast, saturation and hue by random factors.

  With luma y(x), its mean m over the image, and M the matrix that keeps luma,
  scales chroma by s and turns it by the angle h:

    x -> b (c M x + (1 - c) m)

  The usual jitter does one after the other in random order and cuts the values
  to [0, 255] each time; were it not for the cuts, the order would not matter,
  as luma and its mean stay what they are. Here it is one map, cut once.

  Args:
    image: uint8 [height, width, 3].
    rng: Where the draws come from.
    probability: How often.
    light: b and c lie between 1 - light and 1 + light, light in [0, 1].
    saturation: s lies between 1 - saturation and 1 + saturation, in [0, 1].
    hue: The largest |h|, in degrees.

  Returns:
    uint8 [height, width, 3]; the image itself when nothing is changed.

  References:
    M. Kim, A. K. Jain, X. Liu. AdaFace: Quality Adaptive Margin for Face
    Recognition. 2022. Its code has light = saturation = 0.5, hue = 0.
  """
  if not (light or saturation or hue) or not common.happens(rng, probability):
    return image
  b, c, s, h = rng.uniform(-1.0, 1.0, size=4) * (light, light, saturation, hue)
  cos, sin = math.cos(math.radians(h)), math.sin(math.radians(h))
  chroma = np.eye(3)
  chroma[1:, 1:] = (1 + s) * np.array([[cos, -sin], [sin, cos]])
  pillow = common.to_pillow(image)
  mean = np.asarray(pillow.convert("L")).mean() if c else 0.0
  affine = np.empty((3, 4))
  affine[:, :3] = (1 + b) * (1 + c) * (_FROM_YIQ @ chroma @ _TO_YIQ)
  affine[:, 3] = -(1 + b) * c * mean
  return np.asarray(pillow.convert("RGB", tuple(affine.ravel().tolist())))


def random_grey(
  image: np.ndarray, rng: np.random.Generator, *, probability: float = 0.1
) -> np.ndarray:
  """Removes all colour: three channels of luma.

  Args:
    image: uint8 [height, width, 3].
    rng: Where the draw comes from.
    probability: How often.

  Returns:
    uint8 [height, width, 3]; the image itself when nothing is changed.
  """
  if not common.happens(rng, probability):
    return image
  return np.asarray(common.to_pillow(image).convert("L").convert("RGB"))
