"""classes.json: the classes of a run by name, in the order of its prototypes.

`{"names": ["ada", "bob"]}`. The prototypes themselves, a row a class, are part
of the checkpoint: `prototypes` of a train state, or of imported weights.
"""

import collections
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from facejax.runs import checkpoint, checkpoint_read, folder
from facejax.runtime import json_files
from facejax.runtime import mesh as mesh_lib


class _Kept(NamedTuple):
  """The part of a state that is read here, at the same path."""

  prototypes: Any = None


def write(run: str | os.PathLike[str], names: Sequence[str]) -> None:
  """Writes the names, whole or not at all; the folder must exist."""
  json_files.write(pathlib.Path(run, folder.CLASSES), {"names": list(names)})


def read(run: str | os.PathLike[str]) -> list[str] | None:
  """The names; None where they were not kept, as of older runs and imports.

  Raises:
    ValueError: if the file is damaged.
  """
  path = pathlib.Path(run, folder.CLASSES)
  found = json_files.read_or_none(path)
  if found is None:
    return None
  names = found.get("names")
  if not isinstance(names, list) or not all(type(n) is str for n in names):
    raise ValueError(f"{path} is damaged (no list of names)")
  return names


def matched(old: Sequence[str], new: Sequence[str]) -> np.ndarray:
  """For each new name its place among the old ones, or -1, int32 [len(new)].

  Of a name that occurs several times, as that of people of joined sets may,
  the first is the first and so on.

  >>> matched(["ada", "bob", "ada"], ["bob", "cid", "ada", "ada"]).tolist()
  [1, -1, 0, 2]
  """
  known = {key: place for place, key in enumerate(_keys(old))}
  return np.fromiter(
    (known.get(key, -1) for key in _keys(new)), np.int32, len(new)
  )


def _keys(names: Sequence[str]) -> Iterator[tuple[str, int]]:
  """Each name with how often it has been there before."""
  seen: collections.Counter[str] = collections.Counter()
  for name in names:
    yield name, seen[name]
    seen[name] += 1


def prototypes_of(
  run: str | os.PathLike[str], *, mesh: jax.sharding.Mesh
) -> tuple[int, jax.ShapeDtypeStruct] | None:
  """The newest checkpoint's step, and the form that its prototypes have here.

  Returns:
    None where there are no prototypes, or no checkpoint.

  Raises:
    OSError: if the checkpoint is damaged.
  """
  with checkpoint.Checkpoints(pathlib.Path(run, folder.CHECKPOINTS)) as source:
    steps = source.steps
    if not steps:
      return None
    path = source.folder / str(steps[-1])
  form = _form(checkpoint_read.read_record(str(path)), mesh)
  return None if form is None else (steps[-1], form)


def read_prototypes(
  run: str | os.PathLike[str], *, step: int, mesh: jax.sharding.Mesh
) -> jax.Array | None:
  """The prototypes of a step, as they were kept; None where there are none.

  Args:
    run: the folder.
    step: of its checkpoint.
    mesh: the devices, over which rows are split.

  Returns:
    [rows, (k,) dim], float or the bits of bfloat16, sharded P("model"); rows
    past those of classes are zero.

  Raises:
    FileNotFoundError: if there is no checkpoint of the step.
    OSError: if it is damaged.
  """

  def like(record: Mapping[str, Any]) -> _Kept:
    return _Kept(_form(record, mesh))

  with checkpoint.Checkpoints(pathlib.Path(run, folder.CHECKPOINTS)) as source:
    restored = source.restore(
      like, step=step, partial=True, resizable=lambda path: True
    )
  assert restored is not None  # or no such step would have been an error
  return restored.state.prototypes


def _form(
  record: Mapping[str, Any], mesh: jax.sharding.Mesh
) -> jax.ShapeDtypeStruct | None:
  """What the prototypes of a checkpoint are on these devices."""
  stored = record["leaves"].get(".prototypes")
  if stored is None:
    return None
  rows, *rest = stored["shape"]
  # Whole rows for each device; what is added is zero.
  shards = mesh.shape["model"]
  shape = (-(-rows // shards) * shards, *rest)
  where = mesh_lib.sharding(mesh, mesh_lib.CLASSES)
  return jax.ShapeDtypeStruct(shape, stored["dtype"], sharding=where)
