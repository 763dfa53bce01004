"""Runs for `same_computation.py`: started, killed, and what they leave."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import chaos_world as world

_RECORDED = pathlib.Path(__file__).with_name("recorded_recipe.py")
_LIMIT = 3600.0

# None where a loss was not finite.
Losses = Mapping[int, float | None]
# Step -> place in the batch -> digest.
Batches = Mapping[int, Mapping[int, str]]


@dataclasses.dataclass(frozen=True)
class Found:
  """What a run left: its losses and batches by step, and its seconds."""

  losses: Losses
  batches: Batches
  seconds: float


class Run:
  """A run that is under way.

  Args:
    recipe: what to train.
    workdir: its folder; beside it go its notes and what it says.
    processes: how many.
    devices: of each.
    flags: further ones of the trainer.
    last: the step that is its last, and then it waits; None for no such step.
  """

  def __init__(
    self,
    recipe: str,
    workdir: pathlib.Path,
    *,
    processes: int,
    devices: int,
    flags: Sequence[str],
    last: int | None = None,
  ):
    self._workdir, self._started = workdir, time.monotonic()
    self._notes = workdir.with_name(f"{workdir.name}.notes")
    self._log = workdir.with_name(f"{workdir.name}.txt")
    config = f"{_RECORDED}:{recipe}"
    noted = {"folder": str(self._notes), "last": last}
    with self._log.open("w") as output:
      self._launch = subprocess.Popen(
        [
          *(sys.executable, "-m", "facejax.launch", "--platform", "cpu"),
          *("--processes", str(processes)),
          *("--devices-per-process", str(devices), "--", "train"),
          *("--config", config, "--workdir", str(workdir), *flags),
        ],
        env=os.environ | {"RECORDED": json.dumps(noted)},
        stdout=output,
        stderr=subprocess.STDOUT,
      )

  def end(self) -> Found:
    """What it has left at its own end.

    Raises:
      RuntimeError: with the last that it said, if it failed.
    """
    if code := self._wait():
      raise RuntimeError(f"{self._workdir} ended with {code}: {self._said()}")
    return self._found()

  def killed_after(self, step: int) -> Found:
    """What it has left once SIGKILL has ended it, a logged step or more later.

    Raises:
      RuntimeError: if it ended by itself.
    """
    deadline = time.monotonic() + _LIMIT
    while max(world.losses(self._workdir), default=0) < step:
      if self._launch.poll() is not None or time.monotonic() > deadline:
        self._launch.terminate()
        raise RuntimeError(f"step {step} was not reached: {self._said()}")
      time.sleep(0.02)
    for path in self._notes.glob("*.jsonl"):
      # The launcher may have met the end of all with that of the first.
      with contextlib.suppress(ProcessLookupError):
        os.kill(_lines(path)[0]["pid"], signal.SIGKILL)
    if (code := self._wait()) != 128 + signal.SIGKILL:
      raise RuntimeError(f"killed, it ended with {code}: {self._said()}")
    return self._found()

  def _wait(self) -> int:
    try:
      return self._launch.wait(_LIMIT)
    except subprocess.TimeoutExpired:
      self._launch.terminate()
      raise RuntimeError(f"{self._workdir} hangs: {self._said()}") from None

  def _said(self) -> str:
    return self._log.read_text(errors="replace")[-3000:]

  def _found(self) -> Found:
    seconds = time.monotonic() - self._started
    return Found(world.losses(self._workdir), batches(self._notes), seconds)


def _lines(path: pathlib.Path) -> list[dict[str, Any]]:
  """The whole lines of a file that a killed process may have written."""
  text = path.read_text(encoding="utf-8")
  return [*map(json.loads, text[: text.rfind("\n") + 1].splitlines())]


def batches(notes: pathlib.Path) -> Batches:
  """The batches that the processes of a run have noted, each of its part."""
  found: dict[int, dict[int, str]] = {}
  for path in sorted(notes.glob("*.jsonl")):
    for line in _lines(path)[1:]:
      places = found.setdefault(line["step"], {})
      for place, digest in enumerate(line["images"], start=line["first"]):
        # Devices that are given other images at one place never compare.
        known = places.setdefault(place, digest)
        places[place] = digest if known == digest else f"{known} or {digest}"
  return found
