"""Several processes as one run: JAX's distributed runtime, and agreement.

Every process runs the same command. They find each other as
`facejax.runtime.cluster` says, exchange short texts through the coordination
service of JAX, which bounds how long one waits, and end together. A process
alone agrees with itself: nothing here starts or waits for anything then.
"""

import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from facejax.runtime import cluster, last_words, peers, rendezvous, text_lines

logger = logging.getLogger(__name__)

# Of a step of agreement; what ends sooner is noticed by `peers`.
_PATIENCE = 24 * 3600
# Of one message, below what the service takes.
_CHUNK = 2**20


@dataclasses.dataclass
class _Group:
  """The processes that this one is one of."""

  index: int
  names: Sequence[str]
  client: Any
  peers: peers.Peers
  exchanges: int = 0
  polls: int = 0


_group: _Group | None = None


def start(options: rendezvous.ProcessOptions, *, stops: bool = False) -> str:
  """Joins the other processes, if there are any; before any device is used.

  Args:
    options: the flags.
    stops: the command asks `must_stop` and saves; otherwise SIGTERM ends it.

  Returns:
    What was found, in words; nothing for a process that is alone.

  Raises:
    ValueError: if the options or the environment contradict themselves.
    OSError: if the others cannot be reached in time.
  """
  global _group
  place = None
  if options.distributed != "off":
    place = cluster.find(
      os.environ,
      coordinator=options.coordinator,
      processes=options.processes,
      process_id=options.process_id,
    )
  if place is None:
    if options.distributed == "on" and options.processes != 1:
      raise ValueError(
        "--distributed on, but nothing says who the others are; looked for "
        + "; ".join(cluster.looked_for())
      )
    return ""
  before = signal.getsignal(signal.SIGTERM)
  if not rendezvous.initialize(place, options):
    return ""
  import jax
  from jax._src import distributed

  if not stops:
    # JAX takes the signal as a notice that nobody would ask for here.
    signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
  index, client = jax.process_index(), distributed.global_state.client
  assert client is not None
  _group = _Group(index, ["this process"], client, peers=None)  # pyright: ignore[reportArgumentType]
  names = gather(
    f"process {index} ({socket.gethostname()}, pid {os.getpid()})",
    seconds=options.start_timeout,
  )
  _group.names = names
  _group.peers = peers.Peers(
    client,
    service=distributed.global_state.coordinator_address or "",
    index=index,
    names=names,
    heartbeat=options.heartbeat,
  )
  return (
    f"{names[index]} of {len(names)}, found by {place.told_by};"
    f" {jax.local_device_count()} of {jax.device_count()} devices are here"
  )


def index() -> int:
  """Which process this is, from 0."""
  return 0 if _group is None else _group.index


def count() -> int:
  """How many processes there are."""
  return 1 if _group is None else len(_group.names)


def primary() -> bool:
  """Whether this process is the one that writes and speaks."""
  return index() == 0


def name(process: int) -> str:
  """A process by number, machine and pid."""
  return "process 0" if _group is None else _group.names[process]


def gather(text: str, *, seconds: float = _PATIENCE) -> list[str]:
  """The texts of all processes, in their order; all must call this.

  Raises:
    TimeoutError: naming those that did not.
  """
  if _group is None:
    return [text]
  _group.exchanges += 1
  folder = f"facejax/exchange/{_group.exchanges}/"
  _group.client.key_value_set(f"{folder}{_group.index:06d}", text)
  try:
    _group.client.wait_at_barrier(folder, round(1000 * seconds))
  except Exception as error:
    raise TimeoutError(
      f"not all processes came together within {seconds:g} s:"
      f" {text_lines.first_line(error)}"
    ) from error
  found = sorted(_group.client.key_value_dir_get(folder))
  # All have read the one before: they have come to this one.
  before = f"facejax/exchange/{_group.exchanges - 1}/{_group.index:06d}"
  if _group.exchanges > 1:
    _group.client.key_value_delete(before)
  return [value for _, value in found]


def gathered(value: Any, *, seconds: float = _PATIENCE) -> list[Any]:
  """The same for anything that JSON can hold."""
  return [json.loads(one) for one in gather(json.dumps(value), seconds=seconds)]


def shared(make: Callable[[], bytes]) -> bytes:
  """Bytes that process 0 makes, for all.

  For what each would have to read from one file server; they are data, and
  nothing in them is run.

  Args:
    make: called in process 0 alone.
  """
  if _group is None:
    return make()
  _group.exchanges += 1
  folder = f"facejax/shared/{_group.exchanges}/"
  client = _group.client
  if primary():
    data = make()
    for k in range(0, len(data), _CHUNK):
      part = data[k : k + _CHUNK]
      client.key_value_set_bytes(f"{folder}{k // _CHUNK}", part)
    client.key_value_set(f"{folder}count", str(-(-len(data) // _CHUNK)))
  else:
    wait = round(1000 * _PATIENCE)
    count = int(client.blocking_key_value_get(f"{folder}count", wait))
    data = b"".join(
      client.blocking_key_value_get_bytes(f"{folder}{k}", wait)
      for k in range(count)
    )
  barrier()
  if primary():
    client.key_value_delete(folder)
  return data


def barrier() -> None:
  """Returns when all processes have come here."""
  gather("")


def only_primary(work: Callable[[], Any]) -> None:
  """Process 0 does something, the others wait for it."""
  if primary():
    work()
  barrier()


def agree(values: Mapping[str, Any], *, seconds: float = _PATIENCE) -> None:
  """Refuses to go on where processes differ in what must be the same.

  Args:
    values: by name, as JSON can hold them.
    seconds: to wait for the others.

  Raises:
    ValueError: naming the process, and what differs.
  """
  first, *others = gathered(values, seconds=seconds)
  for k, other in enumerate(others, start=1):
    differing = [
      f"  {one}: {other.get(one)!r} there, {first.get(one)!r} in process 0"
      for one in sorted({*first, *other})
      if first.get(one) != other.get(one)
    ]
    if differing:
      raise ValueError(
        f"{name(k)} is about to run something else:\n" + "\n".join(differing)
      )


def must_stop() -> bool:
  """Whether a signal reached any process; all must ask equally often.

  All are answered alike, at the same count of questions.
  """
  if _group is None:
    return False
  from jax.experimental import multihost_utils

  _group.polls += 1
  return multihost_utils.reached_preemption_sync_point(_group.polls)


def notice_stop() -> None:
  """Takes whatever asked this process to stop for the whole run's sake."""
  # JAX's runtime knows this signal alone, and tells the others.
  os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def ended_together() -> Iterator[Callable[[int, str], None]]:
  """Around a command: an error in one process ends all, with its message.

  Yields a function that the command is left by: of the exit code, and of what
  was said if it is not 0.
  """
  try:
    yield _leave
  except BaseException as error:
    if _group is None:
      raise
    text = f"{type(error).__name__}: {error}"
    if not isinstance(error, KeyboardInterrupt):
      _group.peers.wait_for_news(text)
    traceback.print_exc()
    sys.stderr.flush()
    _group.peers.fail(text, last_words.EXIT_FAILED)


def _leave(code: int, text: str) -> None:
  global _group
  if _group is None:
    return
  if text:
    # A checkpoint, too, fails where another process is gone.
    _group.peers.wait_for_news(text)
    _group.peers.fail(text, code)
  import jax

  _group.peers.end_together()
  _group = None
  jax.distributed.shutdown()


def fail(text: str, code: int, *, stacks: bool = False) -> None:
  """Ends this process at once, and all others with it.

  Args:
    text: what went wrong.
    code: to exit with.
    stacks: whether all print what their threads are at.
  """
  me = name(index())
  if stacks:
    last_words.dump_stacks(me)
  last_words.say(f"error: {text}")
  if _group is None:
    last_words.leave_at_once(code)
  else:
    _group.peers.fail(text, code, stacks=stacks)
