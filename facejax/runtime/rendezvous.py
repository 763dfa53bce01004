"""How the processes of a command come together: options, and JAX's start."""

import contextlib
import dataclasses
import inspect
import ipaddress
import logging
import os
import socket
from typing import Annotated, Any, Literal

from facejax.runtime import launchers, ranges, text_lines

logger = logging.getLogger(__name__)

_MTLS = ("mtls_cert_file", "mtls_key_file", "mtls_ca_file")


@dataclasses.dataclass(frozen=True)
class ProcessOptions:
  """How the processes of a command find each other."""

  distributed: Literal["auto", "on", "off"] = "auto"
  """Several processes as one run: auto where the launcher's variables (SLURM,
  Open MPI, torchrun, Kubernetes, TPUs) say so, on insists, off is alone."""
  coordinator: str | None = None
  """HOST:PORT of process 0, where no launcher says it."""
  processes: Annotated[int, ranges.Range(1)] | None = None
  """How many processes there are, likewise."""
  process_id: Annotated[int, ranges.Range(0)] | None = None
  """Which of them this is, from 0."""
  coordinator_bind: str | None = None
  """HOST:PORT where process 0 listens, if not at its own address."""
  heartbeat: Annotated[float, ranges.Range(2, 3600)] = 60.0
  """Seconds without a sign of life after which a process counts as gone, and
  all others end."""
  start_timeout: Annotated[int, ranges.Range(1, 86400)] = 300
  """Seconds to wait for the others at the start."""
  end_timeout: Annotated[int, ranges.Range(1, 86400)] = 300
  """Seconds to wait for the others at the end."""
  mtls_cert_file: str | None = None
  """Certificate with which processes prove themselves (newer versions of
  JAX); with the next two."""
  mtls_key_file: str | None = None
  """Its key."""
  mtls_ca_file: str | None = None
  """Certificate of who signed it."""


def initialize(place: launchers.Place, options: ProcessOptions) -> bool:
  """Starts JAX's runtime; whether there are other processes after all."""
  import jax

  settings: dict[str, Any] = {
    "initialization_timeout": options.start_timeout,
    # Later than `peers`, whose message names the process.
    "heartbeat_timeout_seconds": round(2 * options.heartbeat + 10),
    "shutdown_timeout_seconds": options.end_timeout,
    "local_device_ids": place.devices,
    # JAX's own name of "auto" is None.
    "cluster_detection_method": (
      None if place.method == "auto" else place.method or "deactivate"
    ),
    **_mtls(options),
  }
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
      logger.warning("one process alone: %s", text_lines.first_line(error))
      return False
    where = place.coordinator or place.told_by
    raise OSError(
      f"the processes could not be brought together ({where}; known from"
      f" {place.told_by}) in {options.start_timeout} s: {text_lines.first_line(error)}."
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


def _mtls(options: ProcessOptions) -> dict[str, str]:
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
