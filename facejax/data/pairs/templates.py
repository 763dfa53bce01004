"""The lists of IJB-B and IJB-C: templates, their images and their pairs.

In the form in which InsightFace hands them on, beside images cut out loosely:

- `ijbc_face_tid_mid.txt`: `1.jpg 1 69544`, an image, the template and the
  medium (a still, or a video with many frames) that it belongs to;
- `ijbc_name_5pts_score.txt`: an image, five points `x1 y1 … x5 y5` in pixels,
  and the score of the detector;
- `ijbc_template_pair_label.txt`: `1 11065 1`, two templates and whether they
  show the same person; 15.7 million lines;
- `ijbc_1N_gallery_G1.csv`, `ijbc_1N_probe_mixed.csv`: a header, then template,
  subject and more, which is not read.

References:
  Maze, Adams, Duncan, Kalka, Miller, Otto, Jain, Niggel, Anderson, Cheney,
  Grother. IARPA Janus Benchmark – C: Face Dataset and Protocol. 2018.
  The text files: InsightFace, recognition/_evaluation_/ijb.
"""

import array
import dataclasses
import os
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from facejax.runtime import text_lines

_MAX_ID = 2**31 - 1
_MAX_COORDINATE = 1e9


@dataclasses.dataclass(frozen=True, eq=False)
class TemplateImages:
  """Which image belongs to which template.

  Attributes:
    names: The files of the images, n of them.
    template: int32 [n], the template of each.
    media: int32 [n], the medium of each.
  """

  names: Sequence[str]
  template: np.ndarray
  media: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class DetectedFaces:
  """What a detector found in each image.

  Attributes:
    names: The files of the images, n of them.
    points: float32 [n, 5, 2], x and y of eyes, nose and corners of the mouth,
      in pixels.
    score: float32 [n], how sure the detector was.
  """

  names: Sequence[str]
  points: np.ndarray
  score: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class TemplatePairs:
  """Pairs of templates to verify.

  Attributes:
    first: int32 [n], the first template of each pair.
    second: int32 [n], the second.
    same: bool [n], whether both show the same person.
  """

  first: np.ndarray
  second: np.ndarray
  same: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Enrolled:
  """A gallery, or a set of probes; a template occurs once for each image.

  Attributes:
    template: int32 [n].
    subject: int32 [n], the person.
  """

  template: np.ndarray
  subject: np.ndarray


def read_template_images(file: str | os.PathLike[str]) -> TemplateImages:
  """Reads `*_face_tid_mid.txt`.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: A line is malformed, or leads out of the folder; names it.
  """
  names, ids = [], []
  for row in text_lines.rows(file, fields=3):
    names.append(row.image(row.fields[0]))
    ids.append([_identifier(row, text) for text in row.fields[1:]])
  template, media = np.asarray(ids, np.int32).T.copy()
  return TemplateImages(names, template, media)


def read_detected_faces(file: str | os.PathLike[str]) -> DetectedFaces:
  """Reads `*_name_5pts_score.txt`.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: A line is malformed, or leads out of the folder; names it.
  """
  names, values = [], []
  for row in text_lines.rows(file, fields=12):
    names.append(row.image(row.fields[0]))
    try:
      values.append(array.array("f", map(float, row.fields[1:])))
    except ValueError:
      raise row.error("expected ten coordinates and a score") from None
    if not all(abs(value) < _MAX_COORDINATE for value in values[-1]):
      raise row.error("expected coordinates and a score that are finite")
  table = np.asarray(values, np.float32)
  return DetectedFaces(names, table[:, :10].reshape(-1, 5, 2), table[:, 10])


def read_template_pairs(file: str | os.PathLike[str]) -> TemplatePairs:
  """Reads `*_template_pair_label.txt`.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: A line is malformed; names it.
  """
  next(text_lines.rows(file, fields=3))
  # numpy reads millions of lines fast, but does not tell which one is wrong.
  try:
    table = np.loadtxt(file, np.int32, comments=None, ndmin=2)
  except (ValueError, OverflowError):
    _blame(file)
  if table.shape[1] != 3 or table.min() < 0 or table[:, 2].max() > 1:
    _blame(file)
  return TemplatePairs(table[:, 0].copy(), table[:, 1].copy(), table[:, 2] == 1)


def _blame(file: str | os.PathLike[str]) -> NoReturn:
  """Finds the first line that is no pair of templates."""
  for row in text_lines.rows(file, fields=3):
    for text in row.fields[:2]:
      _identifier(row, text)
    if row.fields[2] not in ("0", "1"):
      raise row.error(f"expected a label of 0 or 1, got {row.fields[2][:80]!r}")
  raise ValueError(f"{os.fspath(file)!r} cannot be read as pairs of templates")


def read_enrolled(file: str | os.PathLike[str]) -> Enrolled:
  """Reads `*_1N_gallery_*.csv` or `*_1N_probe_*.csv`.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: It has no such columns or a line is malformed; names it.
  """
  rows = text_lines.rows(file, separator=",")
  header = next(rows)
  names = [field.strip('"').upper() for field in header.fields]
  if not {"TEMPLATE_ID", "SUBJECT_ID"} <= {*names}:
    raise header.error("expected a header with TEMPLATE_ID and SUBJECT_ID")
  columns = names.index("TEMPLATE_ID"), names.index("SUBJECT_ID")
  ids = []
  for row in rows:
    if len(row.fields) <= max(columns):
      raise row.error(
        f"expected {max(columns) + 1} fields or more, got {len(row.fields)}"
      )
    ids.append([_identifier(row, row.fields[column]) for column in columns])
  template, subject = np.asarray(ids, np.int32).reshape(-1, 2).T.copy()
  return Enrolled(template, subject)


def _identifier(row: text_lines.Row, text: str) -> int:
  if not (text.isascii() and text.isdecimal()) or len(text) > 10:
    raise row.error(f"expected a number, got {text[:80]!r}")
  if int(text) > _MAX_ID:
    raise row.error(f"{text} is larger than {_MAX_ID}")
  return int(text)
