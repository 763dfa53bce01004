"""JSON objects in files, whole or not at all."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from facejax.runtime import file_kinds, whole_files


def write(
  path: str | os.PathLike[str], content: Mapping[str, Any], *, indent: int = 2
) -> None:
  """Writes an object; numbers that are not finite are refused.

  Raises:
    ValueError: if one is not finite.
    TypeError: if it holds what JSON cannot.
  """
  text = json.dumps(content, indent=indent, allow_nan=False) + "\n"
  whole_files.write(path, text)


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
  """The object in a file.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: if it is damaged; names it.
  """
  file_kinds.refuse(path, "a JSON text", ("json",))
  try:
    content = json.loads(pathlib.Path(path).read_text())
    if not isinstance(content, dict):
      raise ValueError("no JSON object")
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{os.fspath(path)} is damaged ({error})") from None
  return content


def read_or_none(path: str | os.PathLike[str]) -> dict[str, Any] | None:
  """The same; None where there is no file."""
  return read(path) if os.path.exists(path) else None
