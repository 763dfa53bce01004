"""When a run that ended with a fault is started again."""

from collections.abc import Callable

# Without a way to see progress: a shorter run has made none. Seconds.
_SHORT = 60.0
_LONGEST_WAIT = 300.0
# So many restarts in a row without progress are a crash loop.
_LOOP = 2


class GivenUpError(RuntimeError):
  """A run is not started again; the message says why."""


class Restarts:
  """Counts restarts, doubles the wait between them, sees a crash loop.

  Args:
    most: how many there may be.
    wait: seconds before the first; each further one waits twice as long, up to
      five minutes.
    newest: the newest step that has been saved, -1 before the first. None where
      that cannot be seen: then a run has got on that lasted a minute.
    what: is saved there, in words, such as "checkpoint in runs/a".
  """

  def __init__(
    self,
    most: int,
    wait: float,
    *,
    newest: Callable[[], int] | None = None,
    what: str = "",
  ):
    self.most = most
    self.count = 0
    self._wait = wait
    self._newest = newest
    self._what = what
    self._before = newest() if newest else -1
    self._fruitless = 0

  def after_fault(self, seconds: float) -> float:
    """How many seconds to wait before the next start.

    Args:
      seconds: how long the run lasted.

    Raises:
      GivenUpError: if it is not to be started again.
    """
    if self.count:
      self._fruitless = 0 if self._got_on(seconds) else self._fruitless + 1
    self._before = self._newest() if self._newest else -1
    if self._fruitless >= _LOOP:
      raise GivenUpError(
        f"a crash loop: {_LOOP} restarts in a row {self._without()}; what is"
        " wrong must be mended first, see the first error above"
      )
    if self.count >= self.most:
      raise GivenUpError(f"not started again: --restarts {self.most}")
    self.count += 1
    return min(self._wait * 2 ** (self.count - 1), _LONGEST_WAIT)

  def _got_on(self, seconds: float) -> bool:
    if self._newest is None:
      return seconds >= _SHORT
    return self._newest() > self._before

  def _without(self) -> str:
    if self._newest is None:
      return f"lasted less than {_SHORT:.0f} s"
    return f"left no new {self._what}"
