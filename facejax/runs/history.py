"""metrics.jsonl: the scalars of a run over its steps, one JSON object a line.

`{"step": 120, "kind": "train", "time": 1767225600.0, "loss": 12.31, …}`

`kind` is "train" or "eval", `time` in seconds since 1970; a value that is not
finite is null.
"""

import json
import logging
import math
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from facejax.runs import folder
from facejax.runtime import whole_files

logger = logging.getLogger(__name__)


def read(run: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """The lines of a run; none when there is no such file.

  A line that a killed run left half-written is skipped.
  """
  path = pathlib.Path(run, folder.HISTORY)
  history, unreadable = [], []
  if path.exists():
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
      try:
        entry = json.loads(line)
        history.append(entry | {"step": int(entry["step"])})
      except (ValueError, TypeError, KeyError):
        unreadable.append(number)
    if unreadable and unreadable != [len(lines)]:
      logger.warning("%s: skipped unreadable lines %s", path, unreadable)
  return history


class Writer:
  """Adds lines to the history of a run.

  Args:
    run: the folder, which must exist.
    after: the step that the run goes on from; lines of later steps are
      forgotten.
  """

  def __init__(self, run: str | os.PathLike[str], *, after: int = 0):
    self._path = path = pathlib.Path(run, folder.HISTORY)
    kept = [entry for entry in read(run) if entry["step"] <= after]
    lines = "".join(json.dumps(entry) + "\n" for entry in kept)
    whole_files.write(path, lines)
    self._file = path.open("a", encoding="utf-8")

  def add(self, step: int, kind: str, scalars: Mapping[str, float]) -> None:
    """Adds a line, at once on its way to the disk."""
    finite = {k: v if math.isfinite(v) else None for k, v in scalars.items()}
    entry = {"step": step, "kind": kind, "time": time.time(), **finite}
    with whole_files.naming(self._path):
      self._file.write(json.dumps(entry, allow_nan=False) + "\n")
      self._file.flush()

  def close(self) -> None:
    """Closes the file."""
    with whole_files.naming(self._path):
      self._file.close()
