"""Hashes of pictures that hardly change when a picture is stored anew.

The 256 lowest frequencies of a grey 32 x 32 picture (a discrete cosine
transform), each as a bit: above its median over the set or not. The median and
not zero, because aligned faces all have the same coarse light and dark, and bits
that everybody shares tell nobody apart.
"""

import functools
from collections.abc import Iterator

import numpy as np

SIDE, _KEPT = 32, 16
BITS = _KEPT * _KEPT
_GREY = np.asarray([0.299, 0.587, 0.114], np.float32)
# Hashes up to which bands of 16 bits hold few by chance.
_FEW = 2**19


def coefficients(image: np.ndarray) -> np.ndarray:
  """The low frequencies of a picture, float32 [256].

  Args:
    image: uint8 RGB [height, width, 3].
  """
  grey = image.astype(np.float32) @ _GREY
  small = _averaging(grey.shape[0]) @ grey @ _averaging(grey.shape[1]).T
  waves = _waves()
  return (waves @ small @ waves.T).reshape(-1).astype(np.float32)


@functools.cache
def _averaging(size: int) -> np.ndarray:
  """Means over a 32nd of a side each, float32 [32, size]."""
  edges = np.linspace(0, size, SIDE + 1)
  low, high = edges[:-1, None], edges[1:, None]
  pixels = np.arange(size)[None]
  covered = np.clip(
    np.minimum(high, pixels + 1) - np.maximum(low, pixels), 0, None
  )
  return (covered / covered.sum(axis=1, keepdims=True)).astype(np.float32)


@functools.cache
def _waves() -> np.ndarray:
  """The first cosines of a discrete cosine transform, float32 [16, 32]."""
  place = (np.arange(SIDE) + 0.5) / SIDE
  found = np.cos(np.pi * np.arange(_KEPT)[:, None] * place[None])
  return found.astype(np.float32)


def hashes(found: np.ndarray, middle: np.ndarray) -> np.ndarray:
  """Bits of pictures, uint64 [pictures, 4].

  Args:
    found: their coefficients, [pictures, 256].
    middle: what each is compared with, [256].
  """
  packed = np.packbits(found > middle, axis=1)
  return np.ascontiguousarray(packed).view(np.uint64)


def differing(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """How many bits differ, int64 [n]; hashes uint64 [n, 4]."""
  return np.bitwise_count(first ^ second).sum(axis=1, dtype=np.int64)


def near(
  found: np.ndarray, bits: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields pairs of pictures whose hashes differ in at most some bits.

  Hashes are cut into bands; pictures that agree in a whole band are compared. Of
  up to half a million there are 16 bands, so that every pair with up to 15 bits
  is found, of more 8, and every pair with up to 7. A pair may come once a band.

  Args:
    found: uint64 [pictures, 4].
    bits: how many may differ.
  """
  kind = np.uint16 if len(found) <= _FEW else np.uint32
  bands = found.view(kind)
  for band in bands.T:
    order = np.argsort(band, kind="stable")
    ordered = band[order]
    # Each with the next, with the one after that, until no band agrees.
    for step in range(1, len(order)):
      same = np.flatnonzero(ordered[step:] == ordered[:-step])
      if not len(same):
        break
      one, other = order[same], order[same + step]
      close = differing(found[one], found[other]) <= bits
      if close.any():
        yield one[close], other[close]
