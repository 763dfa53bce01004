"""The same picture under two names: near by its pixels and by its embedding."""

import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from facejax.data import sources
from facejax.runtime import read_ahead
from facejax.vectors import image_hashes

_BLOCK = 1024
# Pictures whose medians and copies stand for those of all.
_SAMPLE = 256
# Bits that pictures of different things share by chance leave no room for more.
_MOST_BITS = 40
_SHARE = 0.95


class Copies(NamedTuple):
  """How far a picture that is stored anew lies from itself.

  Attributes:
    bits: that differ of 256, at most.
    cosine: of the embeddings, at least.
  """

  bits: int
  cosine: float


class Duplicates(NamedTuple):
  """Pairs of pictures, of different people or not.

  Attributes:
    first: int [pairs].
    second: int [pairs], higher.
    bits: that differ, int [pairs].
    cosines: of the embeddings, [pairs].
  """

  first: np.ndarray
  second: np.ndarray
  bits: np.ndarray
  cosines: np.ndarray


def hashed(
  source: sources.Source,
  indices: Sequence[int],
  middle: np.ndarray,
  *,
  advance: Callable[[int], object] = lambda count: None,
) -> np.ndarray:
  """Hashes of images, uint64 [images, 4], decoded on a few threads.

  Args:
    source: the images.
    indices: which of them; all can be read.
    middle: what bits are compared with, see `copies`.
    advance: told how many more are done.
  """

  def read(index: int) -> np.ndarray:
    return image_hashes.coefficients(np.asarray(source[index]))

  found = []
  for block in read_ahead.blocks(read, indices, _BLOCK):
    found.append(image_hashes.hashes(np.stack(block), middle))
    advance(len(block))
  return np.concatenate(found)


def stored_anew(image: np.ndarray) -> np.ndarray:
  """An image made smaller by a tenth, kept as JPEG, and made larger again."""
  picture = Image.fromarray(image)
  width, height = picture.size
  small = picture.resize((max(1, width * 9 // 10), max(1, height * 9 // 10)))
  file = io.BytesIO()
  small.save(file, "JPEG", quality=75)
  return np.asarray(Image.open(file).resize((width, height)))


def copies(
  embed: Callable[[list[np.ndarray]], np.ndarray],
  source: sources.Source,
  indices: Sequence[int],
  *,
  seed: int,
  bits: int | None = None,
  cosine: float | None = None,
) -> tuple[Copies, np.ndarray]:
  """How far copies lie from what they are copies of, but for one in twenty.

  Args:
    embed: the net: images to embeddings of length 1.
    source: the images.
    indices: which of them; all can be read.
    seed: of the few that are stored anew.
    bits: the limit itself, in place of what is found.
    cosine: likewise.

  Returns:
    The limits, and what the bits of all are compared with: medians, [256].
  """
  order = np.random.default_rng(seed).permutation(len(indices))
  some = [indices[k] for k in np.sort(order[:_SAMPLE]).tolist()]
  images = [np.asarray(source[k]) for k in some]
  again = [stored_anew(image) for image in images]
  waves = [
    np.stack([image_hashes.coefficients(image) for image in group])
    for group in (images, again)
  ]
  middle = np.median(waves[0], axis=0)
  one, other = (image_hashes.hashes(group, middle) for group in waves)
  if bits is None:
    found = np.quantile(image_hashes.differing(one, other), _SHARE)
    bits = min(int(np.ceil(found)), _MOST_BITS)
  cosines = np.sum(embed(images) * embed(again), axis=1)
  if cosine is None:
    cosine = float(np.quantile(cosines, 1 - _SHARE))
  return Copies(bits, cosine), middle


def pairs(
  hashes: np.ndarray, vectors: np.ndarray, limits: Copies
) -> Duplicates:
  """All pairs within the limits, by their places.

  Args:
    hashes: uint64 [images, 4].
    vectors: [images, dim], of length 1.
    limits: how far copies may lie apart.
  """
  found: list[np.ndarray] = [np.empty((0, 2), np.int64)]
  for one, other in image_hashes.near(hashes, limits.bits):
    close = np.sum(vectors[one] * vectors[other], axis=1) >= limits.cosine
    found.append(np.sort(np.stack([one, other], axis=1)[close], axis=1))
  first, second = np.unique(np.concatenate(found), axis=0).T
  return Duplicates(
    first,
    second,
    image_hashes.differing(hashes[first], hashes[second]),
    np.sum(vectors[first] * vectors[second], axis=1),
  )
