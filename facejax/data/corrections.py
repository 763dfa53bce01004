"""Lists that correct the labels of a set: who to merge, what to relabel.

merge.csv has a row a person, `person,into`; relabel.csv a row an image,
`image,person`, images as `PERSON/IMAGE`. Further columns are for people. Names
are those that the set has by itself, before any correction.
"""

import csv
import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from facejax.data import encoded, subsets
from facejax.runtime import file_kinds, text_lines

MERGE, RELABEL = ("person", "into"), ("image", "person")


class Correction(NamedTuple):
  """A row of a list: what is to be whose, and where that is said."""

  what: str
  person: str
  where: str

  def error(self, message: str) -> ValueError:
    return ValueError(f"{self.where}: {message}")


class Renamed(NamedTuple):
  """Corrections of labels.

  Attributes:
    merged: people, and who they are in truth.
    relabelled: images, and whom they show in truth.
  """

  merged: tuple[Correction, ...] = ()
  relabelled: tuple[Correction, ...] = ()

  def merged_into(self, names: Iterable[str]) -> set[str]:
    """People that are merged into any of these, by way of others too."""
    found, size = set(names), -1
    while len(found) != size:
      size = len(found)
      found.update(r.what for r in self.merged if r.person in found)
    return found - set(names)


def read(merge: str = "", relabel: str = "") -> Renamed:
  """Reads the lists of these paths; "" is none.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: A header or a line is none; names file and line.
  """
  return Renamed(
    _rows(merge, MERGE) if merge else (),
    _rows(relabel, RELABEL) if relabel else (),
  )


def _rows(path: str | os.PathLike[str], header: Sequence[str]) -> tuple:
  place, rows = os.fspath(path), {}
  if not os.path.isfile(place):
    raise FileNotFoundError(f"there is no file {place!r}")
  file_kinds.refuse(place, "a table")
  with open(
    place, newline="", encoding="utf-8-sig", errors="surrogateescape"
  ) as file:
    table = csv.reader(file)
    columns = [column.strip() for column in next(table, [])]
    if not set(header) <= set(columns):
      raise ValueError(
        f"{place}:1: the header is {','.join(columns)[:80]!r}; expected"
        f" {','.join(header)}"
      )
    what, person = map(columns.index, header)
    for fields in filter(None, table):
      where = f"{place}:{table.line_num}"
      if len(fields) != len(columns):
        raise ValueError(
          f"{where}: {len(fields)} fields; the header has {len(columns)}"
        )
      row = Correction(fields[what].strip(), fields[person].strip(), where)
      if not row.what or not row.person:
        raise row.error(f"expected {header[0]} and {header[1]}, one is empty")
      if row.what in rows:
        raise row.error(f"{row.what!r} has a row already; leave one")
      rows[row.what] = row
  return tuple(rows.values())


class Relabelled:
  """A set whose images have other labels; `EncodedImages`.

  The names of people and images stay: somebody may have none left.
  """

  def __init__(self, files: encoded.EncodedImages, renamed: Renamed):
    """Resolves the names.

    Args:
      files: The set as it lies there.
      renamed: Corrections; those of images come before those of people.

    Raises:
      ValueError: A name does not occur, or people are merged in a circle; names
        file and line.
    """
    self.files = files
    self.class_names = files.class_names
    number = {name: k for k, name in enumerate(files.class_names)}
    labels = np.array(files.labels, np.int32)
    rows = renamed.relabelled
    places = images_named(files, (row.what for row in rows))
    for row in rows:
      if row.what not in places:
        raise row.error(
          f"there is no image {row.what!r} in the set; expected PERSON/IMAGE"
        )
      labels[places[row.what]] = _number(row, row.person, number)
    self.labels = _merging(renamed.merged, number)[labels]

  @property
  def num_classes(self) -> int:
    return len(self.class_names)

  def __len__(self) -> int:
    return len(self.labels)

  def encoded(self, index: int) -> bytes:
    return self.files.encoded(index)

  def name(self, index: int) -> str:
    return self.files.name(index)


def _merging(
  rows: Sequence[Correction], number: Mapping[str, int]
) -> np.ndarray:
  """Who each person is in the end, int32 [people]."""
  into = np.arange(len(number), dtype=np.int32)
  for row in rows:
    into[_number(row, row.what, number)] = _number(row, row.person, number)
  for row in rows:
    start = end = number[row.what]
    for _ in rows:
      end = int(into[end])
    if into[end] != end or end == start:
      raise row.error(f"{row.what!r} is merged into itself, in a circle or not")
    into[start] = end
  return into


def _number(row: Correction, name: str, number: Mapping[str, int]) -> int:
  if name not in number:
    near = difflib.get_close_matches(name, number, n=1)
    hint = f"; is it {near[0]!r}?" if near else ""
    raise row.error(f"there is no person {name!r} in the set{hint}")
  return number[name]


def images_named(
  files: encoded.EncodedImages, names: Iterable[str]
) -> dict[str, int]:
  """The places of images by their names, of those that there are.

  Only the images of the people that are named are asked for theirs.

  Args:
    files: The set.
    names: As `files.name` says them, `PERSON/IMAGE`.
  """
  wanted = set(names)
  if not wanted:
    return {}
  number = {
    text_lines.printable(name): k for k, name in enumerate(files.class_names)
  }
  people = {
    number[name[:end]]
    for name in wanted
    for end, letter in enumerate(name)
    if letter == "/" and name[:end] in number
  }
  theirs = np.flatnonzero(np.isin(files.labels, list(people)))
  found = ((files.name(place), place) for place in theirs.tolist())
  return {name: place for name, place in found if name in wanted}


def corrected(
  files: encoded.EncodedImages,
  *,
  only: Sequence[str] | None = None,
  without: Sequence[str] = (),
  renamed: Renamed | None = None,
  min_images: int = 1,
) -> encoded.EncodedImages:
  """A set with its labels corrected, and without who and what is not wanted.

  Who is left out is so with all images that are theirs before or after the
  correction.

  Args:
    files: The set as it lies there.
    only: Names of the people to keep, after the correction; None keeps all.
    without: Names of people, and of images as PERSON/IMAGE, to leave out. Those
      that do not occur are no error.
    renamed: Corrections of labels.
    min_images: People with fewer images in the end are left out.

  Raises:
    ValueError: A name of `only` or of a correction does not occur, or nothing
      is left.
  """
  people = set(without)
  gone = list(images_named(files, (n for n in without if "/" in n)).values())
  if renamed is not None and any(renamed):
    barred = np.asarray([name in people for name in files.class_names], bool)
    gone += np.flatnonzero(barred[files.labels]).tolist()
    files = Relabelled(files, renamed)
  return subsets.Subset(
    files,
    only=only,
    without=people,
    without_images=gone,
    min_images=min_images,
  )
