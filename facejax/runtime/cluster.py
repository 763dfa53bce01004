"""What the environment says of the processes that a command is one of.

Launchers tell each process who it is by variables, each launcher by its own.
Nothing here starts anything: see `facejax.runtime.distributed`.
"""

import glob
import importlib.util
import re
from collections.abc import Sequence

from facejax.runtime import launchers

Environment = launchers.Environment


def find(
  environment: Environment,
  *,
  coordinator: str | None = None,
  processes: int | None = None,
  process_id: int | None = None,
) -> launchers.Place | None:
  """The place of this process; None if it is alone.

  What is given comes first, then, in this order: JAX_COORDINATOR_ADDRESS with
  JAX_NUM_PROCESSES (NNODES) and JAX_PROCESS_ID (NODE_RANK, or the
  JOB_COMPLETION_INDEX of an indexed Job); the variables of torchrun; SLURM;
  Open MPI; MPI by mpi4py; Kubernetes; TPUs.

  Args:
    environment: variables by name, such as `os.environ`.
    coordinator: HOST:PORT of process 0.
    processes: how many there are.
    process_id: which of them this is.

  Raises:
    ValueError: if something is missing or out of range, or several processes
      were started that could not find each other.
  """
  given = coordinator, processes, process_id
  if any(one is not None for one in given):
    return _given(environment, *given)
  for look in _LOOKS:
    if place := look(environment):
      return place if place.processes != 1 else None
  return None


def _given(
  environment: Environment,
  coordinator: str | None,
  processes: int | None,
  process_id: int | None,
) -> launchers.Place | None:
  """By flags; what they leave out, by JAX's variables."""
  found = {
    "--coordinator": coordinator or _address(environment),
    "--processes": processes or launchers.number(environment, *_COUNTS),
    "--process-id": (
      launchers.number(environment, *_IDS) if process_id is None else process_id
    ),
  }
  missing = [name for name, value in found.items() if value in (None, "")]
  if processes == 1:
    return None
  if missing:
    raise ValueError(
      "--coordinator HOST:PORT, --processes N and --process-id I belong"
      f" together: {' and '.join(missing)} missing"
    )
  return launchers.checked(launchers.Place("flags", *found.values()))  # pyright: ignore[reportArgumentType]


_COUNTS = ("JAX_NUM_PROCESSES", "NNODES")
_IDS = ("JAX_PROCESS_ID", "NODE_RANK", "JOB_COMPLETION_INDEX")


def _jax(environment: Environment) -> launchers.Place | None:
  address = _address(environment)
  processes = launchers.number(environment, *_COUNTS)
  if not address or processes is None:
    return None
  process_id = launchers.number(environment, *_IDS)
  if process_id is None:
    if processes == 1:
      return None
    raise ValueError(
      f"JAX_COORDINATOR_ADDRESS={address} and {processes} processes, but none"
      f" of {', '.join(_IDS)} says which of them this is"
    )
  by = "JAX_COORDINATOR_ADDRESS"
  return launchers.checked(launchers.Place(by, address, processes, process_id))


def _address(environment: Environment) -> str:
  address = environment.get("JAX_COORDINATOR_ADDRESS", "")
  port = environment.get("JAX_COORDINATOR_PORT", "")
  if address and port and not re.search(r":\d+$", address):
    return f"{address}:{port}"
  return address


def _kubernetes(environment: Environment) -> launchers.Place | None:
  if "KUBERNETES_SERVICE_HOST" not in environment:
    return None
  index = environment.get("JOB_COMPLETION_INDEX")
  if index is None or importlib.util.find_spec("kubernetes") is None:
    return None
  return launchers.Place("Kubernetes", method="k8s")


def _tpu(environment: Environment) -> launchers.Place | None:
  """Several machines of TPUs, of which libtpu and their metadata know."""
  workers = environment.get("TPU_PROCESS_ADDRESSES") or environment.get(
    "TPU_WORKER_HOSTNAMES", ""
  )
  slices = launchers.number(environment, "MEGASCALE_NUM_SLICES") or 1
  if "," in workers or slices > 1:
    return launchers.Place("the variables of TPUs", method="auto")
  on_tpu = glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*")
  asks = "TPU_SKIP_MDS_QUERY" not in environment and not workers
  if on_tpu and asks and importlib.util.find_spec("libtpu") is not None:
    return launchers.Place("the metadata of TPUs", method="auto")
  return None


_LOOKS = (
  _jax,
  launchers.torchrun,
  launchers.slurm,
  launchers.open_mpi,
  launchers.mpi,
  _kubernetes,
  _tpu,
)


def looked_for() -> Sequence[str]:
  """What `find` looks for, in words."""
  return (
    "--coordinator, --processes and --process-id",
    "JAX_COORDINATOR_ADDRESS with JAX_NUM_PROCESSES and JAX_PROCESS_ID",
    "WORLD_SIZE, RANK and MASTER_ADDR (torchrun)",
    "SLURM, Open MPI, mpi4py, Kubernetes, TPUs",
  )
