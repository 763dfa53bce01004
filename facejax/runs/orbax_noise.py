"""Keeps what Orbax says to itself off the console.

Whatever matters in it reaches the caller as an exception.
"""

import contextlib
import gc
import logging
import sys
import time
from collections.abc import Iterator

# Long enough for reads in flight to end, short beside reading a checkpoint.
_GRACE_SECONDS = 0.2


def silence_orbax_logs() -> None:
  """Drops Orbax's log records; those of other users of absl stay."""
  logging.getLogger("absl").addFilter(_is_not_orbax)
  logging.getLogger("asyncio").addFilter(_is_not_orbax)


@contextlib.contextmanager
def stray_reads_ignored() -> Iterator[None]:
  """Ignores the reads that outlive a failed one.

  When one of many parallel reads fails, Orbax closes its event loop under the
  others, and each of them complains to `sys.unraisablehook`.
  """
  report = sys.unraisablehook

  def report_others(unraisable):
    if not _of_stray_read(unraisable.exc_value):
      report(unraisable)

  sys.unraisablehook = report_others
  try:
    yield
  finally:
    sys.unraisablehook = report


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
  return unstarted or "TensorStore" in text or text == "Event loop is closed"


def _is_not_orbax(record: logging.LogRecord) -> bool:
  if record.name == "asyncio":
    return not (record.exc_info and _of_stray_read(record.exc_info[1]))
  return "orbax" not in record.pathname
