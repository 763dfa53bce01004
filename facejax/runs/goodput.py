"""goodput.json: where the wall time of a run went, over all its starts.

`{"step": 120, "seconds": {"steps": 61.5, …}, "saved": [{"step": 100, "seconds":
{…}}, …]}`

`seconds` are those of all processes that worked in the folder one after the
other, by what they went to; `saved` is how they stood when a checkpoint was
written. A start that goes on from a checkpoint finds there what was done after
it, and counts it as lost.
"""

import dataclasses
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from facejax.runs import folder
from facejax.runtime import json_files

logger = logging.getLogger(__name__)

LOST = "lost"
# Of what counts to what people read, in its order.
_TITLES = {
  "steps": "steps",
  "compiling": "compiling",
  "input": "waiting for input",
  "saving": "saving",
  "verifying": "verifying",
  LOST: "lost to restarts (done again)",
  "starting": "starting (reading, restoring)",
  "other": "other",
}
# What was compiled and read for a start was of use to that start alone; what
# comes of all else after a checkpoint is done again.
_OF_A_START = ("starting", "compiling", LOST)
# So many checkpoints are remembered; an older one is hardly gone back to.
_MOST_SAVED = 16

Seconds = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Spent:
  """Where the time went.

  Attributes:
    step: the last that the seconds know of.
    seconds: by what they went to; "lost" is what had to be done again.
    saved: the same at checkpoints, by their step.
  """

  step: int = 0
  seconds: Seconds = dataclasses.field(default_factory=dict)
  saved: Mapping[int, Seconds] = dataclasses.field(default_factory=dict)

  def rows(self) -> list[tuple[str, float, float]]:
    """What the time went to: in words, in seconds, as a share of the whole."""
    whole = sum(self.seconds.values()) or 1.0
    spent = [(self.seconds.get(name, 0.0), name) for name in _TITLES]
    return [(_TITLES[name], each, each / whole) for each, name in spent]

  def at_checkpoint(self) -> "Spent":
    """With the step of now as one that can be gone back to."""
    saved = {**self.saved, self.step: dict(self.seconds)}
    kept = dict(sorted(saved.items())[-_MOST_SAVED:])
    return dataclasses.replace(self, saved=kept)

  def from_step(self, step: int) -> "Spent":
    """With what was done after a step as lost.

    Nothing is lost where the last step is that one, nor where it is not known
    how the seconds stood there.

    >>> now = Spent(3, {"steps": 5.0}, {2: {"steps": 4.0}})
    >>> now.from_step(2).seconds
    {'steps': 4.0, 'lost': 1.0}
    """
    before = self.saved.get(step, {} if step == 0 else None)
    kept = {at: each for at, each in self.saved.items() if at <= step}
    if self.step <= step or before is None:
      return dataclasses.replace(self, step=step, saved=kept)
    seconds = dict(self.seconds)
    for name in seconds.keys() - set(_OF_A_START):
      since = seconds[name] - before.get(name, 0.0)
      seconds[name] -= since
      seconds[LOST] = seconds.get(LOST, 0.0) + since
    return Spent(step, seconds, kept)


def read(run: str | os.PathLike[str]) -> Spent:
  """What the folder of a run says; nothing spent where it says nothing.

  A damaged file is named in the log: no run depends on it.
  """
  path = pathlib.Path(run, folder.GOODPUT)
  try:
    found = json_files.read_or_none(path)
    return Spent() if found is None else _parsed(found)
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    logger.warning("%s is not counted on: damaged (%s)", path, error)
    return Spent()


def write(run: str | os.PathLike[str], spent: Spent) -> None:
  """Keeps it in the folder of a run, whole or not at all.

  Raises:
    OSError: if it cannot be written.
  """
  content = {
    "step": spent.step,
    "seconds": _rounded(spent.seconds),
    "saved": [
      {"step": step, "seconds": _rounded(each)}
      for step, each in spent.saved.items()
    ],
  }
  json_files.write(pathlib.Path(run, folder.GOODPUT), content)


def _parsed(found: Mapping[str, Any]) -> Spent:
  saved = {int(one["step"]): _seconds(one["seconds"]) for one in found["saved"]}
  return Spent(int(found["step"]), _seconds(found["seconds"]), saved)


def _seconds(found: Mapping[str, Any]) -> Seconds:
  return {str(name): float(value) for name, value in found.items()}


def _rounded(seconds: Seconds) -> Seconds:
  return {name: round(value, 3) for name, value in seconds.items()}
