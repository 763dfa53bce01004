"""The shards of a data set of TFDS: which files each holds, and reading them.

A shard may be written on another machine, so that it travels as a few numbers:
which part of a list of all files is its own.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from facejax.data import encoded
from facejax.data.stores import folder

Example = tuple[int, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Shard:
  """The images of one shard; travels to the machine that writes it.

  Attributes:
    root: The folder of the identities.
    list: The file with label, identity and file of all images.
    begin: Where the images of this shard begin in it, in bytes.
    end: Where they end.
    first: The place of the first image in the data set.
  """

  root: str
  list: str
  begin: int
  end: int
  first: int

  def __call__(self) -> Iterator[Example]:
    with open(self.list, "rb") as file:
      file.seek(self.begin)
      fields = file.read(self.end - self.begin).split(b"\0")[:-1]
    rows = zip(fields[0::3], fields[1::3], fields[2::3], strict=True)
    for place, (label, identity, name) in enumerate(rows, start=self.first):
      path = os.path.join(self.root, os.fsdecode(identity), os.fsdecode(name))
      printable = f"{_printable(identity)}/{_printable(name)}"
      yield (
        place,
        {"image": _File(path), "label": int(label), "file": printable},
      )


@dataclasses.dataclass(frozen=True)
class _File:
  """Read at the moment it is written: TFDS keeps all examples of a shard."""

  path: str

  def read(self) -> bytes:
    return encoded.read_file(self.path)


def _printable(name: bytes) -> str:
  return name.decode("utf-8", "backslashreplace")


@dataclasses.dataclass(frozen=True)
class Counted:
  """A shard that tells of each image that it has handed out."""

  shard: Shard
  count: Callable[[int], None]

  def __call__(self) -> Iterator[Example]:
    for example in self.shard():
      yield example
      self.count(1)


def write_list(
  files: folder.ImageFolder, path: pathlib.Path, shard_bytes: int
) -> list[Shard]:
  """Writes the list of the files and cuts it into shards."""
  root, shards = os.path.abspath(files.root), []
  begin = first = held = 0
  with open(path, "wb") as out:
    for index, label in enumerate(files.labels.tolist()):
      file = files.path(index)
      size = os.path.getsize(file)
      if held and held + size > shard_bytes:
        shards.append(Shard(root, str(path), begin, out.tell(), first))
        begin, first, held = out.tell(), index, 0
      identity, name = os.path.split(os.path.relpath(file, files.root))
      fields = str(label).encode(), os.fsencode(identity), os.fsencode(name)
      out.write(b"".join(field + b"\0" for field in fields))
      held += size
    shards.append(Shard(root, str(path), begin, out.tell(), first))
  return shards


def check_identities(names: Sequence[str]) -> None:
  """Refuses what the list of classes of TFDS, one a line, cannot hold.

  Raises:
    ValueError: A name would be lost.
  """
  for name in names:
    if name != name.strip() or len(name.splitlines()) != 1:
      raise ValueError(
        f"identity {name!r} begins or ends with white space or holds a line"
        " break, which TFDS would lose; rename its folder"
      )
  if len(set(names)) < len(names):
    seen: set[str] = set()
    twice = next(name for name in names if name in seen or seen.add(name))
    raise ValueError(f"two identities would both be called {twice!r}")
