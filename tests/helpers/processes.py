"""Several processes that run one command together, each of its own devices."""

import os
import pathlib
import socket
import subprocess
import sys
import time

from facejax.runs import history
from helpers import compiling, paths

NARROW = pathlib.Path(__file__).with_name("narrow_recipe.py")
TINY = ["--config", f"{NARROW}:cosface"]


def start(
  arguments, *, count=2, devices=1, command=("-m", "facejax.train"), each=()
):
  """Starts the processes of one command.

  Args:
    arguments: of all.
    count: how many processes.
    devices: of each.
    command: what Python runs.
    each: further arguments of each process.
  """
  port = _free_port()
  processes = []
  for k in range(count):
    environment = compiling.environment() | {
      "JAX_PLATFORMS": "cpu",
      "JAX_NUM_CPU_DEVICES": str(devices),
      "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
      "JAX_NUM_PROCESSES": str(count),
      "JAX_PROCESS_ID": str(k),
      "FACEJAX_TEST_PROCESS": str(k),
      "PYTHONPATH": os.pathsep.join(
        (str(paths.ROOT), str(paths.ROOT / "tests"))
      ),
    }
    own = each[k] if each else []
    processes.append(
      subprocess.Popen(
        [sys.executable, *command, *map(str, [*arguments, *own])],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
      )
    )
  return processes


def finish(processes, timeout=300):
  """Exit codes and outputs of all; nobody is left behind."""
  try:
    outputs = [one.communicate(timeout=timeout)[0] for one in processes]
  finally:
    for one in processes:
      one.kill()
  return [one.returncode for one in processes], outputs


def run(arguments, **options):
  """Runs a command to its end; exit codes and outputs."""
  return finish(start(arguments, **options))


def wait_for_step(workdir, step, processes, timeout=240):
  """Waits until the log of running processes has reached a step."""
  deadline = time.monotonic() + timeout
  while time.monotonic() < deadline:
    if any(record["step"] >= step for record in history.read(workdir)):
      return
    if any(one.poll() is not None for one in processes):
      break
    time.sleep(0.02)
  for one in processes:
    one.kill()
  raise AssertionError(f"step {step} was not reached:\n{finish(processes)[1]}")


def _free_port():
  with socket.socket() as one:
    one.bind(("127.0.0.1", 0))
    return one.getsockname()[1]
