"""The text files of the LFW protocols, and lists of identities.

References:
  Huang, Ramesh, Berg, Learned-Miller. Labeled Faces in the Wild: A Database
  for Studying Face Recognition in Unconstrained Environments. 2007.
"""

import dataclasses
import os
from collections.abc import Sequence

from facejax.runtime import file_kinds, text_lines

_DEV_FOLDS = 10


@dataclasses.dataclass(frozen=True)
class LfwPair:
  """One line of a pairs file.

  Attributes:
    line: Its number in the file, counted from 1.
    first: Name of the person and number of the image, counted from 1.
    second: The same of the other image.
    fold: The fold, counted from 0.
  """

  line: int
  first: tuple[str, int]
  second: tuple[str, int]
  fold: int

  @property
  def same(self) -> bool:
    return self.first[0] == self.second[0]


def read_lfw_pairs(file: str | os.PathLike[str]) -> list[LfwPair]:
  """Reads `pairs.txt`, `pairsDevTrain.txt` or `pairsDevTest.txt`.

  A header `10 300` announces 10 folds, each of 300 genuine and then 300
  impostor pairs. A header `1100` announces 1100 genuine and then 1100 impostor
  pairs without folds; they are split into ten equal ones in file order, each
  with as many genuine as impostor pairs. So are those of `1 300`, a single fold,
  which no threshold could be chosen for without itself.

  Args:
    file: The file.

  Returns:
    The pairs in the order of the file.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: A line is malformed, too few or too many; names file and line.
  """
  rows = _rows(file)
  header = rows[0][1]
  if len(header) > 2 or not all(_is_count(field) for field in header):
    raise _error(
      file,
      rows[0][0],
      f"expected a header such as '10<tab>300' or '1100', got {header}",
    )
  folds = int(header[0]) if len(header) == 2 else 1
  size = int(header[-1])
  if len(rows) - 1 != 2 * folds * size:
    raise _error(
      file,
      rows[-1][0],
      f"the header announces {2 * folds * size} pairs, the file has"
      f" {len(rows) - 1}",
    )
  pairs = []
  for place, (line, fields) in enumerate(rows[1:]):
    fold, place = divmod(place, 2 * size)
    if folds == 1:
      fold = place % size * min(_DEV_FOLDS, size) // size
    pairs.append(_pair(file, line, fields, place < size, fold))
  return pairs


def _pair(
  file: str | os.PathLike[str],
  line: int,
  fields: Sequence[str],
  same: bool,
  fold: int,
) -> LfwPair:
  numbers = fields[1::2] if len(fields) == 4 else fields[1:]
  if len(fields) != (3 if same else 4) or not all(map(_is_count, numbers)):
    wanted = "NAME I J" if same else "NAME1 I NAME2 J"
    kind = "genuine" if same else "impostor"
    raise _error(
      file, line, f"expected the {kind} pair {wanted!r}, got {list(fields)}"
    )
  names = (fields[0], fields[0] if same else fields[2])
  for name in names:
    if name in (".", "..") or any(mark in name for mark in "/\\\0"):
      raise _error(file, line, f"{name!r} is no name of a person")
  first, second = zip(names, map(int, numbers), strict=True)
  if first == second or (not same and names[0] == names[1]):
    raise _error(file, line, f"the pair {list(fields)} repeats itself")
  return LfwPair(line=line, first=first, second=second, fold=fold)


def read_lfw_people(file: str | os.PathLike[str]) -> list[list[str]]:
  """Reads `people.txt`, `peopleDevTrain.txt` or `peopleDevTest.txt`.

  Args:
    file: The file.

  Returns:
    The names of each set: ten sets for `people.txt`, one for the others.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: A line is malformed or a count wrong; names file and line.
  """
  rows = _rows(file)
  line, fields = rows[0]
  if len(fields) != 1 or not _is_count(fields[0]):
    raise _error(file, line, f"expected a count, got {fields}")
  sets = 1
  if len(rows) > 1 and len(rows[1][1]) == 1:
    sets, rows = int(fields[0]), rows[1:]
  people = []
  for _ in range(sets):
    line, fields = rows[0] if rows else (line, [])
    if len(fields) != 1 or not _is_count(fields[0]):
      raise _error(file, line, f"expected the count of a set, got {fields}")
    count = int(fields[0])
    people.append([_person(file, *row) for row in rows[1 : 1 + count]])
    if len(people[-1]) != count:
      raise _error(
        file, line, f"the set has {len(people[-1])} people, not {count}"
      )
    rows = rows[1 + count :]
  if rows:
    raise _error(file, rows[0][0], "more people than the header announces")
  return people


def _person(
  file: str | os.PathLike[str], line: int, fields: Sequence[str]
) -> str:
  if len(fields) != 2 or not _is_count(fields[1]):
    raise _error(file, line, f"expected 'NAME<tab>COUNT', got {list(fields)}")
  return fields[0]


def read_identities(file: str | os.PathLike[str]) -> list[str]:
  """Reads a list of identities.

  Args:
    file: An LFW people file, or a text file with one identity a line, where
      anything after a tab and lines that begin with '#' are left out.

  Returns:
    The names in the order of the file, each once.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: It holds no identity, or is a malformed LFW people file.
  """
  lines = [text for _, text in _lines(file) if not text.startswith("#")]
  if _looks_like_people(lines):
    names = [name for people in read_lfw_people(file) for name in people]
    return list(dict.fromkeys(names))
  names = list(dict.fromkeys(line.split("\t")[0].strip() for line in lines))
  if not names:
    raise ValueError(f"{os.fspath(file)!r} lists no identity")
  return names


def _looks_like_people(lines: Sequence[str]) -> bool:
  # An identity may be called by a number: only a name with its count, after a
  # count or two, tells a people file from a plain list.
  head = [line.split("\t") for line in lines[:3]]
  return (
    len(head) > 1
    and len(head[0]) == 1
    and _is_count(lines[0].strip())
    and len(head[-1]) == 2
    and _is_count(head[-1][1].strip())
  )


def _lines(file: str | os.PathLike[str]) -> list[tuple[int, str]]:
  """Returns the number and the text of each line that is not blank."""
  if not os.path.isfile(file):
    raise FileNotFoundError(f"there is no file {os.fspath(file)!r}")
  file_kinds.refuse(file, "a list of pairs or people")
  # Names of files need not be UTF-8: undecodable bytes survive the round trip.
  with open(file, encoding="utf-8-sig", errors="surrogateescape") as lines:
    numbered = [(n, line.rstrip("\n")) for n, line in enumerate(lines, 1)]
  return [(n, line) for n, line in numbered if line.strip()]


def _rows(file: str | os.PathLike[str]) -> list[tuple[int, list[str]]]:
  """Returns the fields of each line, split at tabs or else at spaces."""
  rows = [
    (n, [field.strip() for field in line.strip().split("\t")])
    if "\t" in line.strip()
    else (n, line.split())
    for n, line in _lines(file)
  ]
  if not rows:
    raise ValueError(f"{text_lines.printable(os.fspath(file))!r} is empty")
  return rows


def _is_count(text: str) -> bool:
  return text.isascii() and text.isdecimal() and 0 < int(text) < 10**9


def _error(file: str | os.PathLike[str], line: int, message: str) -> ValueError:
  return ValueError(f"{os.fspath(file)!r} line {line}: {message}")
