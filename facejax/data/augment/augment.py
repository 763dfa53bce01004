"""All augmentations in one object, in the order of nature."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Annotated

import annotated_types
import numpy as np

from facejax.data.augment import colour, geometry, occlusion, quality
from facejax.runtime import ranges

_SHARE = annotated_types.Interval(ge=0, le=1)
# Of an image, so that something is left of it.
_PART = annotated_types.Interval(ge=0.01, le=1)
_DEGREES = annotated_types.Interval(ge=0, le=180)
_WHOLE = ("shift", "jpeg_quality", "cutout_count")


@dataclasses.dataclass(frozen=True)
class Augment:
  """A random change of an image; everything is off by default.

  Changes happen in the order in which they happen to photographs, which is that
  of the attributes: on the face, before the camera, in the camera, in the file;
  holes for the net come last. A change that is off takes no draws.

  Attributes:
    mask: The probability that a face mask covers nose, mouth and chin.
    sunglasses: The probability that sunglasses cover the eyes.
    flip: Mirror left and right in one case of two.
    shift: The largest move along each axis, in pixels. Border pixels fill the
      gap, unless zoom or rotate is on: then grey does.
    zoom: The largest enlargement or reduction, as a share: 0.1 draws a factor
      between 1 / 1.1 and 1.1.
    rotate: The largest rotation about the centre, in degrees.
    random_crop: The probability that all but a rectangle turns black.
    resized_crop: The probability that a rectangle is enlarged to the
      whole image.
    crop_area: The smallest share of the image that either crop keeps.
    brightness: The largest change of all pixels, as a share of 255.
    contrast: The largest change of the distance from mid-grey, as a share.
    jitter: The probability that all colours are changed by random factors.
    jitter_light: The largest change of the factors of brightness and contrast.
    jitter_saturation: The largest change of the factor of saturation.
    jitter_hue: The largest turn of the hue, in degrees.
    grey: The probability that all colour goes.
    blur: The probability of a Gaussian blur.
    blur_sigma: Its largest standard deviation, in pixels.
    motion_blur: The probability that the image is smeared along a line.
    motion_length: The longest line, as a share of the longer side.
    downscale: The probability that the image is shrunk and enlarged again.
    downscale_side: The smallest share of each side in between.
    jpeg: The probability that the image is written as JPEG and read again.
    jpeg_quality: The lowest quality; the highest is 95.
    cutout: The probability that rectangles turn grey or to noise.
    cutout_count: The largest number of these.
    cutout_size: Their longest side, as a share of the image's.
    erase: The probability that a rectangle turns grey; its sides measure
      between an eighth and a half of the image's.
  """

  mask: Annotated[float, _SHARE] = 0.0
  sunglasses: Annotated[float, _SHARE] = 0.0
  flip: bool = False
  shift: Annotated[int, annotated_types.Ge(0)] = 0
  zoom: Annotated[float, annotated_types.Ge(0)] = 0.0
  rotate: Annotated[float, _DEGREES] = 0.0
  random_crop: Annotated[float, _SHARE] = 0.0
  resized_crop: Annotated[float, _SHARE] = 0.0
  crop_area: Annotated[float, _PART] = 0.2
  brightness: Annotated[float, _SHARE] = 0.0
  contrast: Annotated[float, _SHARE] = 0.0
  jitter: Annotated[float, _SHARE] = 0.0
  jitter_light: Annotated[float, _SHARE] = 0.5
  jitter_saturation: Annotated[float, _SHARE] = 0.5
  jitter_hue: Annotated[float, _DEGREES] = 0.0
  grey: Annotated[float, _SHARE] = 0.0
  blur: Annotated[float, _SHARE] = 0.0
  blur_sigma: Annotated[
    float, annotated_types.Interval(ge=0, le=quality.WIDEST_BLUR)
  ] = 2.0
  motion_blur: Annotated[float, _SHARE] = 0.0
  motion_length: Annotated[float, _SHARE] = 0.1
  downscale: Annotated[float, _SHARE] = 0.0
  downscale_side: Annotated[float, _PART] = 0.2
  jpeg: Annotated[float, _SHARE] = 0.0
  jpeg_quality: Annotated[
    int, annotated_types.Interval(ge=1, le=quality.BEST_JPEG)
  ] = 30
  cutout: Annotated[float, _SHARE] = 0.0
  cutout_count: Annotated[int, annotated_types.Interval(ge=1, le=100)] = 3
  cutout_size: Annotated[float, _SHARE] = 0.4
  erase: Annotated[float, _SHARE] = 0.0

  def __post_init__(self):
    for name, bounds in ranges.of_fields(type(self)).items():
      value = getattr(self, name)
      if not bounds.holds(value):
        allowed = "at least 0" if bounds.high == math.inf else f"in {bounds}"
        raise ValueError(f"augment.{name} must be {allowed}, got {value}")
      if name in _WHOLE and value != int(value):
        raise ValueError(f"augment.{name} must be a whole number, got {value}")

  def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a changed image, or the image itself; never writes into it.

    Args:
      image: uint8 [height, width, 3].
      rng: Where the draws come from.
    """
    for change in self._changes:
      image = change(image, rng)
    return image

  @functools.cached_property
  def _changes(self) -> list[Callable[..., np.ndarray]]:
    """Those that are on, so that the others cost nothing an image."""
    warp = {"zoom": self.zoom, "rotate": self.rotate, "shift": self.shift}
    light = {"brightness": self.brightness, "contrast": self.contrast}
    jitter = {
      "light": self.jitter_light,
      "saturation": self.jitter_saturation,
      "hue": self.jitter_hue,
    }
    cutout = {"count": self.cutout_count, "size": self.cutout_size}
    area = {"area": self.crop_area}
    table = [
      _change(occlusion.random_mask, self.mask),
      _change(occlusion.random_sunglasses, self.sunglasses),
      _change(geometry.random_flip, 0.5 * self.flip),
      (any(warp.values()), geometry.random_warp, warp),
      _change(geometry.random_crop, self.random_crop, **area),
      _change(geometry.random_resized_crop, self.resized_crop, **area),
      (any(light.values()), colour.random_relight, light),
      _change(colour.random_jitter, self.jitter, **jitter),
      _change(colour.random_grey, self.grey),
      _change(quality.random_blur, self.blur, sigma=self.blur_sigma),
      _change(
        quality.random_motion_blur, self.motion_blur, length=self.motion_length
      ),
      _change(
        quality.random_downscale, self.downscale, side=self.downscale_side
      ),
      _change(quality.random_jpeg, self.jpeg, quality=self.jpeg_quality),
      _change(occlusion.random_cutout, self.cutout, **cutout),
      _change(occlusion.random_erase, self.erase),
    ]
    return [functools.partial(f, **amounts) for on, f, amounts in table if on]


def _change(function, probability, **amounts):
  return probability, function, {"probability": probability, **amounts}
