"""Shards written by several processes, each on its own."""

import concurrent.futures
import dataclasses
import json
import logging
import multiprocessing
import os
import pathlib
import pickle
import signal
import threading
from collections.abc import Iterable, Sequence
from multiprocessing import connection
from typing import Any

import numpy as np

from facejax.data.conversions import targets, workspace
from facejax.data.stores import set_header
from facejax.runtime import whole_files

_LOOK_EVERY = 0.1


@dataclasses.dataclass(frozen=True)
class ConversionJob:
  """All that a worker needs to write any shard.

  Attributes:
    site: Where from and where to.
    target: The format.
    cuts: Where the shards begin, and the last ends, in the set written.
    order: A file with the places of its images in the source; None when they
      are kept.
  """

  site: targets.Site
  target: targets.Target
  cuts: Sequence[int]
  order: os.PathLike[str] | None

  def name(self, number: int) -> str:
    return f"images-{number:05}-of-{len(self.cuts) - 1:05}"

  def write(self, number: int, advance: targets.Advance) -> None:
    """Writes a shard and, last, the note that it is done."""
    begin, end = self.cuts[number], self.cuts[number + 1]
    places: Sequence[int] | np.ndarray = range(begin, end)
    if self.order is not None:
      places = np.load(self.order, mmap_mode="r")[begin:end]
    shard = targets.TargetShard(number, begin, places, self.name(number))
    piece = self.target.write(self.site, shard, advance)
    note = json.dumps(dataclasses.asdict(piece)).encode()
    whole_files.write(self._note(number), note)
    close = getattr(self.site.files, "close", None)
    if close is not None:
      close()  # the indices of shards that the next part has no use for

  def done(self, number: int) -> set_header.FilePiece | None:
    """Returns what was noted of a finished shard."""
    try:
      return set_header.to_piece(set_header.load(self._note(number)))
    except (FileNotFoundError, ValueError):
      return None

  def _note(self, number: int) -> pathlib.Path:
    return self.site.scratch / f"{self.name(number)}.done"


class WorkersStopped(Exception):
  """Another worker failed, or the user gave up."""


def run(
  job: ConversionJob,
  numbers: Iterable[int],
  *,
  workers: int,
  advance: targets.Advance,
) -> None:
  """Writes shards.

  Args:
    job: The work.
    numbers: Which shards.
    workers: How many processes; 1 works in this one.
    advance: Told how many more images are done.

  Raises:
    Whatever `Target.write` raises.
    OSError: A worker died.
  """
  numbers = list(numbers)
  workers = min(workers, len(numbers))
  if workers <= 1:
    for number in numbers:
      job.write(number, advance)
    return
  context = multiprocessing.get_context("spawn")
  # One number a shard, of which one process writes each, and no lock, which a
  # process that is killed would keep for ever.
  counts = context.RawArray("q", len(job.cuts) - 1)
  stop = context.RawValue("b", 0)
  given = (pickle.dumps(job), counts, stop)
  pool = concurrent.futures.ProcessPoolExecutor(workers, context, _start, given)
  told = 0
  try:
    waiting = {pool.submit(_write, number) for number in numbers}
    while waiting:
      done, waiting = concurrent.futures.wait(
        waiting, _LOOK_EVERY, concurrent.futures.FIRST_COMPLETED
      )
      count = sum(counts)
      advance(count - told)
      told = count
      for future in done:
        future.result()
  except concurrent.futures.BrokenExecutor:
    raise OSError(
      "a worker process died; was the memory full? The same command again goes"
      " on, perhaps with fewer --workers"
    ) from None
  finally:
    stop.value = 1
    pool.shutdown(cancel_futures=True)


_given: Any = None


def _start(pickled: bytes, counts, stop) -> None:
  """Prepares a worker."""
  global _given
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the parent alone
  threading.Thread(target=_end_with_parent, daemon=True).start()
  # Opening the source again would repeat all that it said.
  logging.getLogger("facejax").setLevel(logging.ERROR)
  _given = pickle.loads(pickled), counts, stop
  workspace.join(_given[0].site.scratch)


def _end_with_parent() -> None:
  parent = multiprocessing.parent_process()
  if parent is not None:
    connection.wait([parent.sentinel])
    # A worker whose parent was killed would wait for work for ever.
    os._exit(1)


def _write(number: int) -> None:
  job, counts, stop = _given

  def tell(count: int) -> None:
    counts[number] += count
    if stop.value:
      raise WorkersStopped

  job.write(number, tell)
