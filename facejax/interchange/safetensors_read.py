"""Reads .safetensors, with the library of that name."""

import os
from collections.abc import Mapping

import numpy as np

from facejax.runtime import extras


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
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
      return arrays, file.metadata() or {}
  except (safetensors.SafetensorError, TypeError, AttributeError) as error:
    raise ValueError(f"{name!r} is damaged ({error})") from None
