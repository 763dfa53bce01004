"""Runs for `chaos.py`: started, watched, ended, and held against a calm one."""

import dataclasses
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from facejax.runs import checkpoint, folder, history
from facejax.runtime import process_environments

RECIPE = pathlib.Path(__file__).with_name("chaos_recipe.py")
HEARTBEAT = 4.0
# Far more than any fault may take; what takes longer hangs.
LIMIT = 150.0


class Hang(Exception):
  """Something did not end in time."""


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of a fault.

  Attributes:
    fault: what happened.
    outcome: what came of it, in words.
    seconds: from the fault to the end of all processes.
    ok: nothing lost, nobody left waiting, and a message that names the cause.
  """

  fault: str
  outcome: str
  seconds: float
  ok: bool


class Run:
  """Processes that train together.

  Args:
    workdir: of the run.
    *options: flags of facejax.train.
    count: of processes.
    chaos: what happens to it, see `chaos_recipe`.
    logs: where what they say is kept; beside the work folder.
    **popen: of `subprocess.Popen`.

  Attributes:
    processes: of the system.
    outputs: what they have said, once they have ended.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    *options: object,
    count: int = 1,
    chaos: Mapping[str, Any] | None = None,
    logs: pathlib.Path | None = None,
    **popen: Any,
  ):
    self.workdir = workdir
    self.outputs: list[str] = []
    environments = process_environments.environments(
      os.environ,
      processes=count,
      devices=1,
      platform="cpu",
      port=process_environments.free_port(),
    )
    words = ["--config", RECIPE, "--workdir", workdir, *options]
    words += [
      "--heartbeat",
      HEARTBEAT,
      "--end-timeout",
      20,
      "--start-timeout",
      60,
    ]
    logs = logs or workdir.parent
    self._logs = [logs / f"{workdir.name}.{k}.txt" for k in range(count)]
    self.processes = [
      subprocess.Popen(
        [sys.executable, "-m", "facejax.train", *map(str, words)],
        env=environment
        | {
          "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
          "CHAOS": json.dumps(chaos or {}),
        },
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        **popen,
      )
      for environment, log in zip(environments, self._logs, strict=True)
    ]

  @property
  def alive(self) -> bool:
    """Whether all processes still run."""
    return all(one.poll() is None for one in self.processes)

  def wait_for_step(self, step: int) -> bool:
    """Waits until a step is logged; False if a process ended before that."""

    def reached() -> bool:
      return any(one["step"] >= step for one in history.read(self.workdir))

    return self._wait(reached, f"step {step} was not reached")

  def wait_for_checkpoint(self) -> bool:
    """The same until a checkpoint is whole."""
    return self._wait(
      lambda: bool(whole_steps(self.workdir)), "no checkpoint was written"
    )

  def _wait(self, done: Callable[[], bool], otherwise: str) -> bool:
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
      if done():
        return True
      if not self.alive:
        return False
      time.sleep(0.02)
    self.end()
    raise Hang(otherwise)

  def end(self) -> None:
    """Kills what is left."""
    for one in self.processes:
      one.kill()

  def codes_after(self, step: int) -> tuple[list[int], float]:
    """The exit codes of all, and the seconds from a step to the last end."""
    self.wait_for_step(step)
    began = time.monotonic()
    codes = self.codes()
    return codes, time.monotonic() - began

  def codes(self) -> list[int]:
    """The exit codes of all; waits for them."""
    deadline = time.monotonic() + LIMIT
    try:
      for one in self.processes:
        one.wait(timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
      self.end()
      raise Hang(f"{self._tail()} did not end") from None
    self.outputs = [log.read_text(errors="replace") for log in self._logs]
    return [one.returncode for one in self.processes]

  def said(self, pattern: str) -> bool:
    """Whether any process has said so."""
    return any(re.search(pattern, output) for output in self.outputs)

  def told(self, text: str) -> str:
    """A text, and the last that each process has said."""
    last = [" ".join(output[-600:].split()) for output in self.outputs]
    return " || ".join([text, *last])

  def _tail(self) -> str:
    return " | ".join(log.read_text()[-200:] for log in self._logs)


def whole_steps(workdir: pathlib.Path) -> list[int]:
  """The steps of a run whose checkpoint is whole."""
  return checkpoint.Checkpoints(workdir / folder.CHECKPOINTS).steps


def losses(workdir: pathlib.Path) -> dict[int, float]:
  """The loss of each step."""
  return {
    one["step"]: one["loss"]
    for one in history.read(workdir)
    if one["kind"] == "train"
  }


def same_curve(workdir: pathlib.Path, calm: Mapping[int, float]) -> bool:
  """Whether a run that ended had the losses of a calm one, to rounding."""
  found = losses(workdir)
  return found.keys() == calm.keys() and all(
    abs(found[step] - calm[step]) <= 1e-9 * abs(calm[step]) for step in calm
  )


def calm(workdir: pathlib.Path) -> dict[int, float]:
  """The losses of a run that nothing happens to."""
  run = Run(workdir)
  codes = run.codes()
  if codes != [0]:
    raise RuntimeError(f"the calm run failed: {run.outputs[0][-2000:]}")
  return losses(workdir)


def some_time(rng: random.Random, most: float) -> None:
  """Waits for a random moment."""
  time.sleep(rng.uniform(0, most))


def names(fault: str, words: Sequence[object]) -> str:
  """A fault and how it was drawn."""
  return f"{fault}, {', '.join(map(str, words))}"
