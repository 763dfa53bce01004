"""Where the wall time of a run goes, over all its starts."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Self

import rich.box
import rich.table

from facejax.runs import goodput
from facejax.runtime import progress, whole_files

# Of a killed run nothing is known since the last write: one a second, unless
# the disk is so slow that it would take more than a hundredth of the time.
_EVERY = 1.0  # seconds
_TIMES = 100


class Account:
  """Counts each second to one thing; kept in the folder of the run.

  Time in which no process of the run exists counts for nothing. Of several
  processes, the first keeps the account.

  Args:
    run: the folder; None keeps nothing, as in processes that do not speak.
    since: when this start began, by the clock; now if not given.
    clock: seconds that only grow.
  """

  def __init__(
    self,
    run: str | os.PathLike[str] | None,
    *,
    since: float | None = None,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._run, self._clock = run, clock
    self._spent = goodput.Spent() if run is None else goodput.read(run)
    self._seconds = dict(self._spent.seconds)
    self._step, self._what = self._spent.step, "starting"
    self._at = clock() if since is None else since
    self._next_write = 0.0

  def __enter__(self) -> Self:
    return self

  def __exit__(self, exception_type, exception, traceback) -> None:
    with whole_files.yielding_to(exception):
      self.write()

  @contextlib.contextmanager
  def during(self, what: str) -> Iterator[None]:
    """Time inside counts to this, and no more to what is around it.

    Args:
      what: steps, compiling, input, saving, verifying, starting or other.
    """
    around = self._what
    self._count(what)
    try:
      yield
    finally:
      self._count(around)

  def begin(self, step: int) -> None:
    """The run goes on after a step: what was done beyond it is lost."""
    self._count("other")
    self._spent = self._now().from_step(step)
    self._step, self._seconds = step, dict(self._spent.seconds)
    self.write()

  def advance(self, step: int) -> None:
    """A step is done; writes the account now and then.

    Raises:
      OSError: if it cannot be written.
    """
    self._step = step
    if self._clock() >= self._next_write:
      self.write()

  def saved(self) -> None:
    """The last step can be gone back to."""
    self._count(self._what)
    self._spent = self._now().at_checkpoint()
    self.write()

  def write(self) -> None:
    """Writes the account.

    Raises:
      OSError: if it cannot be written.
    """
    self._count(self._what)
    if self._run is not None:
      goodput.write(self._run, self._now())
    now = self._clock()
    self._next_write = now + max(_EVERY, _TIMES * (now - self._at))

  def share(self) -> float:
    """Of all time so far, what went to steps that count: 0 to 1."""
    self._count(self._what)
    return self._seconds.get("steps", 0.0) / (sum(self._seconds.values()) or 1)

  def table(self) -> rich.table.Table:
    """What the time went to, in time and share of the whole."""
    self._count(self._what)
    return table(self._now())

  def _now(self) -> goodput.Spent:
    return goodput.Spent(self._step, dict(self._seconds), self._spent.saved)

  def _count(self, then: str) -> None:
    """Counts the time since the last call; what comes is something else."""
    now = self._clock()
    spent = self._seconds.get(self._what, 0.0) + now - self._at
    self._seconds[self._what] = spent
    self._at, self._what = now, then


def table(spent: goodput.Spent) -> rich.table.Table:
  """What the time of a run went to, in time and share of the whole."""
  out = rich.table.Table(title="wall time", box=rich.box.SIMPLE)
  out.add_column("what")
  out.add_column("time", justify="right")
  out.add_column("share", justify="right")
  for title, seconds, share in spent.rows():
    out.add_row(title, progress.duration(seconds), f"{share:.1%}")
  return out
