"""Processes of one machine that begin together and end together.

No threads: this process may fork at any time.
"""

import contextlib
import selectors
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from facejax.runtime import child_process

# How often it is looked who has ended, in seconds.
_TICK = 0.05


class Ending(NamedTuple):
  """How a process ended.

  Attributes:
    process: its place among the others, from 0.
    code: its exit code; 128 + N if signal N killed it, as shells have it.
  """

  process: int
  code: int

  def __str__(self) -> str:
    """As in `process 1 was killed by SIGKILL`."""
    how = f"ended with exit code {self.code}"
    with contextlib.suppress(ValueError):
      how = f"was killed by {signal.Signals(self.code - 128).name}"
    return f"process {self.process} {how}"


class StopSignals:
  """Passes signals that ask to stop on to processes, while a block runs.

  SIGINT as itself, SIGTERM and SIGHUP as SIGTERM; what was ignored stays so.

  Attributes:
    requested: which was passed on first; None before that.
  """

  def __init__(self):
    self.requested: signal.Signals | None = None
    self._children: Sequence[child_process.Child] = ()

  def __enter__(self):
    self._previous = {
      number: signal.signal(number, self._on_signal)
      for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
      if signal.getsignal(number) != signal.SIG_IGN
    }
    return self

  def __exit__(self, *_):
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def wait(self, seconds: float) -> None:
    """Waits, but not longer than until one has come."""
    until = time.monotonic() + seconds
    while self.requested is None and time.monotonic() < until:
      time.sleep(min(_TICK, seconds))

  def _on_signal(self, number: int, frame: object) -> None:
    del frame
    passed = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
    self.requested = self.requested or passed
    for child in self._children:
      child.send(passed)

  @contextlib.contextmanager
  def _passed_to(
    self, children: Sequence[child_process.Child]
  ) -> Iterator[None]:
    self._children = children
    try:
      yield
    finally:
      self._children = ()


def run(
  words: Sequence[str],
  environments: Sequence[Mapping[str, str]],
  *,
  stop: StopSignals,
  is_fault: Callable[[int], bool],
  grace: float,
  write: Callable[[bytes], object],
  tell: Callable[[str], object],
) -> list[Ending]:
  """Runs one program as many processes at once, until all have ended.

  When one ends with a fault the others get SIGTERM, and SIGKILL if they have not
  ended after a time. On Linux all are killed if this process dies.

  Args:
    words: the program and its arguments.
    environments: of each process.
    stop: what is passed on to them.
    is_fault: whether an exit code is one.
    grace: seconds between SIGTERM and SIGKILL.
    write: takes what they say, whole lines that begin with `[PROCESS] `.
    tell: takes what is done to them, in words.

  Returns:
    How all ended that were started, in the order in which they did.

  Raises:
    OSError: if the program cannot be started.
  """
  children: list[child_process.Child] = []
  with stop._passed_to(children):
    try:
      for place, environment in enumerate(environments):
        children.append(child_process.Child(place, words, environment))
        if stop.requested and not children[-1].told:
          children[-1].send(stop.requested)
      return _until_all_ended(
        children, is_fault=is_fault, grace=grace, write=write, tell=tell
      )
    finally:
      for child in children:
        child.close()


def _until_all_ended(
  children: Sequence[child_process.Child],
  *,
  is_fault: Callable[[int], bool],
  grace: float,
  write: Callable[[bytes], object],
  tell: Callable[[str], object],
) -> list[Ending]:
  endings: list[Ending] = []
  kill_at = None
  while not _all_settled(children):
    _read_some(children, write)
    for child in children:
      if not child.has_just_ended():
        continue
      write(child.read())  # its last words come before ours
      endings.append(Ending(child.place, child.code or 0))
      if kill_at is None and is_fault(endings[-1].code):
        kill_at = time.monotonic() + grace
        tell(str(endings[-1]))
        _end_others(children, tell)
    if kill_at is not None and time.monotonic() > kill_at:
      kill_at = float("inf")
      _kill_others(children, grace, tell)
  for child in children:
    write(child.close())
  return endings


def _all_settled(children: Sequence[child_process.Child]) -> bool:
  settled = [child.is_settled() for child in children]  # it acts: ask them all
  return all(settled)


def _read_some(
  children: Sequence[child_process.Child], write: Callable[[bytes], object]
) -> None:
  """Passes on what is there; waits for it, but not for long."""
  with selectors.DefaultSelector() as selector:
    for child in children:
      if child.is_open:
        selector.register(child.pipe, selectors.EVENT_READ, child)
    for key, _ in selector.select(_TICK):
      write(key.data.read())


def _end_others(
  children: Sequence[child_process.Child], tell: Callable[[str], object]
) -> None:
  running = [child for child in children if child.code is None]
  if running:
    tell(f"ending {_named(running)}")
  for child in running:
    child.send(signal.SIGTERM)


def _kill_others(
  children: Sequence[child_process.Child],
  grace: float,
  tell: Callable[[str], object],
) -> None:
  running = [child for child in children if child.code is None]
  if running:
    tell(f"killing {_named(running)}, not ended {grace:g} s after SIGTERM")
  for child in running:
    child.kill()


def _named(children: Sequence[child_process.Child]) -> str:
  places = ", ".join(str(child.place) for child in children)
  return f"process{'es' * (len(children) > 1)} {places}"
