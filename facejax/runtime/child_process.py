"""A process in a group of its own, its output as labelled lines."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from facejax.runtime import labelled_lines

# How long what a process started may live on after it, in seconds.
_LINGER = 3.0
_PIECE = 2**16
_PR_SET_PDEATHSIG = 1


class Child:
  """A process that is ended with all that it starts, and on Linux with us.

  This process must have one thread only, for another might hold a lock at the
  moment of the fork.

  Attributes:
    place: its number among others.
    code: its exit code; 128 + N if signal N killed it, None before its end.
    told: whether it was sent a signal.
    pipe: the descriptor from which `read` reads.

  Args:
    place: its number; its lines begin with `[PLACE] `.
    words: the program and its arguments.
    environment: all its variables.
  """

  def __init__(
    self, place: int, words: Sequence[str], environment: Mapping[str, str]
  ):
    self.place = place
    self.code: int | None = None
    self.told = False
    self._lines = labelled_lines.LabelledLines(f"[{place}] ".encode())
    self._ended = 0.0
    self._open = True
    self._group_gone = False
    # A session of its own: Ctrl-C in a terminal would reach it twice.
    self._process = subprocess.Popen(
      words,
      env=environment,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      bufsize=0,
      start_new_session=True,
      preexec_fn=_ending_with_parent(),
    )
    assert self._process.stdout
    self.pipe = self._process.stdout.fileno()
    os.set_blocking(self.pipe, False)

  def read(self) -> bytes:
    """The labelled lines that are there now, or become whole at the end."""
    if not self._open:
      return b""
    try:
      piece = os.read(self.pipe, _PIECE)
    except BlockingIOError:
      return b""
    self._open = bool(piece)
    return self._lines.feed(piece) if piece else self._lines.rest()

  @property
  def is_open(self) -> bool:
    """Whether more may be said."""
    return self._open

  def has_just_ended(self) -> bool:
    """Whether it has ended since this was asked last."""
    code = self._process.poll()
    if code is None or self.code is not None:
      return False
    self.code = 128 - code if code < 0 else code
    self._ended = time.monotonic()
    return True

  def is_settled(self) -> bool:
    """Whether it, and all that it started, is over and has been read."""
    if self.code is None:
      return False
    if time.monotonic() > self._ended + _LINGER:
      self.kill()
      return True
    return not (self._has_group() or self._open)

  def send(self, number: int) -> None:
    """Sends a signal to the process alone, if it lives."""
    self.told = True
    self._process.send_signal(number)

  def kill(self) -> None:
    """Kills the process and all that it started."""
    if self._has_group():
      os.killpg(self._process.pid, signal.SIGKILL)
      self._group_gone = self.code is not None

  def close(self) -> bytes:
    """Kills what is left of it; what had not been read yet."""
    self.kill()
    self._process.wait()
    left = self.read() + self._lines.rest()
    self._open = False
    assert self._process.stdout
    self._process.stdout.close()
    return left

  def _has_group(self) -> bool:
    """Whether it, or anything that it started, is there.

    Once it is not, its number may become a stranger's: it is not asked again.
    """
    if not self._group_gone:
      try:
        os.killpg(self._process.pid, 0)
      except (ProcessLookupError, PermissionError):
        self._group_gone = True
    return not self._group_gone


def _ending_with_parent() -> Callable[[], None] | None:
  """What a new process does before it runs its program, where Linux can.

  It asks to be killed when this process, however it does, ends.
  """
  if sys.platform != "linux":
    return None
  prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

  def ask() -> None:
    prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # it has ended already
      os._exit(1)

  return ask
