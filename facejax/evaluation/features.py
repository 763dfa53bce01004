"""Features of a set of images: each image and its mirror image, as they come.

Unlike embeddings these are not of length 1: protocols differ in how they join
the two, and the lengths tell how clear a face is.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from facejax.data import sources
from facejax.metrics import checks, templates
from facejax.runtime import read_ahead

# uint8 [n, height, width, 3] -> float [n, dim], n as often as can be the same.
Net = Callable[[np.ndarray], np.ndarray]
Advance = Callable[[int], object]


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
  """Features of images, and of their mirror images, both [images, dim]."""

  plain: np.ndarray
  mirrored: np.ndarray

  @property
  def summed(self) -> np.ndarray:
    """Both added: what this package verifies with."""
    return templates.fuse_flip(self.plain, self.mirrored)

  @property
  def joined(self) -> np.ndarray:
    """Both one after the other, as SphereFace and CosFace do, [n, 2 dim]."""
    return templates.fuse_flip(self.plain, self.mirrored, rule="concat")

  @property
  def units(self) -> np.ndarray:
    """The sums at length 1."""
    return checks.units(self.summed, "embeddings")


class Recorder:
  """A net that adds mirror images, and keeps what it said."""

  def __init__(
    self, net: Net, count: int, advance: Advance = lambda count: None
  ):
    """Gets ready.

    Args:
      net: what embeds.
      count: how many images there are; what follows fills up a batch.
      advance: told how many more are done.
    """
    self._net, self._left, self._advance = net, count, advance
    self._count = count
    self._plain: list[np.ndarray] = []
    self._mirrored: list[np.ndarray] = []

  def __call__(self, images: np.ndarray) -> np.ndarray:
    """Features of image and mirror image, summed, [n, dim]."""
    self._plain.append(np.asarray(self._net(images), np.float32))
    # Contiguous: what is compiled for images takes these as well.
    mirror = np.ascontiguousarray(images[:, :, ::-1])
    self._mirrored.append(np.asarray(self._net(mirror), np.float32))
    self._advance(min(len(images), self._left))
    self._left -= len(images)
    return self._plain[-1] + self._mirrored[-1]

  def features(self) -> Features:
    """Of all images."""
    return Features(
      np.concatenate(self._plain)[: self._count],
      np.concatenate(self._mirrored)[: self._count],
    )


def of_images(
  net: Net,
  source: sources.Source,
  indices: Sequence[int],
  *,
  batch_size: int,
  advance: Advance = lambda count: None,
) -> Features:
  """Features of some images of a source, all batches of one size.

  Raises:
    ValueError: if there is no image, one cannot be read, or a feature is zero
      or not finite.
  """
  if not len(indices):
    raise ValueError("there are no images")
  recorder = Recorder(net, len(indices), advance)

  def read(index: int) -> np.ndarray:
    return np.asarray(source[index])

  for block in read_ahead.blocks(read, list(indices), batch_size):
    padding = [block[-1]] * (batch_size - len(block))
    recorder(np.stack(block + padding))
  found = recorder.features()
  lengths = np.linalg.norm(found.summed, axis=1)
  bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
  if bad.size:
    raise ValueError(
      f"{bad.size} of {len(indices)} embeddings are zero or not finite, the"
      f" first is of {source.name(indices[bad[0]])}"
    )
  return found
