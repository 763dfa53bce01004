"""The other processes of a run, watched: one that fails or is gone ends all.

Without it they would wait for it in the next collective: some backends for
ever. Two threads do it. One waits at the coordination service of JAX for the
news of a failure; that its connection breaks is news, too: process 0, where the
service runs, is gone. The other gives signs of life. Process 0 watches those of
all, all watch those of process 0.
"""

import contextlib
import ctypes
import json
import logging
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from facejax.runtime import last_words, text_lines

logger = logging.getLogger(__name__)

# EX_PROTOCOL of sysexits.h: another process is gone.
EXIT_LOST = 76
_FAILED, _LIFE, _LEFT, _DONE = (
  f"facejax/{name}" for name in ("failed", "life/", "left/", "done")
)
_FOREVER = 10**9  # milliseconds
_NEWS_NEEDS = 1.0  # seconds
# What a collective says when another process is gone.
_BROKEN = re.compile(
  "gloo|nccl|connection|socket|unavailable|aborted|deadline|barrier|cancelled",
  re.IGNORECASE,
)


class Peers:
  """The processes of a run, as one of them sees the others.

  Args:
    client: of JAX's coordination service.
    service: HOST:PORT of that.
    index: which process this is.
    names: of all processes, for messages.
    heartbeat: seconds without a sign of life after which one counts as gone.
  """

  def __init__(
    self,
    client: Any,
    *,
    service: str,
    index: int,
    names: Sequence[str],
    heartbeat: float,
  ):
    self._client, self._index, self._names = client, index, names
    self._service = service
    self._heartbeat = heartbeat
    self._closing = threading.Event()
    self._ending = threading.Lock()
    # Kept, for the system has no more than its address.
    self._at_abort = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._aborting)
    with contextlib.suppress(OSError, AttributeError):
      ctypes.CDLL(None).signal(signal.SIGABRT, self._at_abort)
    for work in (self._listen, self._give_signs_of_life):
      threading.Thread(
        target=work, name=f"facejax-{work.__name__}", daemon=True
      ).start()

  @property
  def period(self) -> float:
    """Seconds between two signs of life."""
    return min(5.0, self._heartbeat / 5)

  @property
  def _silence(self) -> float:
    """Seconds within which it is known whether another process is gone."""
    return self._heartbeat + 3 * self.period

  def fail(self, text: str, code: int, *, stacks: bool = False) -> None:
    """Ends this process, and all others with the same message.

    Args:
      text: what went wrong; already said here.
      code: with which all exit.
      stacks: whether all say what their threads are at.
    """
    with self._ending:
      self._closing.set()
      self._tell(self._index, text, code, stacks=stacks)
      if self._index == 0:
        # The service ends with this process: the others must have heard.
        time.sleep(_NEWS_NEEDS)
      last_words.leave_at_once(code)

  def wait_for_news(self, text: str) -> None:
    """Waits as long as a lost process may go unnoticed, if it may be that.

    A collective that broke, or what was to be written together, does not say
    why: if a process is gone or has failed, this one ends meanwhile with that
    news.

    Args:
      text: of the error at hand.
    """
    if not _BROKEN.search(text):
      return
    line = text_lines.first_line(RuntimeError(text))
    logger.warning("%s; waiting for news of the other processes", line)
    time.sleep(self._silence)

  def end_together(self) -> None:
    """Returns when all have come here; from then on nobody is watched."""
    self._client.key_value_set(f"{_LEFT}{self._index}", "")
    if self._index == 0:
      for k in range(len(self._names)):
        self._client.blocking_key_value_get(f"{_LEFT}{k}", _FOREVER)
      self._closing.set()
      self._client.key_value_set(_DONE, "")
    else:
      self._client.blocking_key_value_get(_DONE, _FOREVER)
      self._closing.set()

  def _listen(self) -> None:
    while not self._closing.is_set():
      try:
        news = self._client.blocking_key_value_get(_FAILED, _FOREVER)
      except Exception as error:
        if "DEADLINE_EXCEEDED" in str(error):
          continue
        news = json.dumps(self._gone(0, "the connection to it broke"))
      self._end(**json.loads(news))

  def _aborting(self, number: int) -> None:
    """The last that a process does that JAX or another library aborts.

    JAX does so at once when the service is gone, without naming anybody, and the
    thread by which the listener would hear of it is the one that aborts. Python
    calls no handler then; the system calls this one, in that thread.
    """
    del number
    if self._closing.is_set():
      return
    if self._index and not _answers(self._service):
      self._end(**self._gone(0, "the connection to it broke"))
    # Or a collective has aborted, of which another process is gone: that one
    # is to be named, which ends this process meanwhile.
    time.sleep(self._silence)
    text = "it aborted; its own output says why"
    self._tell(self._index, text, last_words.EXIT_FAILED, stacks=False)
    if self._index == 0:
      time.sleep(_NEWS_NEEDS)

  def _give_signs_of_life(self) -> None:
    last = [("", time.monotonic())] * len(self._names)
    for beat in range(sys.maxsize):
      if self._closing.wait(self.period):
        return
      try:
        self._client.key_value_set(
          f"{_LIFE}{self._index}", str(beat), allow_overwrite=True
        )
        signs = dict(self._client.key_value_dir_get(_LIFE))
      except Exception:  # the listener knows more
        continue
      now = time.monotonic()
      watched = range(1, len(last)) if self._index == 0 else (0,)
      for k in watched:
        sign = signs.get(f"{_LIFE}{k}", "")
        if sign != last[k][0]:
          last[k] = sign, now
        elif now - last[k][1] > self._heartbeat:
          silent = f"it gave no sign of life for {self._heartbeat:g} s"
          gone = self._gone(k, silent)
          self._tell(**gone)
          self._end(**gone)

  def _gone(self, k: int, why: str) -> dict[str, Any]:
    text = f"it is gone: {why}"
    return {"process": k, "text": text, "code": EXIT_LOST, "stacks": False}

  def _tell(self, process: int, text: str, code: int, *, stacks: bool) -> None:
    news = {"process": process, "text": text, "code": code, "stacks": stacks}
    try:
      self._client.key_value_set(_FAILED, json.dumps(news))
    except Exception:  # somebody else was first, or the service is gone
      return

  def _end(self, process: int, text: str, code: int, stacks: bool) -> None:
    # What failed for one has often failed here, too, and is being cleared up.
    if self._closing.wait(_NEWS_NEEDS):
      return
    with self._ending:
      if stacks:
        last_words.dump_stacks(self._names[self._index])
      if process != self._index:
        last_words.say(f"error: {self._names[process]}: {text}")
      last_words.leave_at_once(code)


def _answers(address: str) -> bool:
  """Whether somebody listens at HOST:PORT."""
  host, _, port = address.rpartition(":")
  try:
    socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
  except (OSError, ValueError):
    return False
  return True
