"""Several processes as one run: JAX's distributed runtime, and agreement.

Every process runs the same command. They find each other as
`facejax.runtime.cluster` says, exchange short texts through the coordination
service of JAX, which bounds how long one waits, and end together. A process
alone agrees with itself: nothing here starts or waits for anything then.
"""

import contextlib
import dataclasses
import inspect
import ipaddress
import json
import logging
import os
import re
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import annotated_types

from facejax.runtime import cluster, peers

logger = logging.getLogger(__name__)

# Of a step of agreement; what ends sooner is noticed by `peers`.
_PATIENCE = 24 * 3600
# What a collective says when another process is gone.
_BROKEN = re.compile(
  "gloo|nccl|connection|socket|unavailable|aborted|deadline|barrier|cancelled",
  re.IGNORECASE,
)
_MTLS = ("mtls_cert_file", "mtls_key_file", "mtls_ca_file")


@dataclasses.dataclass(frozen=True)
class Options:
  """How the processes of a command find each other."""

  distributed: Literal["auto", "on", "off"] = "auto"
  """Several processes as one run: auto where the launcher's variables (SLURM,
  Open MPI, torchrun, Kubernetes, TPUs) say so, on insists, off is alone."""
  coordinator: str | None = None
  """HOST:PORT of process 0, where no launcher says it."""
  processes: Annotated[int, annotated_types.Ge(1)] | None = None
  """How many processes there are, likewise."""
  process_id: Annotated[int, annotated_types.Ge(0)] | None = None
  """Which of them this is, from 0."""
  coordinator_bind: str | None = None
  """HOST:PORT where process 0 listens, if not at its own address."""
  heartbeat: Annotated[float, annotated_types.Interval(ge=2, le=3600)] = 60.0
  """Seconds without a sign of life after which a process counts as gone, and
  all others end."""
  start_timeout: Annotated[int, annotated_types.Interval(ge=1, le=86400)] = 300
  """Seconds to wait for the others at the start."""
  end_timeout: Annotated[int, annotated_types.Interval(ge=1, le=86400)] = 300
  """Seconds to wait for the others at the end."""
  mtls_cert_file: str | None = None
  """Certificate with which processes prove themselves (newer versions of
  JAX); with the next two."""
  mtls_key_file: str | None = None
  """Its key."""
  mtls_ca_file: str | None = None
  """Certificate of who signed it."""


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


def start(options: Options, *, stops: bool = False) -> str:
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
  if not _initialize(place, options):
    return ""
  import jax
  from jax._src import distributed

  if not stops:
    # JAX takes the signal as a notice that nobody would ask for here.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
  index, client = jax.process_index(), distributed.global_state.client
  assert client is not None
  _group = _Group(index, ["this process"], client, peers=None)  # pyright: ignore[reportArgumentType]
  names = gather(
    f"process {index} ({socket.gethostname()}, pid {os.getpid()})",
    seconds=options.start_timeout,
  )
  _group.names = names
  _group.peers = peers.Peers(
    client, index=index, names=names, heartbeat=options.heartbeat
  )
  return (
    f"{names[index]} of {len(names)}, found by {place.told_by};"
    f" {jax.local_device_count()} of {jax.device_count()} devices are here"
  )


def _initialize(place: cluster.Place, options: Options) -> bool:
  """Starts JAX's runtime; whether there are other processes after all."""
  import jax

  settings: dict[str, Any] = {
    "initialization_timeout": options.start_timeout,
    # Later than `peers`, whose message names the process.
    "heartbeat_timeout_seconds": round(2 * options.heartbeat + 10),
    "shutdown_timeout_seconds": options.end_timeout,
    "local_device_ids": place.devices,
    "cluster_detection_method": place.method or "deactivate",
    **_mtls(options),
  }
  if place.method == "auto":
    del settings["cluster_detection_method"]
  if place.coordinator:
    settings |= {
      "coordinator_address": place.coordinator,
      "num_processes": place.processes,
      "process_id": place.process_id,
      "coordinator_bind_address": options.coordinator_bind
      or _bind_address(place.coordinator),
    }
  try:
    jax.distributed.initialize(**settings)
  except (RuntimeError, ValueError, OSError) as error:
    if place.method == "auto" and options.distributed == "auto":
      # A single machine with TPUs tells of no others.
      logger.warning("one process alone: %s", _first_line(error))
      return False
    where = place.coordinator or place.told_by
    raise OSError(
      f"the processes could not be brought together ({where}; known from"
      f" {place.told_by}) in {options.start_timeout} s: {_first_line(error)}."
      " Is process 0 running, and is its port open to the others?"
    ) from error
  if jax.process_count() == 1:
    jax.distributed.shutdown()
    return False
  return True


def _bind_address(coordinator: str) -> str:
  """Where process 0 listens: at the address that the others were given.

  Some systems give a machine's own name an address of the loop back, where no
  other machine could reach it: then at all addresses.
  """
  host, _, port = coordinator.rpartition(":")
  with contextlib.suppress(ValueError):
    ipaddress.ip_address(host.strip("[]"))
    return coordinator
  with contextlib.suppress(OSError):
    found = ipaddress.ip_address(socket.gethostbyname(host))
    if not found.is_loopback or host == "localhost":
      return f"{found}:{port}"
  return f"[::]:{port}"


def _mtls(options: Options) -> dict[str, str]:
  given = {name: getattr(options, name) for name in _MTLS}
  if not any(given.values()):
    return {}
  if not all(given.values()):
    raise ValueError(f"{', '.join(_MTLS)} belong together: give all three")
  for name, path in given.items():
    if not os.path.isfile(path):
      raise FileNotFoundError(f"{name}: there is no file {path!r}")
  import jax

  known = inspect.signature(jax.distributed.initialize).parameters
  if not set(_MTLS) <= set(known):
    raise ValueError(
      f"JAX {jax.__version__} does not know {', '.join(_MTLS)}: install a newer"
      " one, or do without and keep the coordinator's port to yourselves"
    )
  return given


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
      f" {_first_line(error)}"
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
    if _BROKEN.search(text) and not isinstance(error, KeyboardInterrupt):
      _group.peers.wait_for_news(_first_line(error))
    traceback.print_exc()
    sys.stderr.flush()
    _group.peers.fail(text, peers.EXIT_FAILED)


def _leave(code: int, text: str) -> None:
  global _group
  if _group is None:
    return
  if text:
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
    peers.dump_stacks(me)
  peers.say(f"error: {text}")
  if _group is None:
    peers.leave_at_once(code)
  else:
    _group.peers.fail(text, code, stacks=stacks)


def _first_line(error: BaseException) -> str:
  text = str(error).strip() or type(error).__name__
  return text.splitlines()[0][:300]
