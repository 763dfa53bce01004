"""What to align: a table of landmarks, or all images of a folder."""

import csv
import math
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from facejax.data import images
from facejax.runtime import file_kinds, text_lines

_NUMBERS = 10
_LOOK_BACK = 200_000


class ListedFace(NamedTuple):
  """One image to align.

  Attributes:
    path: Where it lies in the source folder.
    landmarks: float64 [5, 2]; None leaves them to a detector.
    complaint: Why it cannot be aligned, and after a colon the details; empty
      when nothing is known against it.
    number: Which face of its photo it is, from 1; 0 where each photo has one,
      or a detector counts them.
    made: The files that were made of it before, as the table of found faces
      has it.
  """

  path: str
  landmarks: np.ndarray | None = None
  complaint: str = ""
  number: int = 0
  made: tuple[str, ...] = ()


def read_table(file: str | os.PathLike[str]) -> Iterator[ListedFace]:
  """Reads a table of landmarks, line by line.

  Each line holds the path of an image, relative to the source folder, and ten
  numbers x1,y1,…,x5,y5; what follows is ignored, and so is a header. Lines that
  make no sense come out with a complaint.

  Args:
    file: The CSV file, in UTF-8.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: It is no CSV file.
  """
  name = text_lines.printable(os.fspath(file))
  if not os.path.isfile(file):
    raise FileNotFoundError(f"there is no table of landmarks {name!r}")
  file_kinds.refuse(file, "a table of landmarks")
  with open(
    file, encoding="utf-8-sig", errors="surrogateescape", newline=""
  ) as lines:
    rows = csv.reader(lines)
    try:
      for row in rows:
        if not row or (rows.line_num == 1 and _is_header(row)):
          continue
        yield _face(row, f"{name} line {rows.line_num}")
    except csv.Error as error:
      raise ValueError(
        f"{name!r} line {rows.line_num} is no CSV: {error}"
      ) from None


def _is_header(row: list[str]) -> bool:
  return not any(map(_is_number, row))


def _is_number(text: str) -> bool:
  try:
    return math.isfinite(float(text))
  except ValueError:
    return False


def _face(row: list[str], where: str) -> ListedFace:
  path, numbers = row[0], row[1 : 1 + _NUMBERS]
  complaint = path_complaint(path)
  if complaint:
    return ListedFace(path, complaint=f"{complaint}: {where}")
  try:
    values = [float(number) for number in numbers]
  except ValueError:
    values = []
  if len(values) < _NUMBERS:
    return ListedFace(
      path,
      complaint=f"malformed line: {where} has no path and ten numbers",
    )
  return ListedFace(path, np.asarray(values).reshape(5, 2))


def path_complaint(path: str) -> str:
  """Returns what is wrong with a relative path; empty when nothing is.

  >>> path_complaint("Ann/1.jpg"), path_complaint("../Ann/1.jpg")
  ('', 'path that leads out of the folder')
  """
  if os.path.isabs(path) or os.pardir in path.replace("\\", "/").split("/"):
    return "path that leads out of the folder"
  if not path.strip() or "\0" in path or path.endswith("/"):
    return "path that is no file's"
  return ""


def walk(root: str | os.PathLike[str]) -> Iterator[ListedFace]:
  """Lists all photos under a folder, in the order of their paths.

  Videos and HEIC, which may be none that can be read, are among them, so that
  they are counted.

  Raises:
    FileNotFoundError: There is no such folder.
  """
  root = os.fspath(root)
  if not os.path.isdir(root):
    raise FileNotFoundError(
      f"there is no folder {text_lines.printable(root)!r}"
    )
  for folder, folders, files in os.walk(root):
    folders[:] = sorted(name for name in folders if not name.startswith("."))
    for file in sorted(files):
      path = os.path.join(folder, file)
      if images.is_image_name(file) or _begins_like_a_photo(path):
        yield ListedFace(os.path.relpath(path, root))


def _begins_like_a_photo(path: str) -> bool:
  """Whether a file is one, whatever it is called; hidden files are none."""
  if os.path.basename(path).startswith(".") or not os.path.isfile(path):
    return False  # to open a pipe would block for ever
  kind = file_kinds.of_file(path)
  return kind == file_kinds.VIDEO or images.check(path) is None


def once(
  faces: Iterable[ListedFace], *, every: bool = False
) -> Iterator[ListedFace]:
  """Lets each result be made once: a second face, or a.png after a.jpg, is not.

  Looks back over the last 200,000 images, so that memory stays bounded.

  Args:
    faces: What is listed.
    every: Whether the faces of one photo that have landmarks are counted
      instead, from 1.
  """
  seen: dict[str, tuple[str, int]] = {}
  for face in faces:
    stem = os.path.splitext(face.path)[0]
    first, count = seen.get(stem, (face.path, 0))
    numbered = every and face.landmarks is not None and first == face.path
    if face.complaint:
      yield face
    elif count and not numbered:
      yield ListedFace(
        face.path, complaint=f"listed twice: {stem}.jpg was made of another"
      )
    else:
      seen[stem] = face.path, count + 1
      yield face._replace(number=count + 1) if numbered else face
    if len(seen) > _LOOK_BACK:
      # But for the last one, of which more faces may follow.
      seen = {stem: seen[stem]} if stem in seen else {}
