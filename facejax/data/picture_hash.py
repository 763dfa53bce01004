"""Near copies of pictures, told by their pixels: another size, JPEG, brightness."""

import numpy as np
from PIL import Image

_SIDE = 16
BITS = _SIDE * _SIDE


def bits(image: np.ndarray) -> np.ndarray:
  """The difference hash of a picture: bool [256].

  In the grey picture of 17 x 16 pixels, bit k says whether a pixel is brighter
  than its left neighbour. Copies differ in few bits, whatever their size,
  quality or brightness; other pictures differ in about half, faces that are
  aligned alike in a fourth.

  Args:
    image: uint8 [height, width, 3].

  >>> slope = np.repeat(np.arange(0, 240, 4, np.uint8)[None, :, None], 3, axis=2)
  >>> bool(bits(np.repeat(slope, 60, axis=0)).all())
  True
  """
  grey = Image.fromarray(np.asarray(image)).convert("L")
  small = grey.resize((_SIDE + 1, _SIDE), Image.Resampling.LANCZOS)
  pixels = np.asarray(small, np.int16)
  return (pixels[:, 1:] > pixels[:, :-1]).ravel()


def differing(first: np.ndarray, second: np.ndarray) -> int:
  """In how many bits two hashes differ."""
  return int(np.count_nonzero(first != second))
