"""Faults of a checkpoint's files, for `chaos.py`: in this process, by the dozen."""

import logging
import pathlib
import random
import shutil
import time
from collections.abc import Callable

import chaos_world as world
import jax
import numpy as np

from facejax.runs import checkpoint


def _truncate(path: pathlib.Path, rng: random.Random) -> None:
  size = path.stat().st_size
  with path.open("r+b") as file:
    file.truncate(rng.randrange(size) if size else 0)


def _flip(path: pathlib.Path, rng: random.Random) -> None:
  data = bytearray(path.read_bytes())
  if data:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
  path.write_bytes(data)


def _remove(path: pathlib.Path, rng: random.Random) -> None:
  del rng
  path.unlink()


DAMAGES: dict[str, Callable[[pathlib.Path, random.Random], None]] = {
  "truncated": _truncate,
  "a bit flipped": _flip,
  "removed": _remove,
}


class Files:
  """Two sound checkpoints, of which the newer one is damaged again and again.

  Args:
    folder: for them.
  """

  def __init__(self, folder: pathlib.Path):
    self._sound, self._work = folder / "sound", folder / "work"
    rng = np.random.default_rng(0)
    self._states = {
      step: {
        "prototypes": jax.numpy.asarray(rng.normal(size=(64, 8))),
        "trunk": {
          f"layer{k}": jax.numpy.asarray(rng.normal(size=(16, 16)))
          for k in range(3)
        },
        "step": jax.numpy.asarray(step),
      }
      for step in (1, 2)
    }
    with checkpoint.Checkpoints(self._sound) as checkpoints:
      for step, state in self._states.items():
        checkpoints.save(step, state, metadata={"images": 3})
    self._like = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=leaf.sharding
      ),
      self._states[1],
    )

  def damage(self, rng: random.Random) -> world.Outcome:
    """Damages one file of the newest step, and reads what can be read."""
    shutil.rmtree(self._work, ignore_errors=True)
    shutil.copytree(self._sound, self._work)
    files = sorted(p for p in (self._work / "2").rglob("*") if p.is_file())
    path, how = rng.choice(files), rng.choice(sorted(DAMAGES))
    name = f"{path.relative_to(self._work)} {how}"
    DAMAGES[how](path, rng)
    messages: list[str] = []
    log = logging.getLogger("facejax")
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    log.addHandler(handler)
    began = time.monotonic()
    try:
      with checkpoint.Checkpoints(self._work) as checkpoints:
        found = checkpoints.restore(self._like)
    except Exception as error:
      return self._outcome(name, f"{type(error).__name__}: {error}", began)
    finally:
      log.removeHandler(handler)
    if found is None:
      return self._outcome(name, "nothing was found", began)
    whole = all(
      np.array_equal(one, other)
      for one, other in zip(
        jax.tree.leaves(found.state),
        jax.tree.leaves(self._states[found.step]),
        strict=True,
      )
    )
    if not whole:
      return self._outcome(name, f"step {found.step} read wrongly", began)
    if found.step == 2:
      return self._outcome(name, "no harm: read whole", began, ok=True)
    named = any("step 2 is damaged" in text for text in messages)
    text = "step 2 named as damaged, step 1 read"
    return self._outcome(name, text, began, ok=named)

  def _outcome(
    self, name: str, text: str, began: float, *, ok: bool = False
  ) -> world.Outcome:
    return world.Outcome(
      f"checkpoint file {name}", text, time.monotonic() - began, ok
    )
