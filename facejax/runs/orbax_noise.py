"""Keeps what Orbax says to itself off the console.

Whatever matters in it reaches the caller as an exception.
"""

import contextlib
import functools
import gc
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

# Long enough for reads in flight to end, short beside reading a checkpoint.
_GRACE_SECONDS = 0.2


@functools.cache
def silence() -> None:
  """Drops Orbax's log records; those of other users of absl stay.

  So are the writes that outlive a failed one: each finds its event loop closed,
  and says so to `sys.unraisablehook`, from a thread that is not Python's.
  """
  logging.getLogger("absl").addFilter(_is_not_orbax)
  logging.getLogger("asyncio").addFilter(_is_not_orbax)
  _drop_unraisable(_of_closed_loop)


@contextlib.contextmanager
def stray_reads_ignored() -> Iterator[None]:
  """Ignores the reads that outlive a failed one.

  When one of many parallel reads fails, Orbax closes its event loop under the
  others, and each of them complains to `sys.unraisablehook`.
  """
  report = _drop_unraisable(_of_stray_read)
  try:
    yield
  finally:
    sys.unraisablehook = report


def _drop_unraisable(is_noise: Callable[[BaseException | None], bool]) -> Any:
  """Lets the hook see only what is no noise; what it was before."""
  report = sys.unraisablehook

  def report_others(unraisable):
    if not is_noise(unraisable.exc_value):
      report(unraisable)

  sys.unraisablehook = report_others
  return report


def let_stray_reads_end() -> None:
  """To be called where `stray_reads_ignored`, once the failure is let go."""
  time.sleep(_GRACE_SECONDS)
  gc.collect()


def _of_stray_read(exception: BaseException | None) -> bool:
  text = str(exception)
  # Some of them were not even started when the loop was closed.
  unstarted = isinstance(exception, RuntimeWarning) and text.endswith(
    "was never awaited"
  )
  return unstarted or "TensorStore" in text or _of_closed_loop(exception)


def _of_closed_loop(exception: BaseException | None) -> bool:
  return (
    isinstance(exception, RuntimeError)
    and str(exception) == "Event loop is closed"
  )


def _is_not_orbax(record: logging.LogRecord) -> bool:
  if record.name == "asyncio":
    return not (record.exc_info and _of_stray_read(record.exc_info[1]))
  return "orbax" not in record.pathname
