"""Features of a set of images: each image and its mirror image, as they come.

Unlike embeddings these are not of length 1: protocols differ in how they join
the two, and the lengths tell how clear a face is.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from facejax.data import sources
from facejax.metrics import checks, templates
from facejax.runs import embedder, embedding_loop
from facejax.runtime import progress, unit_vectors


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


def of_images(
  embed: embedding_loop.Embed,
  source: sources.Source,
  indices: Sequence[int],
  *,
  batch_size: int,
  advance: Callable[[int], object] = lambda count: None,
) -> Features:
  """Features of some images of a source, all batches of one size.

  Args:
    embed: the net, without mirror images.
    source: the images.
    indices: which of them.
    batch_size: images at once, over all devices.
    advance: told how many more are done.

  Raises:
    ValueError: if there is no image, one cannot be read, or a feature is zero
      or not finite.
  """
  if not len(indices):
    raise ValueError("there are no images")
  found = [
    batch
    for _, batch in in_batches(
      embed, source, indices, batch_size=batch_size, advance=advance
    )
  ]
  return Features(
    np.concatenate([batch.plain for batch in found]),
    np.concatenate([batch.mirrored for batch in found]),
  )


def in_batches(
  embed: embedding_loop.Embed,
  source: sources.Source,
  indices: Sequence[int],
  *,
  batch_size: int,
  advance: Callable[[int], object] = lambda count: None,
) -> Iterator[tuple[list[int], Features]]:
  """The same batch by batch, for what need not lie in memory at once.

  Args: see `of_images`.

  Yields:
    The indices of a batch, and their features.

  Raises:
    ValueError: if an image cannot be read, or a feature is zero or not finite.
  """

  def both(images: np.ndarray) -> np.ndarray:
    # Contiguous: what is compiled for images takes these as well.
    mirror = np.ascontiguousarray(images[:, :, ::-1])
    views = [np.asarray(embed(view), np.float32) for view in (images, mirror)]
    return np.concatenate(views, axis=1)

  for kept, found in embedding_loop.embedded(
    both,
    lambda index: source[index],
    list(indices),
    size=batch_size,
    name=source.name,
    advance=advance,
    share=True,
  ):
    plain, mirrored = np.split(found, 2, axis=1)
    # Named while the images are known; nothing is normalised yet.
    unit_vectors.largest_entries(
      plain + mirrored,
      name=lambda row, kept=kept: f"of {source.name(kept[row])}",
    )
    yield kept, Features(plain, mirrored)


def embedded(
  model: embedder.Embedder,
  source: sources.Source,
  indices: Sequence[int],
  batch_size: int,
) -> Features:
  """Features of some images of a source by a net, with a progress bar.

  Args:
    model: the net.
    source: the images.
    indices: which of them.
    batch_size: images at once, over all devices.
  """
  with progress.counting("embedded", len(indices)) as advance:
    return of_images(
      model.features_batch,
      source,
      indices,
      batch_size=model.batch_size(batch_size),
      advance=advance,
    )
