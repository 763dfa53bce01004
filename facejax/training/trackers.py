"""Trackers of others, told what metrics.jsonl is told, by process 0 alone.

None of them can end a run, or hold it up: each is told in a thread of its own,
and one that fails is named in the log and is not asked again.
"""

import contextlib
import logging
import math
import pathlib
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, TypeAlias

from facejax.runs import folder as folder_lib
from facejax.runs import tracked
from facejax.runtime import extras
from facejax.training import tracker_kinds

logger = logging.getLogger(__name__)

Open: TypeAlias = Callable[[tracker_kinds.Run], tracker_kinds.Tracker]
KINDS: Mapping[str, Open] = {
  "wandb": tracker_kinds.WandB,
  "mlflow": tracker_kinds.MLflow,
  "trackio": tracker_kinds.Trackio,
  "clearml": tracker_kinds.ClearML,
}
NONE = "none"
_Call: TypeAlias = Callable[[tracker_kinds.Tracker], None]
# Of calls that one has not taken yet; more are dropped.
_MOST_WAITING = 10_000
_MODULES = {"mlflow": ("mlflow", "sqlalchemy", "alembic")}
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def require(names: Iterable[str]) -> None:
  """Refuses trackers whose package is not installed.

  Raises:
    extras.MissingPackageError: naming the extra that brings it.
  """
  for name in names:
    for module in () if name == NONE else _MODULES.get(name, (name,)):
      extras.require(module)


class Trackers:
  """Those of a run that were asked for and still work.

  Args:
    names: of `KINDS`, or "none".
    name: of the run.
    folder: where it works; keeps by what each tracker knows it.
    config: every field of the run by its dotted name, as JSON gives it back.
    kinds: how each is opened.
    patience: seconds that they have at the end to take what they were told.
  """

  def __init__(
    self,
    names: Iterable[str] = (),
    *,
    name: str = "",
    folder: str = "",
    config: Mapping[str, Any] | None = None,
    kinds: Mapping[str, Open] = KINDS,
    patience: float = 30.0,
  ):
    self._patience = patience
    self._told: list[_Told] = []
    names = [one for one in dict.fromkeys(names) if one != NONE]
    if not names:
      return
    known = tracked.read(folder)
    found = {}
    for one in names:
      run = tracker_kinds.Run(
        name, pathlib.Path(folder), config or {}, known.get(one)
      )
      tracker = _begun(one, kinds[one], run)
      if tracker is not None:
        found[one] = tracker.known_as
        self._told.append(_Told(one, tracker))
    if found.items() - known.items():
      tracked.write(folder, known | found)

  def __enter__(self) -> Self:
    return self

  def __exit__(self, exception_type, exception, traceback) -> None:
    for one in self._told:
      one.tell(lambda tracker: tracker.close(failed=exception is not None))
    until = time.monotonic() + self._patience
    for one in self._told:
      one.finish(until - time.monotonic())

  def add(self, step: int, kind: str, scalars: Mapping[str, float]) -> None:
    """Tells them scalars as "KIND/NAME", but for those that are not finite."""
    finite = {
      f"{kind}/{name}": value
      for name, value in scalars.items()
      if math.isfinite(value)
    }
    for one in self._told:
      one.tell(lambda tracker: tracker.add(step, finite))


class _Told:
  """A tracker, told in a thread of its own: the run does not wait for it."""

  def __init__(self, name: str, tracker: tracker_kinds.Tracker):
    self._name, self._tracker = name, tracker
    self._calls: queue.Queue[_Call | None] = queue.Queue(_MOST_WAITING)
    self._thread = threading.Thread(
      target=self._tell_all, name=f"facejax-{name}", daemon=True
    )
    self._thread.start()

  def tell(self, call: _Call) -> None:
    """Tells it, after what it was told before; nothing if it has failed."""
    if self._thread.is_alive():
      with contextlib.suppress(queue.Full):
        self._calls.put_nowait(call)

  def finish(self, seconds: float) -> None:
    """Waits until it has taken all, but no longer than that."""
    with contextlib.suppress(queue.Full):
      self._calls.put_nowait(None)
    self._thread.join(max(seconds, 0.0))
    if self._thread.is_alive():
      logger.warning(
        "track: %s does not answer; what it was not told is in %s",
        *(self._name, folder_lib.HISTORY),
      )

  def _tell_all(self) -> None:
    while call := self._calls.get():
      try:
        call(self._tracker)
      except Exception as error:
        _name_failed(self._name, error)
        return


def _begun(
  name: str, kind: Open, run: tracker_kinds.Run
) -> tracker_kinds.Tracker | None:
  """A tracker, unless it fails. The signals that stop a run stay the run's."""
  main = threading.current_thread() is threading.main_thread()
  before = {n: signal.getsignal(n) for n in _SIGNALS} if main else {}
  try:
    return kind(run)
  except Exception as error:
    _name_failed(name, error)
    return None
  finally:
    for number, handler in before.items():
      if handler is not None:  # one that Python did not set
        signal.signal(number, handler)


def _name_failed(name: str, error: Exception) -> None:
  said = str(error).strip() or "no message"
  logger.warning(
    "track: %s failed (%s: %s); the run goes on without it",
    *(name, type(error).__name__, said.splitlines()[0]),
  )
