"""classes.json: the classes of a run by name, in the order of its prototypes.

`{"names": ["ada", "bob"]}`. The prototypes themselves, a row a class, are part
of the checkpoint: `prototypes` of a train state, or of imported weights.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from facejax.runs import checkpoint, folder
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
  shards = mesh.shape["model"]
  where = mesh_lib.sharding(mesh, mesh_lib.CLASSES)

  def like(record: Mapping[str, Any]) -> _Kept:
    stored = record["leaves"].get(".prototypes")
    if stored is None:
      return _Kept()
    rows, *rest = stored["shape"]
    # Whole rows for each device; what is added is zero.
    shape = (-(-rows // shards) * shards, *rest)
    return _Kept(jax.ShapeDtypeStruct(shape, stored["dtype"], sharding=where))

  with checkpoint.Checkpoints(pathlib.Path(run, folder.CHECKPOINTS)) as source:
    restored = source.restore(
      like, step=step, partial=True, resizable=lambda path: True
    )
  assert restored is not None  # or no such step would have been an error
  return restored.state.prototypes
