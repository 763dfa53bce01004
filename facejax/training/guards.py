"""What stops a run, or warns, before it wastes hours."""

import contextlib
import logging
import os
import signal
from collections.abc import Iterator, Sequence

import numpy as np

from facejax.data import images as images_lib
from facejax.runtime import distributed

logger = logging.getLogger(__name__)

# A loss within this share of chance level counts as stuck there.
_NEAR_CHANCE = 0.98
# 1 minus the length of the mean unit embedding, below which all are one.
_COLLAPSED = 1e-3
# Of the time, in so many intervals in a row: then reading holds the devices up.
_WAITS, _INTERVALS = 0.5, 2
# A process is named from so many times what the others need, and so much more.
_STRAGGLES, _WORTH_NAMING = 2.0, 0.02  # seconds
_STOPPING = b"\nstopping after this step; Ctrl-C again stops without saving\n"


class TooManyBadImagesError(ValueError):
  """More images could not be read than the configuration allows."""


class StuckLoss:
  """Warns once when the loss has not left chance level for long.

  Args:
    chance: the loss when all cosines are 0; None where it is not known.
    patience: steps to wait for.
  """

  def __init__(self, *, chance: float | None, patience: int):
    self._chance, self._patience = chance, patience
    self._since: int | None = None
    self._done = False

  def update(self, step: int, loss: float) -> bool:
    """Takes the mean loss of an interval; True when it warned just now."""
    if self._chance is None or loss < _NEAR_CHANCE * self._chance:
      self._since = None
    elif self._since is None:
      self._since = step
    if self._done or self._since is None:
      return False
    if step - self._since < self._patience:
      return False
    self._done = True
    logger.warning(
      "the loss has not fallen below chance level (%.2f) for %d steps: try a"
      " smaller margin, a smaller learning rate or a longer warm-up, and check"
      " that the labels are right",
      self._chance,
      step - self._since,
    )
    return True


class Collapse:
  """Warns once when all embeddings of a batch have become the same.

  A triplet loss then stays at its margin, or finds nothing to learn from.
  """

  def __init__(self):
    self._done = False

  def update(self, step: int, spread: float | None) -> bool:
    """Takes the embeddings' spread in [0, 1]; True when it warned just now."""
    if self._done or spread is None or spread >= _COLLAPSED:
      return False
    self._done = True
    logger.warning(
      "step %d: all embeddings of a batch are the same (spread %.1e): the net"
      " has collapsed. Try a smaller optim.learning_rate, loss.mining"
      " semi_hard_hardest instead of hard, or start from a net trained with a"
      " loss over classes (--init-from)",
      step,
      spread,
    )
    return True


class Stragglers:
  """Names a process that all others wait for, once for each.

  In a step all wait for the last; what tells who that is, is the time that a
  process needs by itself, its input included.
  """

  def __init__(self):
    self._named: set[int] = set()

  def update(
    self, step: int, own: Sequence[float], input_wait: Sequence[float]
  ) -> int | None:
    """Takes what all processes took a step; which of them was named just now.

    Args:
      step: of the run.
      own: seconds a step of each process's own, see `Stopwatch.lap`.
      input_wait: share of the time that each waited for input.
    """
    slowest = int(np.argmax(own))
    others = float(np.median(np.delete(own, slowest)))
    if not own[slowest] > _STRAGGLES * others + _WORTH_NAMING:
      return None
    if slowest in self._named:
      return None
    self._named.add(slowest)
    logger.warning(
      "step %d: %s holds the others up: it needs %.3g s a step of its own, they"
      " %.3g s (it waits for input %.0f %% of the time)",
      *(step, distributed.name(slowest), own[slowest], others),
      100 * input_wait[slowest],
    )
    return slowest


class Starvation:
  """Warns once when devices wait for images most of the time.

  One interval says little: the first reads ahead, others follow a verification.
  """

  def __init__(self):
    self._intervals = 0

  def update(self, step: int, input_wait: float) -> bool:
    """Takes an interval's share of waiting; True when it warned just now."""
    if self._intervals >= _INTERVALS:
      return False
    self._intervals = self._intervals + 1 if input_wait >= _WAITS else 0
    if self._intervals < _INTERVALS:
      return False
    logger.warning(
      "step %d: the devices wait for images %.0f %% of the time. What may help:"
      " --data.workers, processes that read (the machine has %d cores);"
      " --data.cache, which keeps decoded images in memory; images stored at the"
      " net's size (facejax.data.convert)",
      *(step, 100 * input_wait, os.cpu_count() or 1),
    )
    return True


class BadImages:
  """Counts unreadable images and stops when they are too many.

  Attributes:
    count: of those that this process has met.

  Args:
    max_share: largest share of the images: of the set until all have been
      seen, then of those seen.
    images: how many the set has.
  """

  def __init__(self, *, max_share: float, images: int):
    self._max_share, self._images = max_share, images
    self._seen = 0
    self.count = 0

  def update(self, replaced: np.ndarray) -> None:
    """Takes, for each image of a batch, whether it had to be replaced.

    Raises:
      TooManyBadImagesError: if the share is exceeded.
    """
    self._seen += replaced.size
    self.count += int(replaced.sum())
    # Of several processes, each answers for its share of the images.
    known = max(self._seen, self._images / distributed.count())
    if self.count > self._max_share * known:
      raise TooManyBadImagesError(
        f"{self.count} of {self._seen} images could not be read, more than"
        f" data.max_bad_share={self._max_share:g} allows; the log names them."
        " Repair them or move them elsewhere, or raise data.max_bad_share"
      )


class StopRequest:
  """Remembers that SIGTERM or Ctrl-C asked the run to save and stop.

  Whoever presses Ctrl-C again does not want to wait: KeyboardInterrupt.

  Among several processes either signal to any of them is one for all; which
  of them got it is not remembered.

  Attributes:
    signal: which of them asked first; None before that, or among several.
  """

  def __init__(self):
    self.signal: int | None = None

  @property
  def requested(self) -> bool:
    """Whether to save and stop; all processes must ask equally often."""
    if distributed.count() > 1:
      return distributed.must_stop()
    return self.signal is not None

  def __enter__(self):
    numbers = [signal.SIGTERM, signal.SIGINT]
    if distributed.count() > 1:
      # The other one is taken by JAX's runtime, which tells the others.
      numbers.remove(signal.SIGTERM)
    self._previous = {
      number: signal.signal(number, self._on_signal) for number in numbers
    }
    return self

  def __exit__(self, *_):
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _on_signal(self, number: int, frame: object) -> None:
    del frame
    if number == signal.SIGINT:
      if self.signal == signal.SIGINT:
        raise KeyboardInterrupt
      # No print: the signal may have come in the middle of one.
      with contextlib.suppress(OSError):
        os.write(2, _STOPPING)
    if self.signal is None:
      self.signal = number
      if distributed.count() > 1:
        distributed.notice_stop()


@contextlib.contextmanager
def keeps_tracebacks() -> Iterator[None]:
  """Past the checks, an error is no mistake in what the user gave.

  But for images that cannot be read, and what the disk refuses.
  """
  try:
    yield
  except (TooManyBadImagesError, images_lib.BadImageError):
    raise
  except ValueError as error:
    raise RuntimeError("training failed") from error
