"""Faces that arrive one by one from many threads, embedded several at once."""

import concurrent.futures
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# Sizes of a batch: few, so that few programs are compiled.
SIZES = (1, 8, 32)
_Asked = tuple[np.ndarray, "concurrent.futures.Future[np.ndarray]"]


class FaceBatches:
  """Embeds what is asked for, whatever waits at a time in one batch.

  Args:
    embed: images of any sizes -> float32 [n, dim].
    wait: seconds that a batch stays open for others.
  """

  def __init__(
    self,
    embed: Callable[[Sequence[np.ndarray]], np.ndarray],
    wait: float = 0.005,
  ):
    self._embed, self._wait = embed, wait
    self._asked: queue.Queue[_Asked | None] = queue.Queue()
    self.batches = self.faces = 0
    self._thread = threading.Thread(target=self._work, daemon=True)
    self._thread.start()

  def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
    """The embeddings of some faces; waits for them.

    Raises:
      ValueError: if an embedding is zero or not finite.
    """
    futures = []
    for image in images:
      future: concurrent.futures.Future[np.ndarray]
      future = concurrent.futures.Future()
      self._asked.put((image, future))
      futures.append(future)
    return np.stack([future.result() for future in futures])

  def close(self) -> None:
    """Ends once all that was asked for is answered."""
    self._asked.put(None)
    self._thread.join()

  def _work(self) -> None:
    while (first := self._asked.get()) is not None:
      batch, open_ = self._filled(first)
      self._answer(batch)
      if not open_:
        return

  def _filled(self, first: _Asked) -> tuple[list[_Asked], bool]:
    """What else comes within the time; whether more may come after it."""
    batch, end = [first], time.monotonic() + self._wait
    while len(batch) < SIZES[-1]:
      try:
        left = max(0.0, end - time.monotonic())
        asked = self._asked.get(timeout=left)
      except queue.Empty:
        break
      if asked is None:
        return batch, False
      batch.append(asked)
    return batch, True

  def _answer(self, batch: Sequence[_Asked]) -> None:
    size = next(n for n in SIZES if n >= len(batch))
    images = [image for image, _ in batch]
    images += images[-1:] * (size - len(batch))
    try:
      found: Any = self._embed(images)
    except Exception as error:
      # One face of a batch may be at fault: each for itself, then.
      if len(batch) > 1:
        for one in batch:
          self._answer([one])
      else:
        batch[0][1].set_exception(error)
      return
    self.batches, self.faces = self.batches + 1, self.faces + len(batch)
    for row, (_, future) in enumerate(batch):
      future.set_result(np.asarray(found[row]))
