"""What each launcher tells the processes that it starts: a function for each."""

import dataclasses
import importlib.util
import re
from collections.abc import Mapping

# Ports that nobody is given by the system: 61,440 and the 4,095 above it.
_FIRST_PORT, _PORTS = 61_440, 4_096

Environment = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Place:
  """The place of a process among others.

  Attributes:
    told_by: where this is known from, in words.
    coordinator: HOST:PORT of process 0; empty where JAX alone knows.
    processes: how many there are; 0 where JAX alone knows.
    process_id: which of them this is, from 0.
    devices: which of the machine's accelerators are its own, by number; None
      takes all that it sees.
    method: by which JAX finds what is not said here; empty for none.
  """

  told_by: str
  coordinator: str = ""
  processes: int = 0
  process_id: int = 0
  devices: tuple[int, ...] | None = None
  method: str = ""


def torchrun(environment: Environment) -> Place | None:
  """By the variables of torchrun."""
  names = "WORLD_SIZE", "RANK", "MASTER_ADDR"
  if not all(environment.get(name) for name in names):
    return None
  # MASTER_PORT is torchrun's own store.
  port = (number(environment, "MASTER_PORT") or 29_500) + 1
  on_node = number(environment, "LOCAL_WORLD_SIZE") or 1
  local = number(environment, "LOCAL_RANK") or 0
  return checked(
    Place(
      "torchrun's variables (WORLD_SIZE, RANK, MASTER_ADDR)",
      f"{environment['MASTER_ADDR']}:{port}",
      number(environment, "WORLD_SIZE") or 1,
      number(environment, "RANK") or 0,
      _share(environment, local, on_node),
    )
  )


def slurm(environment: Environment) -> Place | None:
  """A task of a step that srun started; a batch script alone is none."""
  nodes = environment.get("SLURM_STEP_NODELIST")
  processes = number(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS") or 1
  if not nodes or processes < 2:
    return None
  job = number(environment, "SLURM_JOB_ID")
  process_id = number(environment, "SLURM_PROCID")
  first = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)
  if job is None or process_id is None or first is None:
    raise ValueError(
      f"srun started {processes} tasks, but SLURM_JOB_ID, SLURM_PROCID or"
      " SLURM_STEP_NODELIST do not say which this is; give --coordinator"
      " HOST:PORT, --processes and --process-id"
    )
  # The tasks of each node, such as 4(x2),3.
  tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", "1")
  on_node = max(int(one) for one in re.findall(r"(\d+)(?:\(x\d+\))?", tasks))
  local = number(environment, "SLURM_LOCALID") or 0
  return checked(
    Place(
      "SLURM",
      f"{first[1]}{first[2] or ''}:{_port(job)}",
      processes,
      process_id,
      _share(environment, local, on_node),
    )
  )


def open_mpi(environment: Environment) -> Place | None:
  """A process that mpirun of Open MPI started."""
  processes = number(environment, "OMPI_COMM_WORLD_SIZE") or 1
  if processes < 2:
    return None
  local = number(environment, "OMPI_COMM_WORLD_LOCAL_RANK") or 0
  on_node = number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE") or 1
  # 1531576320.0;tcp://10.96.0.1,10.148.0.1:34911, of mpirun itself.
  uri = environment.get("OMPI_MCA_orte_hnp_uri", "")
  mpirun = re.match(r"(\d+)\..*?(?:tcp6://\[([^,\]]+)|tcp://([^,:]+))", uri)
  if mpirun:
    host, job = mpirun[3] or f"[{mpirun[2]}]", int(mpirun[1]) // 4096
  elif on_node == processes:
    host = "127.0.0.1"
    name = environment.get("PMIX_NAMESPACE", "")
    job = sum(ord(letter) * (k + 1) for k, letter in enumerate(name))
  else:
    raise _unusable(
      f"mpirun started {processes} processes on several machines",
      "OMPI_MCA_orte_hnp_uri",
    )
  return checked(
    Place(
      "Open MPI",
      f"{host}:{_port(job)}",
      processes,
      number(environment, "OMPI_COMM_WORLD_RANK") or 0,
      _share(environment, local, on_node),
    )
  )


def mpi(environment: Environment) -> Place | None:
  """MPICH and its kin, of which mpi4py knows more."""
  processes = number(environment, "PMI_SIZE") or 1
  if processes < 2:
    return None
  if importlib.util.find_spec("mpi4py") is None:
    raise _unusable(
      f"MPI started {processes} processes (PMI_SIZE)", "the package mpi4py"
    )
  local = number(environment, "MPI_LOCALRANKID") or 0
  on_node = number(environment, "MPI_LOCALNRANKS") or 1
  devices = _share(environment, local, on_node)
  return Place("MPI", devices=devices, method="mpi4py")


def checked(place: Place) -> Place:
  """The place, if it can be one.

  Raises:
    ValueError: naming what is out of range.
  """
  host, _, port = place.coordinator.rpartition(":")
  if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
    raise ValueError(
      f"coordinator {place.coordinator!r} ({place.told_by}): it must be"
      " HOST:PORT, such as 10.0.0.1:12345"
    )
  if place.processes < 1 or not 0 <= place.process_id < place.processes:
    raise ValueError(
      f"process {place.process_id} of {place.processes} ({place.told_by}): the"
      " first is 0, and there must be more than the last"
    )
  return place


def number(environment: Environment, *names: str) -> int | None:
  """The first of some variables that is set."""
  for name in names:
    text = environment.get(name, "").strip()
    if not text:
      continue
    if not text.isdecimal():
      raise ValueError(f"{name}={text!r} must be a whole number from 0 on")
    return int(text)
  return None


def _share(
  environment: Environment, local: int, on_node: int
) -> tuple[int, ...] | None:
  """The accelerators of one of the tasks that share a machine.

  A task alone takes all that it sees, and so does one that was given its own:
  it sees no more than one.
  """
  visible = environment.get("CUDA_VISIBLE_DEVICES")
  count = number(environment, "SLURM_GPUS_ON_NODE")
  if visible is not None:
    count = len([one for one in visible.split(",") if one.strip()])
  if on_node < 2 or count == 1:
    return None
  each = max(1, (count or on_node) // on_node)
  return tuple(range(local * each, (local + 1) * each))


def _unusable(what: str, without: str) -> ValueError:
  return ValueError(
    f"{what}, which cannot find each other without {without}: each would make"
    " a run of its own. Give --coordinator HOST:PORT, --processes N and"
    " --process-id I, or start one process (--distributed off)"
  )


def _port(job: int) -> int:
  return job % _PORTS + _FIRST_PORT
