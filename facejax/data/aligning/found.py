"""The table of the faces that a detector found: boxes, points, scores, quality.

It can be given back as the table of landmarks. While faces are aligned, rows
are added as they come; what a killed run wrote is kept.
"""

import csv
import io
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from facejax.data.aligning import quality as qualities
from facejax.runtime import text_lines, whole_files

NAME = "faces.csv"
HEADER = (
  *("path", "x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4", "x5", "y5"),
  *("file", "faces", "score", "left", "top", "right", "bottom"),
  *qualities.Quality._fields,
)
_FILE, _FACES = HEADER.index("file"), HEADER.index("faces")


class FoundFace(NamedTuple):
  """One face.

  Attributes:
    path: The photo, in its folder.
    points: [5, 2], in pixels of the upright photo.
    file: The aligned face, in its folder.
    faces: How many of its photo have a row: all of them, or the photo does not
      count as done.
    score: Of the detector; NaN if it gave none.
    box: [4], left, top, right, bottom.
    quality: See `quality.of_face`.
  """

  path: str
  points: np.ndarray
  file: str
  faces: int
  score: float
  box: np.ndarray
  quality: qualities.Quality

  def cells(self) -> list[str]:
    """The row as text."""
    score = "" if np.isnan(self.score) else f"{self.score:.4f}"
    return [
      self.path,
      *(f"{value:.3f}" for value in self.points.ravel()),
      self.file,
      str(self.faces),
      score,
      *(f"{value:.2f}" for value in self.box),
      *(f"{value:.3f}" for value in self.quality),
    ]


def rounded(points: np.ndarray) -> np.ndarray:
  """Points as the table has them, so that it gives the same faces again."""
  return np.round(points, 3) + 0.0


class Table:
  """The rows of a folder of aligned faces, some 500 bytes of memory each."""

  def __init__(self, folder: str | os.PathLike[str]):
    """Reads what is there; a line that was cut off is left out.

    Raises:
      ValueError: A file of this name is another table.
    """
    self._file = pathlib.Path(folder, NAME)
    # Of each photo, the row of each face by its file.
    self._rows: dict[str, dict[str, list[str]]] = {}
    if self._file.exists():
      _check(self._file)
      for row in _read(self._file):
        self._rows.setdefault(row[0], {})[row[_FILE]] = row
    self.finish()

  def files(self, path: str) -> tuple[str, ...]:
    """The faces that were made of a photo; none if not all are in the table."""
    rows = self._rows.get(path, {})
    whole = all(cells[_FACES] == str(len(rows)) for cells in rows.values())
    return tuple(rows) if whole else ()

  def add(self, rows: Iterable[FoundFace]) -> None:
    """Adds rows, in place of what is known of their photos."""
    fresh: dict[str, dict[str, list[str]]] = {}
    for row in rows:
      fresh.setdefault(row.path, {})[row.file] = row.cells()
    self._rows.update(fresh)
    text = _text(cells for faces in fresh.values() for cells in faces.values())
    with whole_files.naming(self._file), open(self._file, "ab") as file:
      file.write(text)

  def finish(self) -> None:
    """Writes the table anew, in the order of the paths."""
    paths = sorted(self._rows, key=lambda path: path.split(os.sep))
    rows = (cells for path in paths for cells in self._rows[path].values())
    whole_files.write(self._file, _text([list(HEADER)]) + _text(rows))


def _check(file: pathlib.Path) -> None:
  with open(file, "rb") as lines:
    if not lines.readline().startswith(b"path,x1,y1,"):
      raise ValueError(
        f"{text_lines.printable(os.fspath(file))!r} is no table of found faces,"
        " and would be overwritten; move it away"
      )


def _text(rows: Iterable[list[str]]) -> bytes:
  text = io.StringIO(newline="")
  csv.writer(text, lineterminator="\n").writerows(rows)
  return text.getvalue().encode("utf-8", "surrogateescape")


def _read(file: pathlib.Path) -> Iterator[list[str]]:
  """The rows that are whole: what a killed run wrote last may be cut off."""
  whole = file.read_bytes().rpartition(b"\n")[0]
  text = whole.decode("utf-8", "surrogateescape")
  try:
    for row in csv.reader(io.StringIO(text, newline="")):
      if len(row) == len(HEADER) and row != list(HEADER):
        yield row
  except csv.Error:  # faces without a row are found again
    return
