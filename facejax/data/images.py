"""Decoding image files to uint8 RGB, for files that may be damaged or hostile.

Files are recognised by their first bytes, never by their suffix.
"""

import os
from collections.abc import Callable

import numpy as np
from PIL import Image

from facejax.data import decoders, orientation
from facejax.runtime import file_kinds

_PHOTOS = (
  ".jpg",
  ".jpeg",
  ".jpe",
  ".jfif",
  ".png",
  ".webp",
  ".bmp",
  ".gif",
  ".tif",
  ".tiff",
)
_HEIC = (".heic", ".heif")
_NETPBM = (".pgm", ".ppm", ".pbm", ".pnm")
SUFFIXES = frozenset((*_PHOTOS, *_HEIC, *_NETPBM))
MAX_PIXELS = decoders.MAX_PIXELS
ODD_JPEG, ODD_DEPTH = decoders.ODD_JPEG, decoders.ODD_DEPTH
BadImageError = decoders.BadImageError


def is_image_name(name: str) -> bool:
  """Returns whether a file of this name, or path, is called like an image.

  >>> is_image_name("../ann/1.JPG"), is_image_name("ann/.1.jpg")
  (True, False)
  """
  stem, suffix = os.path.splitext(os.path.basename(name))
  return suffix.lower() in SUFFIXES and not stem.startswith(".")


def image_format(head: bytes) -> str | None:
  """Returns the format that the first bytes of a file announce.

  Args:
    head: At least the first 12 bytes.

  Returns:
    Pillow's name of the format, or None when it is no image that we read.

  >>> image_format(b"P5\\n92 112\\n255\\n")
  'PPM'
  """
  if head.startswith(b"\xff\xd8\xff"):
    return "JPEG"
  if head.startswith(b"\x89PNG\r\n\x1a\n"):
    return "PNG"
  if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
    return "PPM"
  if head.startswith(b"BM"):
    return "BMP"
  if head.startswith((b"GIF87a", b"GIF89a")):
    return "GIF"
  if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
    return "WEBP"
  if head.startswith((b"II*\0", b"MM\0*")):
    return "TIFF"
  if _is_heic(head) and decoders.reads_heic():
    return "HEIF"
  return None


def _is_heic(head: bytes) -> bool:
  kind = file_kinds.of_bytes(head)
  return kind is not None and kind.name == "heic"


def check(path: str) -> str | None:
  """Looks at the first bytes of a file.

  Args:
    path: The file.

  Returns:
    What is wrong with it, or None when it looks like an image.
  """
  try:
    descriptor = os.open(path, os.O_RDONLY)
    try:
      head = os.read(descriptor, file_kinds.HEAD)
    finally:
      os.close(descriptor)
  except OSError as error:
    return f"cannot be opened: {error.strerror}"
  return _complaint(head)


def _complaint(head: bytes) -> str | None:
  if not head:
    return "is empty"
  if image_format(head):
    return None
  if _is_heic(head):
    return f"is {file_kinds.HEIC.words}; {file_kinds.HEIC.advice}"
  told = file_kinds.complaint(file_kinds.of_bytes(head), "an image")
  return told or "is not an image"


def decode(
  data: bytes,
  *,
  name: str | Callable[[], str],
  exif: orientation.Exif = "apply",
) -> np.ndarray:
  """Decodes one image, upright; grey becomes RGB.

  What every viewer shows is taken, with a notice where it is odd: stray bytes
  between the segments of a JPEG, a broken colour profile. Of 16 bits of grey,
  whatever lies above 255 becomes white, as Pillow has it. A JPEG of more than
  4096 x 4096 pixels comes out at a half, a quarter or an eighth.

  Args:
    data: An encoded image: JPEG, PNG, PGM/PPM, BMP, WebP, GIF (of these two
      the first picture), TIFF or, where pillow-heif is installed, HEIC.
    name: What messages call it; a function is called for messages alone.
    exif: "apply" turns it as its EXIF orientation says, "ignore" leaves it as
      it is stored.

  Returns:
    uint8 RGB [height, width, 3].

  Raises:
    BadImageError: It is empty, damaged, cut off, not an image, larger than
      4096 x 4096 pixels (JPEG: 16384 x 16384, HEIC: 8192 x 8192), or its pixels
      are neither grey nor colours.
  """
  return decode_reduced(data, name=name, exif=exif)[0]


def decode_reduced(
  data: bytes,
  *,
  name: str | Callable[[], str],
  exif: orientation.Exif = "apply",
) -> tuple[np.ndarray, int]:
  """As `decode`, for who must know where a pixel of the file went.

  Returns:
    The image, and how many pixels of the file lie side by side in one of its:
    1, 2, 4 or 8.
  """
  try:
    return _decode(data, exif, name)
  except BadImageError as error:
    called = name if isinstance(name, str) else name()
    raise BadImageError(f"{called!r} {error}") from error.__cause__


def _decode(
  data: bytes, exif: orientation.Exif, name: str | Callable[[], str]
) -> tuple[np.ndarray, int]:
  complaint = _complaint(data[: file_kinds.HEAD])
  if complaint is not None:
    raise BadImageError(complaint)
  form = image_format(data[: file_kinds.HEAD])
  try:
    return decoders.decode(data, str(form), exif, name)
  except BadImageError:
    raise
  # Pillow's readers raise anything, from SyntaxError to struct.error, on
  # damaged bytes, and its warning of decompression bombs may be an error.
  except Exception as error:
    raise BadImageError(
      f"is a damaged {form} image ({type(error).__name__}: {error})"
    ) from error


def fit(
  image: np.ndarray, *, image_size: tuple[int, int], crop: float = 1.0
) -> np.ndarray:
  """Cuts out the centre of an image and brings it to a size.

  Args:
    image: uint8 [height, width, 3].
    image_size: Height and width of the result; the aspect ratio is not kept.
    crop: Share of the height and of the width that is kept, in (0, 1].

  Returns:
    uint8 [*image_size, 3]; the image itself when nothing is to be done.
  """
  height, width = image.shape[:2]
  if crop < 1.0:
    kept = max(1, round(height * crop)), max(1, round(width * crop))
    top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
    image = image[top : top + kept[0], left : left + kept[1]]
  if image.shape[:2] == tuple(image_size):
    return image
  resized = Image.fromarray(np.ascontiguousarray(image)).resize(
    (image_size[1], image_size[0]),
    Image.Resampling.BILINEAR,
    reducing_gap=2.0,
  )
  return np.asarray(resized)
