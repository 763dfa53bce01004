"""From the bytes of one image to its pixels, format by format.

The size that the header claims is checked before a single pixel is decoded: a
file of one kilobyte can claim 65000 x 65000 pixels.
"""

import functools
import importlib
import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, JpegImagePlugin

from facejax.data import oddities, orientation

MAX_PIXELS = 4096 * 4096
# Of JPEGs, which can be decoded at a half, a quarter or an eighth; of HEIC,
# which is decoded first and shrunk then.
MAX_JPEG = 16384 * 16384
MAX_HEIC = 8192 * 8192
_FACTORS = (1, 2, 4, 8)
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")
# Kinds of `oddities`.
ODD_JPEG = "is a JPEG that libjpeg warns of"
ODD_DEPTH = "has 16 bits of grey, of which all from 255 on is white"
# Of libjpeg's warnings, those that pixels are missing or were made up.
_MISSING = re.compile("premature|huffman|instead of RST", re.IGNORECASE)


class BadImageError(ValueError):
  """An image that cannot be read; the message names it and says why."""


@functools.cache
def reads_heic() -> bool:
  """Whether HEIC can be read here; makes it known to Pillow if so."""
  try:
    heif: Any = importlib.import_module("pillow_heif")
  except ImportError:
    return False
  heif.register_heif_opener()
  return True


def decode(
  data: bytes,
  form: str,
  exif: orientation.Exif,
  name: str | Callable[[], str],
) -> tuple[np.ndarray, int]:
  """Decodes an image whose format is known.

  Args:
    data: The file.
    form: Pillow's name of its format.
    exif: Whether it is turned as its EXIF says.
    name: What messages call it.

  Returns:
    uint8 RGB [height, width, 3], and the reduction: 1, or how many pixels of
    the file lie side by side in one of these.

  Raises:
    BadImageError: It is too large, or its pixels are of an unknown kind.
    Exception: Any other, on damaged bytes.
  """
  if form == "JPEG":
    return _with_libjpeg(data, exif, name)
  return _with_pillow(data, form, exif, name)


def _with_libjpeg(
  data: bytes, exif: orientation.Exif, name: str | Callable[[], str]
) -> tuple[np.ndarray, int]:
  try:
    height, width, space, _ = simplejpeg.decode_jpeg_header(data, strict=False)
  except KeyError:  # it found no frame
    raise BadImageError(
      "is a damaged JPEG image: its head is cut off"
    ) from None
  factor = _reduction(int(width), int(height), len(data))
  if space == "CMYK":  # of which libjpeg makes no RGB
    return _with_pillow(data, "JPEG", exif, name)
  try:
    pixels = simplejpeg.decode_jpeg(
      data,
      colorspace="RGB",
      # The least of libjpeg's sizes that is as large.
      min_height=-(-int(height) // factor),
      min_width=-(-int(width) // factor),
    )
  except ValueError as error:
    # It refuses all that libjpeg warns of. Pillow passes over warnings, also
    # over those that a part of the picture is missing.
    if _MISSING.search(str(error)):
      raise
    pixels, factor = _with_pillow(data, "JPEG", exif, name)
    oddities.note(ODD_JPEG, name, str(error))
    return pixels, factor
  if exif == "ignore":
    return pixels, factor
  return orientation.upright(pixels, orientation.of_jpeg(data)), factor


def _with_pillow(
  data: bytes, form: str, exif: orientation.Exif, name: str | Callable[[], str]
) -> tuple[np.ndarray, int]:
  with _opened(data, form) as opened:
    factor = _factor(opened, form, len(data))
    if opened.mode not in (*_MODES, *_DEEP):
      raise BadImageError(
        f"has pixels of mode {opened.mode}; convert it to 8 bits a channel"
      )
    opened.load()
    image = orientation.turned(opened) if exif == "apply" else opened
    if form == "HEIF" and factor > 1:
      image = image.reduce(factor)
    if "transparency" in image.info:
      image = image.convert("RGBA")
    pixels = np.asarray(image.convert("RGB"))
    clipped = opened.mode in _DEEP and np.max(opened.getextrema()) > 255
  if clipped:
    oddities.note(ODD_DEPTH, name)
  return pixels, factor


def _opened(data: bytes, form: str) -> Image.Image:
  if form == "JPEG":
    # Image.open would refuse what is large; here it is decoded smaller.
    return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
  return Image.open(io.BytesIO(data), formats=[form])


def _factor(opened: Image.Image, form: str, size: int) -> int:
  """Checks the size of a picture and says how far it is to be reduced."""
  width, height = opened.size
  if form == "JPEG":
    factor = _reduction(width, height, size)
    opened.draft(opened.mode, (width // factor, height // factor))
    return factor
  _check_size(width, height, MAX_HEIC if form == "HEIF" else MAX_PIXELS)
  return _enough(width, height)


def _reduction(width: int, height: int, size: int) -> int:
  """How far a JPEG of so many bytes must be reduced."""
  factor = _enough(width, height)
  if factor == 1:
    return factor
  _check_size(width, height, MAX_JPEG)
  # Each 8 x 8 block takes a bit at least, for the difference of its mean.
  if width * height > 8 * 64 * size:
    raise BadImageError(
      f"claims {width} x {height} pixels, which {size} bytes cannot hold"
    )
  return factor


def _enough(width: int, height: int) -> int:
  """The least factor that leaves a picture few enough pixels."""
  for factor in _FACTORS:
    if -(-width // factor) * -(-height // factor) <= MAX_PIXELS:
      return factor
  return _FACTORS[-1]


def _check_size(width: int, height: int, most: int) -> None:
  if width * height > most:
    side = round(most**0.5)
    raise BadImageError(
      f"claims {width} x {height} pixels, more than {side} x {side}; shrink it"
    )
