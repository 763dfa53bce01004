"""Files that are whole or not there, whenever the process or power ends."""

import contextlib
import errno
import hashlib
import itertools
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import BinaryIO

_CHUNK = 2**20
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# Of drafts, so that two of one process never meet.
_NUMBERS = itertools.count(1)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """Yields where to draft a file or folder, which then takes its name.

  It does once the block has ended without an error and the draft is on the
  disk; an older file of that name is replaced in one step. After an error, or
  where nothing was drafted, what was there before is there still, and the
  draft is gone.

  Args:
    path: What is to be written; its folder must exist.
  """
  path = pathlib.Path(path)
  # Not the whole name: some are as long as the file system allows.
  mark = f"{os.getpid()}-{next(_NUMBERS)}"
  draft = path.with_name(f".{path.name[:40]}.{mark}.partial")
  try:
    with naming(path):
      yield draft
      if os.path.lexists(draft):
        commit(draft, path)
  finally:
    remove(draft)


def write(path: str | os.PathLike[str], data: bytes | str) -> None:
  """Writes a whole file, or none; text as UTF-8, names of files as they are."""
  if isinstance(data, str):
    data = data.encode("utf-8", "surrogateescape")
  path = pathlib.Path(path)
  # One name, so that what a killed process left is written over. Drafts that
  # take long have names of their own: see `replacing`.
  draft = path.with_name(f".{path.name}.part")
  try:
    with naming(path):
      draft.write_bytes(data)
      commit(draft, path)
  finally:
    draft.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
  """Lets an error of the disk name the file, which that of a full one does not."""
  try:
    yield
  except OSError as error:
    if error.filename is None and error.errno in _DISK:
      error.filename = os.fspath(path)
    raise


@contextlib.contextmanager
def yielding_to(error: BaseException | None) -> Iterator[None]:
  """Lets what the disk refuses go by where there is an error already.

  For files that are closed because of it: it says more than they would.
  """
  try:
    yield
  except OSError:
    if error is None:
      raise


def commit(draft: pathlib.Path, path: pathlib.Path) -> None:
  """Gives a finished file or folder its name, once it is on the disk.

  Of a folder, the files right in it are waited for.
  """
  if draft.is_dir():
    for inside in draft.iterdir():
      if inside.is_file() and not inside.is_symlink():
        sync(inside)
  sync(draft)
  os.replace(draft, path)
  sync(path.parent)


def remove(path: pathlib.Path) -> None:
  """Removes a file, a link or a folder, if it is there."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path, ignore_errors=True)
  else:
    path.unlink(missing_ok=True)


def is_draft(name: str) -> bool:
  """Whether a name is that of a draft of `write` or `replacing`."""
  return name.startswith(".") and name.endswith((".part", ".partial"))


def remove_drafts(folder: pathlib.Path) -> None:
  """Removes what killed writers left right in a folder that nobody writes to."""
  for draft in folder.glob(".*.partial"):
    remove(draft)


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
