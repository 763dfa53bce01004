"""Weights under our own names, with the card beside them: .safetensors.

params.blocks.0.conv1.kernel
stats.blocks.0.bn1.mean
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from facejax.runtime import extras, file_kinds

# Under this name the card lies beside the arrays, as JSON.
CARD = "facejax_card"


def write(
  path: pathlib.Path, trees: Mapping[str, Any], notes: Mapping[str, str]
) -> None:
  """Writes trees of arrays.

  Args:
    path: the file.
    trees: such as {"params": …, "stats": …}; names are of text or numbers.
    notes: kept beside the arrays.

  Raises:
    ImportError: without safetensors.
  """
  with extras.needed():
    from safetensors import numpy as library
  arrays = {
    name(key): np.ascontiguousarray(leaf)
    for key, leaf in jax.tree.leaves_with_path(dict(trees))
  }
  path.write_bytes(library.save(arrays, metadata=dict(notes)))


def read(
  path: str | os.PathLike[str],
) -> tuple[dict[str, np.ndarray], Mapping[str, str]]:
  """The arrays of a file by name, and what is noted beside them.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: if it is damaged.
  """
  with extras.needed():
    import safetensors
  name = os.fspath(path)
  if not os.path.exists(path):
    raise FileNotFoundError(f"there is no file {name!r}")
  file_kinds.refuse(path, "a .safetensors file", ("safetensors",))
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
      return arrays, file.metadata() or {}
  except (safetensors.SafetensorError, TypeError, AttributeError) as error:
    raise ValueError(f"{name!r} is damaged ({error})") from None


def fill(like: Any, arrays: Mapping[str, np.ndarray]) -> Any:
  """Trees from arrays by name; the inverse of what `write` does.

  Args:
    like: the trees, of arrays or `ShapeDtypeStruct`s.
    arrays: by name.

  Raises:
    ValueError: listing the arrays that are missing, unknown or of another
      shape.
  """
  wanted = {name(key): x for key, x in jax.tree.leaves_with_path(like)}
  problems = [f"{key}: missing" for key in wanted.keys() - arrays.keys()]
  problems += [f"{key}: unknown" for key in arrays.keys() - wanted.keys()]
  problems += [
    f"{key}: {arrays[key].shape}, wanted {wanted[key].shape}"
    for key in wanted.keys() & arrays.keys()
    if arrays[key].shape != wanted[key].shape
  ]
  if problems:
    listed = "\n  ".join(["", *sorted(problems)[:12]])
    raise ValueError(f"{len(problems)} arrays do not fit the net:{listed}")
  return jax.tree.map_with_path(
    lambda key, leaf: arrays[name(key)].astype(leaf.dtype), like
  )


def name(path: tuple[Any, ...]) -> str:
  """The name of a leaf by its path.

  >>> key = jax.tree_util.DictKey
  >>> name((key("params"), key("blocks"), key(0), key("kernel")))
  'params.blocks.0.kernel'
  """
  return ".".join(str(part.key) for part in path)
