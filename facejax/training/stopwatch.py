"""Speed of a training loop, apart from its pauses and its first step."""

import collections
import contextlib
import math
import time
from collections.abc import Callable, Iterator


class Stopwatch:
  """Images per second, share of input wait, and time to go.

  It starts when the first step has been dispatched, so that compiling that
  step counts for nothing. Until then, and over no steps, a speed is NaN.

  Args:
    batch_size: images per step, over all devices and processes.
    clock: seconds that only grow.
  """

  def __init__(
    self, *, batch_size: int, clock: Callable[[], float] = time.perf_counter
  ):
    self._batch_size, self._clock = batch_size, clock
    self._start: tuple[int, float] | None = None
    self._lap = (0, 0.0)
    # Seconds of this lap, by what they went to.
    self._spent = collections.defaultdict(float)

  def advance(self, step: int) -> None:
    """Starts the clock when called for the first time."""
    if self._start is None:
      self._start = (step, self._clock())
      self._begin_lap(*self._start)

  def waiting(self) -> contextlib.AbstractContextManager[None]:
    """Time inside is spent on waiting for input."""
    return self._spending("waiting")

  def paused(self) -> contextlib.AbstractContextManager[None]:
    """Time inside is not training: evaluation, checkpoints."""
    return self._spending("paused")

  def idle(self) -> contextlib.AbstractContextManager[None]:
    """Time inside is spent on waiting for devices, this one's or others'."""
    return self._spending("idle")

  @contextlib.contextmanager
  def _spending(self, on: str) -> Iterator[None]:
    start = self._clock()
    try:
      yield
    finally:
      self._spent[on] += self._clock() - start

  def lap(self, step: int) -> dict[str, float]:
    """Since the last call: `images_per_s`, `input_wait` (0 to 1), `own_s`.

    The last is what a step took of this process's own time, in seconds: neither
    paused nor idle. Of processes in step, the slowest has the most.
    """
    self.advance(step)
    last_step, last_time = self._lap
    now = self._clock()
    steps, spent = step - last_step, self._spent
    seconds = now - last_time - spent["paused"]
    self._begin_lap(step, now)
    if steps <= 0 or seconds <= 0:
      names = "images_per_s", "input_wait", "own_s"
      return dict.fromkeys(names, math.nan)
    return {
      "images_per_s": steps * self._batch_size / seconds,
      "input_wait": min(spent["waiting"] / seconds, 1.0),
      "own_s": max(0.0, seconds - spent["idle"]) / steps,
    }

  def seconds_left(self, step: int, total_steps: int) -> float:
    """Time to go, with pauses at the rate seen so far."""
    if self._start is None or step <= self._start[0]:
      return math.nan
    first_step, start = self._start
    per_step = (self._clock() - start) / (step - first_step)
    return per_step * max(total_steps - step, 0)

  def _begin_lap(self, step: int, now: float) -> None:
    self._lap = (step, now)
    self._spent = collections.defaultdict(float)
