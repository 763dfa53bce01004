"""What the steps of `accelerator_check.sh` share: machine, clock and record."""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax

from facejax.runtime import whole_files

ROOT = pathlib.Path(__file__).resolve().parents[1]
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "libtpu")
_PACKAGES += ("jax-cuda13-plugin", "jax-cuda12-plugin", "tokamax")
_ASKED = "name,driver_version,memory.total,clocks.max.sm,power.limit"


def arguments(description: str | None, step: str) -> argparse.Namespace:
  """The command line that all steps have."""
  parser = argparse.ArgumentParser(
    description=description,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("--out", type=pathlib.Path, default=".", help=f"folder of {step}.json")
  add("--seconds", type=float, default=1e9, help="begin nothing after these")
  add("--tiny", action="store_true", help="sizes that any CPU does in seconds")
  return parser.parse_args()


def machine() -> dict[str, Any]:
  """The hardware and what runs on it, as far as either can be asked."""
  device, known = jax.devices()[0], {}
  for name in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      known[name] = importlib.metadata.version(name)
  cpuinfo = pathlib.Path("/proc/cpuinfo")
  named = cpuinfo.read_text() if cpuinfo.exists() else ""
  named = named.partition("model name\t: ")[2].partition("\n")[0]
  commit = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
  return {
    "device": device.device_kind,
    "platform": device.platform,
    "devices": jax.device_count(),
    "memory": (device.memory_stats() or {}).get("bytes_limit"),
    "driver": said(["nvidia-smi", f"--query-gpu={_ASKED}", "--format=csv"]),
    "backend": getattr(device.client, "platform_version", None),
    "cpu": named or platform.machine(),
    "cores": os.cpu_count(),
    "python": platform.python_version(),
    "packages": known,
    "flags": {
      name: os.environ[name]
      for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_PLATFORMS")
      if name in os.environ
    },
    "commit": os.environ.get("COMMIT") or said(commit),
    "date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
  }


def kind() -> str:
  """ "cpu", "gpu" or "tpu"."""
  return jax.default_backend()


def said(command: list[str]) -> str | None:
  """What a program prints; None where there is none or it fails."""
  if not shutil.which(command[0]):
    return None
  with contextlib.suppress(OSError, subprocess.SubprocessError):
    done = subprocess.run(
      command, capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout.strip()
  return None


class Record:
  """The file of a step, whole on the disk after every result.

  Attributes:
    results: what was found so far, in order.
    pace: of `timed`, so that the tiny form takes no longer than it must.
  """

  def __init__(self, step: str, args: argparse.Namespace):
    self.pace = {"rounds": 2, "turn": 0.0} if args.tiny else {}
    self._path = args.out / f"{step}.json"
    self._end = time.monotonic() + args.seconds
    self._head = {
      "step": step,
      "command": " ".join(["python", *sys.argv]),
      "machine": machine(),
    }
    self.results: list[dict[str, Any]] = []
    self._write("running")

  def add(self, name: str, **found: Any) -> None:
    """Keeps a result, and prints it as one line."""
    self.results.append({"name": name, **found})
    self._write("running")
    print(json.dumps(self.results[-1], default=str), flush=True)

  @contextlib.contextmanager
  def attempt(self, name: str) -> Iterator[None]:
    """Around one case: what goes wrong is its result, and the next follows.

    Memory that does not suffice is an answer, not an error.
    """
    try:
      yield
    except Exception as error:
      lines = f"{type(error).__name__}: {error}".splitlines()
      if "RESOURCE_EXHAUSTED" in lines[0] or isinstance(error, MemoryError):
        self.add(name, skipped=lines[0][:300])
        return
      traceback.print_exc()
      self.add(name, error="\n".join(lines)[:1000])

  def late(self, name: str) -> bool:
    """Whether the time is up; then says so in the place of a result."""
    if time.monotonic() < self._end:
      return False
    self.add(name, skipped="no time left")
    return True

  def finish(self) -> int:
    """Closes the file; the exit code: 1 if a case went wrong."""
    self._write("finished")
    return int(any("error" in each for each in self.results))

  def _write(self, state: str) -> None:
    content = {**self._head, "state": state, "results": self.results}
    text = json.dumps(content, indent=1, default=str) + "\n"
    whole_files.write(self._path, text)


def timed(
  work: Callable[[], Any], *, rounds: int = 7, turn: float = 0.15
) -> dict[str, Any]:
  """Seconds of one of many in a row: median, and each round's.

  Args:
    work: starts it on the device, and returns arrays to wait for.
    rounds: how often it is measured.
    turn: seconds of a round, one run at the least.
  """
  jax.block_until_ready(work())

  def once(repeats: int) -> float:
    start, last = time.perf_counter(), None
    for _ in range(repeats):
      last = work()
    jax.block_until_ready(last)
    return (time.perf_counter() - start) / repeats

  repeats = min(max(1, round(turn / once(1))), 200)
  times = [once(repeats) for _ in range(rounds)]
  return {
    "seconds": statistics.median(times),
    "rounds": times,
    "repeats": repeats,
  }


def compiled(lowered: Any) -> tuple[Any, dict[str, Any]]:
  """A program, and what compiling it took and tells of its memory."""
  start = time.perf_counter()
  program = lowered.compile()
  spent, memory = time.perf_counter() - start, program.memory_analysis()
  new = memory.output_size_in_bytes - memory.alias_size_in_bytes
  return program, {
    "compile_seconds": spent,
    "arguments": memory.argument_size_in_bytes,
    "temporaries": memory.temp_size_in_bytes + new,
  }


def peak() -> int | None:
  """Most bytes that this process has held on the device so far."""
  return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def torch_device() -> str | None:
  """Where PyTorch would run beside this JAX; None where that is no match."""
  if importlib.util.find_spec("torch") is None:
    return None
  if jax.default_backend() == "cpu":
    return "cpu"
  # Asked of another process: both bring libraries of the same names.
  ask = "import torch; print(torch.cuda.is_available())"
  found = said([sys.executable, "-c", ask])
  return "cuda" if found == "True" else None
