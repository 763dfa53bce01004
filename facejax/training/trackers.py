"""Trackers of others, told what metrics.jsonl is told, by process 0 alone.

None of them can end a run: one that fails is named in the log and is not asked
again.
"""

import logging
import math
import pathlib
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, TypeAlias

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
  """

  def __init__(
    self,
    names: Iterable[str] = (),
    *,
    name: str = "",
    folder: str = "",
    config: Mapping[str, Any] | None = None,
    kinds: Mapping[str, Open] = KINDS,
  ):
    self._open: dict[str, tracker_kinds.Tracker] = {}
    names = [one for one in dict.fromkeys(names) if one != NONE]
    if not names:
      return
    known = tracked.read(folder)
    for one in names:
      run = tracker_kinds.Run(
        name, pathlib.Path(folder), config or {}, known.get(one)
      )
      self._ask(one, lambda one=one, run=run: self._begin(one, kinds[one], run))
    found = {one: each.known_as for one, each in self._open.items()}
    if found.items() - known.items():
      tracked.write(folder, known | found)

  def __enter__(self) -> Self:
    return self

  def __exit__(self, exception_type, exception, traceback) -> None:
    for name, tracker in [*self._open.items()]:
      failed = exception is not None
      self._ask(
        name, lambda one=tracker, failed=failed: one.close(failed=failed)
      )

  def add(self, step: int, kind: str, scalars: Mapping[str, float]) -> None:
    """Tells them scalars as "KIND/NAME", but for those that are not finite."""
    if not self._open:
      return
    finite = {
      f"{kind}/{name}": value
      for name, value in scalars.items()
      if math.isfinite(value)
    }
    for name, tracker in [*self._open.items()]:
      self._ask(name, lambda one=tracker: one.add(step, finite))

  def _begin(self, name: str, kind: Open, run: tracker_kinds.Run) -> None:
    """Opens one. The signals that stop a run stay the run's."""
    mine = threading.current_thread() is threading.main_thread()
    before = {n: signal.getsignal(n) for n in _SIGNALS} if mine else {}
    try:
      self._open[name] = kind(run)
    finally:
      for number, handler in before.items():
        if handler is not None:  # one that Python did not set
          signal.signal(number, handler)

  def _ask(self, name: str, call: Callable[[], None]) -> None:
    try:
      call()
    except Exception as error:
      self._open.pop(name, None)
      logger.warning(
        "track: %s failed (%s: %s); the run goes on without it",
        *(name, type(error).__name__, str(error).strip() or "no message"),
      )
