"""What lies in a folder: images, by their first bytes, and what is none."""

import logging
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from facejax.data import images
from facejax.runtime import text_lines

logger = logging.getLogger(__name__)

_NAMED = 3


class Found(NamedTuple):
  """The entries of a folder, sorted.

  Attributes:
    images: Files that begin like an image.
    folders: Folders, if they were not looked into.
    damaged: Files that are called like an image and are none: what is wrong
      with each, beginning with its path.
    others: All other files.
    hidden: Whatever begins with a dot.
  """

  images: list[str]
  folders: list[str]
  damaged: list[str]
  others: list[str]
  hidden: list[str]


def scan(path: str, *, recursive: bool = False) -> Found:
  """Looks at the entries of a folder, and at the first bytes of each file.

  Links to files are followed; with `recursive`, links to folders are not, so
  that there is an end.

  Args:
    path: The folder.
    recursive: Whether to look into folders as well; names then are paths from
      the folder.
  """
  found = Found([], [], [], [], [])
  for name, entry in _entries(path, recursive):
    if entry.name.startswith("."):
      found.hidden.append(name)
      continue
    if entry.is_dir():
      found.folders.append(name)
      continue
    complaint = _complaint(entry)
    if complaint is None:
      found.images.append(name)
    elif images.is_image_name(entry.name):
      found.damaged.append(f"{entry.path!r} {complaint}")
    else:
      found.others.append(name)
  for part in found:
    part.sort()
  return found


def deeper_images(path: str, found: Found) -> list[str]:
  """Returns the images in the folders that `scan` found and did not look into.

  Args:
    path: The folder that was scanned.
    found: What it holds.
  """
  return sorted(
    os.path.join(folder, name)
    for folder in found.folders
    if not os.path.islink(os.path.join(path, folder))
    for name in scan(os.path.join(path, folder), recursive=True).images
  )


def _entries(
  path: str, recursive: bool, within: str = ""
) -> Iterator[tuple[str, os.DirEntry[str]]]:
  with os.scandir(path) as entries:
    for entry in entries:
      name = os.path.join(within, entry.name)
      deeper = recursive and not entry.name.startswith(".")
      if deeper and entry.is_dir(follow_symlinks=False):
        yield from _entries(entry.path, recursive, name)
      else:
        yield name, entry


def _complaint(entry: os.DirEntry[str]) -> str | None:
  # Only links need a second look: to open a pipe would block for ever.
  if not entry.is_file():
    return "is a broken link" if entry.is_symlink() else "is not a file"
  return images.check(entry.path)


class LeftOut:
  """Counts what is left out, by kind, and keeps the first names of each.

  Attributes:
    hidden: How many hidden entries were; nobody is told of them.
  """

  def __init__(self):
    self.hidden = 0
    self._kinds: dict[str, tuple[int, list[str]]] = {}

  def add(self, kind: str, names: Iterable[str]) -> None:
    """Counts some of a kind."""
    for name in names:
      count, first = self._kinds.get(kind, (0, []))
      if count < _NAMED:
        first = [*first, name]
      self._kinds[kind] = count + 1, first

  def report(self, where: str) -> int:
    """Says in one warning what was left out; returns how much that is in all."""
    total = sum(count for count, _ in self._kinds.values())
    if total:
      logger.warning(
        "left out of %r: %s", where, "; ".join(map(_told, self._kinds.items()))
      )
    return total + self.hidden


def _told(kind: tuple[str, tuple[int, list[str]]]) -> str:
  what, (count, first) = kind
  names = ", ".join(repr(text_lines.printable(name)) for name in first)
  return f"{count:,} {what}, such as {names}" if first else f"{count:,} {what}"
