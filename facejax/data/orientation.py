"""The EXIF orientation: which way up a camera was held.

Cameras and telephones store what the sensor saw, and beside it how to turn it.
"""

import io
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin

# Turn pictures as their EXIF says, or leave them as they are stored.
Exif: TypeAlias = Literal["apply", "ignore"]

_TAG = 0x0112
# Without one of these, the tag is nowhere; to look for them takes microseconds.
_MARKS = (b"Exif\0\0", b"tiff:Orientation")


def turned(image: Image.Image) -> Image.Image:
  """Returns a picture upright, or itself where nothing is to be done."""
  try:
    return ImageOps.exif_transpose(image)
  except (
    Exception
  ):  # Pillow raises anything on damaged EXIF, which says nothing
    return image


def of_jpeg(data: bytes) -> int:
  """Returns the orientation of a JPEG: 1 to 8, 1 is upright.

  Only where it has EXIF is it opened, and then its head alone.
  """
  if not any(mark in data for mark in _MARKS):
    return 1
  try:
    # Image.open would refuse a large one.
    with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as image:
      said = image.getexif().get(_TAG, 1)
  except Exception:  # as above
    return 1
  return said if said in range(1, 9) else 1


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
  """Turns pixels as an orientation says.

  Args:
    pixels: [height, width, channels], as stored.
    orientation: 1 to 8; see the EXIF standard, tag 0x0112.

  Returns:
    The same pixels; [width, height, channels] from orientation 5 on.
  """
  if orientation == 1:
    return pixels
  if orientation >= 5:  # stored lying: rows are columns
    pixels = pixels.swapaxes(0, 1)
  # What is left to do: mirror left and right, top and bottom, or both.
  sideways = orientation in (2, 3, 6, 7)
  upside_down = orientation in (3, 4, 7, 8)
  rows = slice(None, None, -1 if upside_down else 1)
  columns = slice(None, None, -1 if sideways else 1)
  return np.ascontiguousarray(pixels[rows, columns])
