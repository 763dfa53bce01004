"""How a process ends: what it says last, and that it waits for nobody."""

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Literal, NoReturn

logger = logging.getLogger(__name__)

EXIT_FAILED = 1


def end_by(main: Callable[[], int]) -> NoReturn:
  """Runs a command and ends the program with its exit code.

  After a failure it waits for no thread: a checkpoint that could not be written
  leaves some that wait for each other for ten minutes.
  """
  try:
    code = main()
  except Exception as error:
    sys.excepthook(type(error), error, error.__traceback__)
    code = EXIT_FAILED
  if code:
    leave_at_once(code)
  sys.exit(code)


def say(text: str) -> None:
  """Prints a message that stands by itself, and writes it into the log."""
  print(text, file=sys.stderr, flush=True)
  for handler in logging.getLogger("facejax").handlers:
    if isinstance(handler, logging.FileHandler):
      handler.handle(
        logger.makeRecord(
          logger.name, logging.ERROR, __file__, 0, text, (), None
        )
      )


def dump_stacks(who: str) -> None:
  """Prints what every thread of this process is at."""
  names = {one.ident: one.name for one in threading.enumerate()}
  lines = [f"the threads of {who}:"]
  for ident, frame in sys._current_frames().items():
    lines.append(f"  thread {names.get(ident, ident)}:")
    lines += (line.rstrip() for line in traceback.format_stack(frame))
  say("\n".join(lines))


def leave_at_once(code: int) -> Literal[None]:
  """Ends the process without waiting for anything but what it has said."""
  # Workers that read images would outlive it.
  _end_children()
  logging.shutdown()
  for stream in (sys.stdout, sys.stderr):
    try:
      stream.flush()
    except (OSError, ValueError):
      continue
  os._exit(code)


def _end_children() -> None:
  # Where nobody has imported it, there are none.
  module = sys.modules.get("multiprocessing.process")
  for child in module.active_children() if module else ():
    if child.pid:
      os.kill(child.pid, signal.SIGKILL)
