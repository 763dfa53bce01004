"""Any recipe, of which each process notes what its devices are given.

  RECORDED='{"folder": "noted"}' python -m facejax.train \\
      --config scripts/recorded_recipe.py:cosface.py:lfw

For `same_computation.py`; nothing of the run is changed. Process K writes
noted/K.jsonl: a line with its number in the system, then for each step and each
of its devices a digest of every image with its label, and where in the batch
they stand. With "last" in RECORDED, the run waits for its end before the step
after that one.
"""

import hashlib
import json
import os
import pathlib
import time
from typing import Any

import numpy as np

from facejax.runtime import distributed
from facejax.training import build, config, recipe


def get_config(preset: str = "cosface.py") -> config.Config:
  """The recipe that the preset names, with a preset of its own or without."""
  _note(**json.loads(os.environ["RECORDED"]))
  return recipe.load(preset)


def _note(folder: str, last: int | None = None) -> None:
  """Each compiled step writes down its batch, before it is taken."""
  compiled = build.compiled

  def with_notes(config: config.Config, program: build.Program) -> Any:
    step = compiled(config, program)
    notes = _Notes(pathlib.Path(folder), last)

    def call(state: Any, images: Any, labels: Any, *frozen: Any) -> Any:
      notes.add(state, images, labels)
      return step(state, images, labels, *frozen)

    return call

  build.compiled = with_notes


class _Notes:
  def __init__(self, folder: pathlib.Path, last: int | None):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{distributed.index()}.jsonl"
    self._file, self._last = path.open("w", encoding="utf-8"), last
    self._step: int | None = None
    self._write({"pid": os.getpid()})

  def add(self, state: Any, images: Any, labels: Any) -> None:
    """What the devices of this process hold of a batch."""
    # Asked once: later it would make the run wait for each step.
    self._step = int(state.step) + 1 if self._step is None else self._step + 1
    if self._last is not None and self._step > self._last:
      time.sleep(10**6)
    of_device = {one.device: one.data for one in labels.addressable_shards}
    for shard in images.addressable_shards:
      pairs = zip(
        np.asarray(shard.data), np.asarray(of_device[shard.device]), strict=True
      )
      first = shard.index[0].start or 0
      digests = [_digest(image, label) for image, label in pairs]
      self._write({"step": self._step, "first": first, "images": digests})

  def _write(self, line: dict[str, Any]) -> None:
    self._file.write(json.dumps(line) + "\n")
    self._file.flush()


def _digest(image: np.ndarray, label: np.ndarray) -> str:
  whole = image.tobytes() + int(label).to_bytes(4, "little")
  return hashlib.sha256(whole).hexdigest()[:16]
