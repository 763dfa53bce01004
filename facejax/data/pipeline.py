"""The stream of training batches, a function of the seed and the step alone."""

import logging
import signal
from collections.abc import Callable, Generator, Sequence
from typing import Literal

import grain
import numpy as np
from absl import flags

from facejax.data import images, sampling, sources
from facejax.data import order as orders
from facejax.runtime import text_lines

logger = logging.getLogger(__name__)


Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]

_FOREVER = 2**62
_LAST_RESORT = 1000


def steps_per_epoch(num_images: int, batch_size: int) -> int:
  """Returns how many whole batches an epoch has, at least one.

  The stream repeats without a break: a batch may end one epoch and begin the
  next, so that no image is ever dropped, and step `steps_per_epoch` need not
  begin a new epoch exactly.

  >>> steps_per_epoch(100, 32), steps_per_epoch(10, 32)
  (3, 1)
  """
  return max(1, num_images // batch_size)


class ReaderLostError(OSError):
  """A process that reads images was killed."""


def batches(
  source: sources.Source,
  *,
  batch_size: int,
  seed: int,
  start_step: int = 0,
  augment: Augmentation | None = None,
  sampler: sampling.Sampler | None = None,
  on_error: Literal["skip", "raise"] = "skip",
  places: Sequence[int] | None = None,
  threads: int = 1,
  workers: int = 0,
) -> Generator[dict[str, np.ndarray]]:
  """Streams shuffled or sampled, augmented batches without end.

  The global batch of a step depends on `seed`, `sampler` and the step alone:
  not on where the stream was started, nor on processes, threads or workers.
  Record s * batch_size + i of the stream is at place i of the batch of step s.

  An image that cannot be read is replaced by the next readable one, of the same
  identity if there is one, and a warning names it once; or it ends the stream.

  Args:
    source: The images.
    batch_size: Images a step, over all processes.
    seed: In [0, 2^32).
    start_step: The step of the first batch.
    augment: Called with uint8 [height, width, 3] and a generator keyed by the
      record's place in the stream.
    sampler: Chooses the images of each step, from the labels of `source` and
      with a seed of its own; None shuffles all images.
    on_error: Whether an image that cannot be read is replaced (`skip`) or
      ends the stream (`raise`).
    places: Which places of each batch to read, where several processes share
      it; None reads all.
    threads: Threads that read ahead, a batch each; 0 reads when asked.
    workers: Processes that read instead, for augmentation that keeps the
      interpreter busy; they take seconds to start.

  Returns:
    An iterator over dicts of `image` uint8 [batch, height, width, 3], `label`
    int32 [batch], `record_id` int64 [batch] and `replaced` bool [batch], where
    batch is the number of places. Its `close()` ends threads and workers.

  Raises:
    ValueError: An argument is out of range.
    images.BadImageError: From the iterator, by `on_error`.
    ReaderLostError: From the iterator.
  """
  places = range(batch_size) if places is None else places
  _check(source, batch_size, seed, start_step, places)
  if sampler is not None:
    _check_sampler(sampler, source, batch_size)
  read = _ReadBatch(
    source,
    order=orders.order(len(source), seed=seed, sampler=sampler),
    augment=augment,
    on_error=on_error,
    seed=seed,
    places=places,
    batch_size=batch_size,
  )
  stream = grain.MapDataset.range(_FOREVER).map(read)[start_step:]
  options = grain.ReadOptions(
    num_threads=0 if workers else threads,
    prefetch_buffer_size=0 if workers else 2 * threads,
  )
  dataset = stream.to_iter_dataset(options)
  if workers:
    # grain's workers inherit absl's flags, which no absl main has parsed here.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    dataset = dataset.mp_prefetch(
      grain.MultiprocessingOptions(
        num_workers=workers, per_worker_buffer_size=2
      ),
      worker_init_fn=_let_parent_decide,
    )
  return _closing(dataset)


def _let_parent_decide(worker: int, workers: int) -> None:
  """Ctrl-C in a terminal goes to workers, too: their parent ends them."""
  del worker, workers
  signal.signal(signal.SIGINT, signal.SIG_IGN)


def _closing(dataset: grain.IterDataset) -> Generator[dict[str, np.ndarray]]:
  iterator = iter(dataset)
  try:
    yield from iterator
  except RuntimeError as error:
    # So says grain of a process that has not ended by itself.
    if "was terminated unexpectedly" in str(error):
      raise ReaderLostError(
        "a process that reads images is gone"
        f" ({text_lines.first_line(error)}): it was killed, as the system does"
        " where memory runs out. The same command again goes on, if need be"
        " with fewer data.workers or with data.threads instead"
      ) from error
    raise
  finally:
    iterator.close()


def _check(
  source: sources.Source,
  batch_size: int,
  seed: int,
  start_step: int,
  places: Sequence[int],
) -> None:
  if not len(source):
    raise ValueError("the source is empty")
  if batch_size < 1:
    raise ValueError(f"batch_size={batch_size} must be 1 or more")
  if not places or min(places) < 0 or max(places) >= batch_size:
    raise ValueError(
      f"places={list(places)[:5]} … must be some of [0, {batch_size})"
    )
  if not 0 <= seed < 2**32:
    raise ValueError(f"seed={seed} must lie in [0, 2^32)")
  if start_step < 0:
    raise ValueError(f"start_step={start_step} must not be negative")


def _check_sampler(
  sampler: sampling.Sampler, source: sources.Source, batch_size: int
) -> None:
  if sampler.batch_size != batch_size:
    raise ValueError(
      f"batch_size={batch_size}, but the sampler's batches hold"
      f" {sampler.batch_size} images: identities times images plus negatives"
    )
  if sampler.num_images != len(source):
    raise ValueError(
      f"the sampler was made for {sampler.num_images:,} images, the source has"
      f" {len(source):,}; give it the labels of this source"
    )


class _ReadBatch:
  """Reads and augments one batch; sent to worker processes as it is.

  A batch at a time, and straight into its place: record by record, grain would
  take as long again as the decoder needs for a quarter of the image.
  """

  def __init__(
    self,
    source: sources.Source,
    *,
    order: orders.Order,
    augment: Augmentation | None,
    on_error: Literal["skip", "raise"],
    seed: int,
    places: Sequence[int],
    batch_size: int,
  ):
    self._source, self._order, self._augment = source, order, augment
    self._on_error = on_error
    self._draws = orders.Draws(seed, order)
    self._places, self._batch_size = places, batch_size
    self._warned: set[int] = set()

  def __call__(self, step: int) -> dict[str, np.ndarray]:
    size = len(self._places)
    records, indices = np.empty(size, np.int64), np.empty(size, np.int64)
    batch = None
    for place, offset in enumerate(self._places):
      position = int(step) * self._batch_size + offset
      records[place] = record = self._order[position]
      indices[place], image = self._read(record)
      if self._augment is not None:
        image = self._augment(image, self._draws(position))
      if batch is None:
        batch = np.empty((size, *image.shape), image.dtype)
      batch[place] = image
    assert batch is not None  # a batch holds an image
    return {
      "image": batch,
      "label": self._source.labels[indices].astype(np.int32),
      "record_id": records,
      "replaced": indices != records,
    }

  def _read(self, record: int) -> tuple[int, np.ndarray]:
    try:
      return record, self._source[record]
    except images.BadImageError as error:
      if self._on_error == "raise":
        raise
      return self._replacement(record, error)

  def _replacement(
    self, record: int, error: images.BadImageError
  ) -> tuple[int, np.ndarray]:
    labels = self._source.labels
    alike = np.flatnonzero(labels == labels[record])
    others = (record + 1 + np.arange(_LAST_RESORT)) % len(labels)
    candidates = [*alike[alike > record], *alike[alike < record], *others]
    for index in map(int, candidates):
      try:
        image = self._source[index]
      except images.BadImageError:
        continue
      if record not in self._warned:
        self._warned.add(record)
        logger.warning("replaced by %s: %s", self._source.name(index), error)
      return index, image
    raise images.BadImageError(
      f"{error}; nor can any of the {len(candidates)} images that might replace"
      " it be read"
    ) from error
