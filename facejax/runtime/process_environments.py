"""The variables that make several processes of one machine one computation."""

import pathlib
import socket
from collections.abc import Mapping, Sequence

PLATFORMS = ("auto", "cpu", "cuda")
_HERE = "127.0.0.1"
# Names of no GPU in CUDA_VISIBLE_DEVICES.
_NONE = ("", "-1")


def environments(
  base: Mapping[str, str],
  *,
  processes: int,
  devices: int | None,
  platform: str,
  port: int,
) -> list[dict[str, str]]:
  """The variables of each process: where the first one is, and what is its own.

  Args:
    base: variables that all have.
    processes: how many there are.
    devices: CPU devices or GPUs of each; None for JAX's choice or an even share
      of the GPUs.
    platform: one of PLATFORMS; auto takes the GPUs of NVIDIA that are there,
      unless JAX_PLATFORMS names another platform.
    port: at which the first process will listen.

  Raises:
    ValueError: if the GPUs do not suffice, or cannot be dealt out evenly.
  """
  gpus = [] if platform == "cpu" else _gpus(base)
  platforms = base.get("JAX_PLATFORMS", "")
  wanted = not platforms or "cuda" in platforms or "gpu" in platforms
  if platform == "cuda" or (gpus and wanted):
    own = _shares(gpus, processes, devices)
  else:
    own = [_cpu(platform, devices)] * processes
  shared = {k: v for k, v in base.items() if k != "JAX_LOCAL_DEVICE_IDS"} | {
    "JAX_COORDINATOR_ADDRESS": f"{_HERE}:{port}",
    "JAX_NUM_PROCESSES": str(processes),
    # Lines come when they are written, and a killed process has said all.
    "PYTHONUNBUFFERED": "1",
  }
  return [
    shared | {"JAX_PROCESS_ID": str(k)} | own[k] for k in range(processes)
  ]


def free_port() -> int:
  """A port of this machine at which nobody listens just now."""
  with socket.socket() as one:
    one.bind((_HERE, 0))
    return one.getsockname()[1]


def _cpu(platform: str, devices: int | None) -> dict[str, str]:
  own = {"JAX_PLATFORMS": "cpu"} if platform == "cpu" else {}
  return own | (
    {} if devices is None else {"JAX_NUM_CPU_DEVICES": str(devices)}
  )


def _shares(
  gpus: Sequence[str], count: int, size: int | None
) -> list[dict[str, str]]:
  if size is None and len(gpus) % count == 0:
    size = len(gpus) // count
  if not size or count * size > len(gpus):
    raise ValueError(_no_share(count, size, len(gpus)))
  return [
    {"CUDA_VISIBLE_DEVICES": ",".join(gpus[k * size : (k + 1) * size])}
    for k in range(count)
  ]


def _no_share(count: int, size: int | None, there: int) -> str:
  """Why GPUs cannot be dealt out, and what would do."""
  if not there:
    return (
      "no NVIDIA GPU is there (none as /dev/nvidia0 …, or CUDA_VISIBLE_DEVICES"
      " hides them): --platform cpu runs on the CPU"
    )
  if size:
    return (
      f"--processes {count} with --devices-per-process {size} need"
      f" {count * size} GPUs, {there} are there"
    )
  fitting = [str(n) for n in range(1, there + 1) if there % n == 0]
  return (
    f"--processes {count} cannot share {there} GPUs evenly: give --processes"
    f" {', '.join(fitting)}, or say how many each has: --devices-per-process"
  )


def _gpus(base: Mapping[str, str]) -> list[str]:
  """The names of the GPUs that may be used, as CUDA has them."""
  given = base.get("CUDA_VISIBLE_DEVICES")
  if given is not None:
    return [one for one in map(str.strip, given.split(",")) if one not in _NONE]
  found = pathlib.Path("/dev").glob("nvidia[0-9]*")
  return [*map(str, range(len([*found])))]
