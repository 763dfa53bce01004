"""People of an album: groups of faces, and the names that somebody gives them.

people.csv has a row a person, with a name to be filled in; faces.csv says which
face is whose. Names stay with faces: however faces are grouped anew, a group is
called what most of its faces were called.
"""

import collections
import csv
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence

import numpy as np

from facejax.runtime import csv_files, whole_files
from facejax.vectors import embeddings as embeddings_lib
from facejax.vectors import gallery as gallery_lib

PEOPLE, FACES, GALLERY = "people.csv", "whose.csv", "people.gallery"
_PEOPLE_HEADER = ("person", "name", "faces", "example")
_FACES_HEADER = ("file", "person", "photo")


@dataclasses.dataclass(frozen=True)
class KnownFace:
  """A face of a photo.

  Attributes:
    file: of the aligned face, in the folder of faces.
    photo: the photo it is from, in its folder.
    quality: from 0 to 1.
  """

  file: str
  photo: str
  quality: float


@dataclasses.dataclass(frozen=True)
class KnownPerson:
  """A group of faces.

  Attributes:
    number: from 1, the largest group first.
    name: "" where nobody has given one.
    files: the faces' files.
  """

  number: int
  name: str
  files: tuple[str, ...]


def found(
  path: str | os.PathLike[str], photos: str | os.PathLike[str]
) -> list[KnownFace]:
  """The faces of a table that a detector's run wrote, of photos still there."""
  faces = []
  with open(
    path, newline="", encoding="utf-8", errors="surrogateescape"
  ) as file:
    for row in csv.DictReader(file):
      if os.path.exists(os.path.join(photos, row["path"])):
        faces.append(
          KnownFace(row["file"], row["path"], float(row["quality"] or 0))
        )
  return faces


def named(
  folder: str | os.PathLike[str], paths: Sequence[str], groups: np.ndarray
) -> list[KnownPerson]:
  """The people of groups, with the names that their faces have in the folder.

  Args:
    folder: where people.csv and whose.csv may lie.
    paths: the file of each face, within or with the folder of faces.
    groups: int [n], the group of each; the largest is 0.

  Raises:
    ValueError: if a table there is damaged.
  """
  names = _names(pathlib.Path(folder))
  members = collections.defaultdict(list)
  for path, group in zip(paths, groups, strict=True):
    members[int(group)].append(_short(path, folder))
  people = []
  for number, group in enumerate(sorted(members), start=1):
    files = members[group]
    votes = collections.Counter(names[f] for f in files if names.get(f))
    # Of equals the one that comes first in the alphabet, whatever the order.
    best = min(votes.items(), key=lambda v: (-v[1], v[0]), default=("", 0))
    people.append(KnownPerson(number, best[0], tuple(files)))
  return people


def _short(path: str, folder: str | os.PathLike[str]) -> str:
  """A face's file within the folder of faces."""
  try:
    parts = pathlib.Path(path).relative_to(folder).parts
  except ValueError:
    return path
  return str(pathlib.Path(*parts[1:]))


def _names(folder: pathlib.Path) -> dict[str, str]:
  """The name of each face that has one."""
  if not ((folder / PEOPLE).exists() and (folder / FACES).exists()):
    return {}
  given = {
    row["person"]: row["name"].strip()
    for row in _rows(folder / PEOPLE, _PEOPLE_HEADER)
  }
  return {
    row["file"]: given.get(row["person"], "")
    for row in _rows(folder / FACES, _FACES_HEADER)
  }


def _rows(path: pathlib.Path, header: Sequence[str]) -> list[dict[str, str]]:
  """The rows of a table, also as spreadsheets save it: BOM, semicolons."""
  text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
  first = text.partition("\n")[0]
  separator = max(",;\t", key=first.count)
  rows = list(csv.DictReader(text.splitlines(), delimiter=separator))
  for line, row in enumerate(rows, start=2):
    if any(row.get(name) is None for name in header):
      raise ValueError(
        f"{path}, line {line}: a row has the columns {', '.join(header)}"
      )
  return rows


def write(
  folder: str | os.PathLike[str],
  people: Sequence[KnownPerson],
  faces: Mapping[str, KnownFace],
) -> None:
  """Writes both tables, each whole or not at all."""
  folder = pathlib.Path(folder)
  whose = [
    (file, person.number, faces[file].photo)
    for person in people
    for file in person.files
  ]
  rows = [
    (person.number, person.name, len(person.files), best(person, faces).photo)
    for person in people
  ]
  # Whose first: names are looked up through it.
  csv_files.write(folder / FACES, _FACES_HEADER, whose)
  csv_files.write(folder / PEOPLE, _PEOPLE_HEADER, rows)


def best(person: KnownPerson, faces: Mapping[str, KnownFace]) -> KnownFace:
  """The face that shows a person best."""
  return max((faces[file] for file in person.files), key=lambda f: f.quality)


def enrol(
  folder: str | os.PathLike[str],
  found: embeddings_lib.Embeddings,
  people: Sequence[KnownPerson],
) -> pathlib.Path | None:
  """Makes the gallery of those who have names; None if nobody has one."""
  folder = pathlib.Path(folder)
  names = {file: p.name for p in people for file in p.files if p.name}
  files = [_short(str(path), folder) for path in found.paths]
  rows = [k for k, file in enumerate(files) if file in names]
  if not rows:
    return None
  called = sorted({names[files[k]] for k in rows})
  number = {name: k for k, name in enumerate(called)}
  known = embeddings_lib.Embeddings(
    np.asarray(found.vectors)[rows],
    np.asarray(found.paths)[rows],
    np.asarray([number[names[files[k]]] for k in rows], np.int32),
    called,
    found.about,
  )
  place, fresh = folder / GALLERY, folder / f".{GALLERY}.new"
  whole_files.remove(fresh)
  gallery_lib.build(fresh, [known])
  if place.exists():
    shutil.rmtree(place)
  fresh.rename(place)
  return place
