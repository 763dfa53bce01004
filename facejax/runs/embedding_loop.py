"""The one loop that embeds a set of images: batches of one size, read ahead."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np
from jax.experimental import multihost_utils

from facejax.data import images as image_lib
from facejax.runtime import distributed, read_ahead

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
  share: bool = False,
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
    share: of several processes, each embeds its share of the batches, and all
      get all; `embed` computes on this process's devices alone. Otherwise each
      reads all images, and `embed` may be one computation of all of them.

  Yields:
    The indices of a batch, without those left out, and what the net says.

  Raises:
    ValueError: if images differ in shape or are not uint8, or the net returns
      another shape than said.
  """
  if size < 1:
    raise ValueError(f"batch_size is {size}; it must be at least 1")

  count = distributed.count() if share else 1
  mine = distributed.index() if share else 0
  starts = range(0, len(indices), size)
  batches = _batches(
    embed,
    read,
    [indices[start : start + size] for start in starts[mine::count]],
    size=size,
    name=name,
    skips=unreadable is not None,
  )
  if count > 1:
    batches = _of_all(batches, size=size, rounds=-(-len(starts) // count))
  with contextlib.closing(batches):
    for batch in batches:
      for index, error in batch.bad:
        assert unreadable is not None
        unreadable(index, error)
      if batch.kept:
        yield batch.kept, batch.found
      advance(len(batch.kept) + len(batch.bad))


@dataclasses.dataclass
class _Batch:
  """Which images are in it, what the net says of them, and which are not."""

  kept: list[int] = dataclasses.field(default_factory=list)
  found: np.ndarray = dataclasses.field(
    default_factory=lambda: np.empty((0, 0), np.float32)
  )
  bad: list[tuple[int, image_lib.BadImageError]] = dataclasses.field(
    default_factory=list
  )


def _batches(
  embed: Embed,
  read: Callable[[int], np.ndarray],
  chosen: Sequence[Sequence[int]],
  *,
  size: int,
  name: Callable[[int], str],
  skips: bool,
) -> Generator[_Batch]:
  """Embeds batches, one read ahead."""

  def attempt(index: int) -> np.ndarray | image_lib.BadImageError:
    try:
      return np.asarray(read(index))
    except image_lib.BadImageError as error:
      if not skips:
        raise
      return error

  shape: tuple[int, ...] | None = None
  blocks = read_ahead.blocks(attempt, [*itertools.chain(*chosen)], size)
  for indices, block in zip(chosen, blocks, strict=True):
    batch = _Batch()
    images: list[np.ndarray] = []
    for index, image in zip(indices, block, strict=True):
      if isinstance(image, image_lib.BadImageError):
        batch.bad.append((index, image))
        continue
      shape = shape or image.shape
      _check_image(image, shape, name(index))
      batch.kept.append(index)
      images.append(image)
    if images:
      batch.found = _filled_up(embed, images, size)
    yield batch


def _of_all(
  mine: Iterator[_Batch], *, size: int, rounds: int
) -> Generator[_Batch]:
  """The batches of all processes, in the order of the images.

  Args:
    mine: those of this process, one a round; it may lack one in the last.
    size: images at once.
    rounds: how often to exchange.
  """
  for _ in range(rounds):
    batch = next(mine, _Batch())
    about = distributed.gathered(
      {
        "kept": batch.kept,
        "bad": [(index, str(error)) for index, error in batch.bad],
        "dim": batch.found.shape[1],
      }
    )
    padded = np.zeros((size, max(one["dim"] for one in about)), np.float32)
    padded[: len(batch.kept), : batch.found.shape[1]] = batch.found
    arrays = np.asarray(multihost_utils.process_allgather(padded))
    for other, array in zip(about, arrays, strict=True):
      yield _Batch(
        other["kept"],
        array[: len(other["kept"])],
        [(k, image_lib.BadImageError(text)) for k, text in other["bad"]],
      )


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
