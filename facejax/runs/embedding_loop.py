"""The one loop that embeds a set of images: batches of one size, read ahead."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from facejax.data import images as image_lib
from facejax.runtime import read_ahead

# uint8 [size, height, width, 3] -> [size, dim].
Embed = Callable[[np.ndarray], np.ndarray]


def embedded(
  embed: Embed,
  read: Callable[[int], np.ndarray],
  indices: Sequence[int],
  *,
  size: int,
  name: Callable[[int], str] = "image {}".format,
  advance: Callable[[int], object] = lambda count: None,
  unreadable: Callable[[int, image_lib.BadImageError], None] | None = None,
) -> Iterator[tuple[list[int], np.ndarray]]:
  """Embeds images batch by batch, while the next batch is read on threads.

  All batches have one size, for which a net is compiled once. Where images are
  missing, at the end or because they cannot be read, the last image of the
  batch fills it up, and what is said of the copies is dropped: a real image
  cannot upset a net as a blank one might.

  Args:
    embed: the net, or several at once; called with `size` images.
    read: reads an image, from any thread: uint8 [height, width, 3], all of one
      shape.
    indices: which images.
    size: images at once.
    name: of an image, for messages.
    advance: told how many more images are done.
    unreadable: told of an image that cannot be read, which is then left out;
      None lets the error through.

  Yields:
    The indices of a batch, without those left out, and what the net says.

  Raises:
    ValueError: if images differ in shape or are not uint8, or the net returns
      another shape than said.
  """
  if size < 1:
    raise ValueError(f"batch_size is {size}; it must be at least 1")

  def attempt(index: int) -> np.ndarray | image_lib.BadImageError:
    try:
      return np.asarray(read(index))
    except image_lib.BadImageError as error:
      if unreadable is None:
        raise
      return error

  shape: tuple[int, ...] | None = None
  starts = range(0, len(indices), size)
  blocks = read_ahead.blocks(attempt, indices, size)
  for start, block in zip(starts, blocks, strict=True):
    kept: list[int] = []
    batch: list[np.ndarray] = []
    chosen = indices[start : start + size]
    for index, image in zip(chosen, block, strict=True):
      if isinstance(image, image_lib.BadImageError):
        assert unreadable is not None
        unreadable(index, image)
        continue
      shape = shape or image.shape
      _check_image(image, shape, name(index))
      kept.append(index)
      batch.append(image)
    if kept:
      yield kept, _filled_up(embed, batch, size)
    advance(len(block))


def _check_image(image: np.ndarray, shape: tuple[int, ...], name: str) -> None:
  if image.shape != shape or image.dtype != np.uint8:
    raise ValueError(
      f"{name} is {image.dtype} {image.shape}; every image must be uint8 and"
      f" have the shape of the first, {shape}"
    )


def _filled_up(
  embed: Embed, batch: Sequence[np.ndarray], size: int
) -> np.ndarray:
  missing = [batch[-1]] * (size - len(batch))
  found = np.asarray(embed(np.stack([*batch, *missing])))
  if found.ndim != 2 or len(found) != size:
    raise ValueError(
      f"embed returned shape {found.shape} for {size} images; it must be"
      f" ({size}, dim)"
    )
  return found[: len(batch)]
