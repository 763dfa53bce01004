"""Files that are whole or not there, whenever the process or power ends."""

import hashlib
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import BinaryIO

_CHUNK = 2**20


def commit(draft: pathlib.Path, path: pathlib.Path) -> None:
  """Gives a finished file its name, once it is on the disk."""
  sync(draft)
  os.replace(draft, path)
  sync(path.parent)


def write(path: pathlib.Path, data: bytes) -> None:
  """Writes a whole file, or none."""
  draft = path.with_name(f"{path.name}.tmp")
  draft.write_bytes(data)
  commit(draft, path)


def sync(path: pathlib.Path) -> None:
  """Waits until a file, or the list of a folder, is on the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def sha256(
  path: str | os.PathLike[str],
  offset: int = 0,
  size: int | None = None,
  advance: Callable[[int], object] = lambda count: None,
) -> str:
  """Returns the SHA-256 of a file, or of `size` bytes from `offset` on.

  Args:
    path: The file.
    offset: Where to begin.
    size: How many bytes; None goes on to the end.
    advance: Told how many more bytes were read.
  """
  digest = hashlib.sha256()
  with open(path, "rb") as file:
    file.seek(offset)
    left = os.path.getsize(path) - offset if size is None else size
    while left > 0 and (data := file.read(min(left, _CHUNK))):
      digest.update(data)
      left -= len(data)
      advance(len(data))
  return digest.hexdigest()


def append(part: pathlib.Path, path: pathlib.Path, begin: int) -> None:
  """Moves the content of a file to byte `begin` of another, and cuts it there.

  Cut short at any moment, the same call again does the same.
  """
  with open(path, "ab") as file:
    file.truncate(begin)
    copy(part, file)
    file.flush()
    os.fsync(file.fileno())
  part.unlink()


def copy(part: pathlib.Path, file: BinaryIO) -> None:
  """Writes the content of a file to an open one."""
  with open(part, "rb") as source:
    shutil.copyfileobj(source, file, _CHUNK)
