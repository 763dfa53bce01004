"""Ends a run that hangs: no step for far longer than steps take."""

import collections
import contextlib
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

from facejax.runtime import distributed, progress

# EX_SOFTWARE of sysexits.h.
EXIT_STUCK = 70
# So many times what a step, or a pause, has taken so far may it take.
_TIMES = 10
_RECENT = 100  # steps, whose median counts
# What a pause, or the first step, may take whatever the others took.
_LONGEST_PAUSE = 30 * 60.0  # seconds
# A file that hangs may be the one that is to be told of it.
_LAST_WORDS = 30.0  # seconds


class Patience:
  """The rule: whether what is awaited has been awaited too long.

  Steps may take `stuck_after`, or ten times the median of the recent ones. The
  first step and pauses may take that, half an hour, or ten times the longest
  pause, whichever is most.

  Time counts as `look` sees it pass: while the whole process stands still, as
  on a machine that sleeps, nobody looks.

  Args:
    stuck_after: seconds.
    period: seconds between two calls of `look`.
    clock: seconds that only grow.
  """

  def __init__(
    self,
    stuck_after: float,
    *,
    period: float,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._stuck_after, self._period, self._clock = stuck_after, period, clock
    self._lock = threading.Lock()
    self._steps: collections.deque[float] = collections.deque(maxlen=_RECENT)
    self._step: int | None = None
    self._pauses = 0
    self._longest_pause = 0.0
    self._since = self._looked = clock()
    self._waited = 0.0

  def advance(self, step: int) -> None:
    """A step is done."""
    with self._lock:
      now = self._clock()
      if self._step is not None:
        self._steps.append(now - self._since)
      self._step, self._since = step, now
      self._waited = 0.0

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Inside is no training: evaluation, checkpoints."""
    with self._lock:
      start = self._clock()
      self._pauses += 1
      self._waited = 0.0
    try:
      yield
    finally:
      with self._lock:
        spent = self._clock() - start
        self._pauses -= 1
        self._longest_pause = max(self._longest_pause, spent)
        self._since += spent
        self._waited = 0.0

  def look(self) -> str | None:
    """What is wrong, in words; None while all may be well."""
    with self._lock:
      now = self._clock()
      self._waited += min(now - self._looked, 2 * self._period)
      self._looked = now
      return self._complaint() if self._waited > self._limit() else None

  def _limit(self) -> float:
    if self._pauses or self._step is None:
      longest = _TIMES * self._longest_pause
      return max(self._stuck_after, _LONGEST_PAUSE, longest)
    return max(self._stuck_after, _TIMES * self._usual())

  def _usual(self) -> float:
    return statistics.median(self._steps) if self._steps else 0.0

  def _complaint(self) -> str:
    spent = progress.duration(self._waited)
    if self._pauses:
      what = f"verifying or saving has taken {spent}, and is not done"
    elif self._step is None:
      what = f"the first step has taken {spent}, and is not done"
    else:
      what = f"no step for {spent}"
      if self._steps:
        what += f", where one takes {progress.duration(self._usual())}"
    last = "none yet" if self._step is None else f"step {self._step}"
    return (
      f"stuck: {what} (the last: {last}). The stacks above say what each thread"
      " waits for: input, a device, or another process. The same command again"
      " goes on from the last checkpoint; --stuck-after sets how long to wait"
    )


class Watchdog(Patience):
  """Holds a run to the rule, in a thread of its own, while it is entered.

  Args:
    stuck_after: seconds; 0 watches nothing.
    end: given what is wrong; ends all processes, with their stacks.
  """

  def __init__(
    self, stuck_after: float, *, end: Callable[[str], None] | None = None
  ):
    period = min(5.0, stuck_after / 4)
    super().__init__(stuck_after, period=period)
    self._end = end or _end
    self._closing = threading.Event()

  def __enter__(self) -> Self:
    if self._stuck_after:
      threading.Thread(
        target=self._watch, name="facejax-watchdog", daemon=True
      ).start()
    return self

  def __exit__(self, *_) -> None:
    self._closing.set()

  def _watch(self) -> None:
    while not self._closing.wait(self._period):
      complaint = self.look()
      if complaint is not None:
        self._end(complaint)
        return


def _end(complaint: str) -> None:
  """Ends all processes; this one for certain."""
  # What hangs may hold the lock of the log.
  last = threading.Timer(_LAST_WORDS, os._exit, (EXIT_STUCK,))
  last.daemon = True
  last.start()
  distributed.fail(complaint, EXIT_STUCK, stacks=True)
