"""Several processes that run one command together, each of its own devices."""

import os
import subprocess
import sys
import time

from facejax.runs import history
from facejax.runtime import process_environments
from helpers import compiling, paths

NARROW = paths.ROOT / "scripts" / "narrow_recipe.py"
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
  environments = process_environments.environments(
    compiling.environment(),
    processes=count,
    devices=devices,
    platform="cpu",
    port=process_environments.free_port(),
  )
  here = os.pathsep.join((str(paths.ROOT), str(paths.ROOT / "tests")))
  processes = []
  for k, environment in enumerate(environments):
    own = each[k] if each else []
    processes.append(
      subprocess.Popen(
        [sys.executable, *command, *map(str, [*arguments, *own])],
        env=environment | {"FACEJAX_TEST_PROCESS": str(k), "PYTHONPATH": here},
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
