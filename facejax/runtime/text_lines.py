"""Text of files that may be damaged or hostile: names, and lines of lists."""

import dataclasses
import os
from collections.abc import Iterator

from facejax.runtime import file_kinds

# No path is longer; what is, is no list.
_MAX_LINE = 2**16
_LONGEST_MESSAGE = 300


@dataclasses.dataclass(frozen=True)
class Row:
  """The fields of one line.

  Attributes:
    where: File and line, for messages.
    fields: What stands between the separators.
  """

  where: str
  fields: tuple[str, ...]

  def error(self, message: str) -> ValueError:
    return ValueError(f"{self.where}: {message}")

  def count(self, text: str) -> int:
    """Returns a number of 1 or more.

    Raises:
      ValueError: It is none.
    """
    if not is_count(text):
      raise self.error(f"expected a number of 1 or more, got {text[:80]!r}")
    return int(text)

  def image(self, path: str) -> str:
    """Returns a path that stays below whatever folder it is looked for in.

    Raises:
      ValueError: It would not.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in path:
      raise self.error(
        f"{path[:80]!r} leads out of the folder of images; expected a path"
        " below it, such as NAME/NAME_0001.jpg"
      )
    return path


def rows(
  file: str | os.PathLike[str],
  *,
  fields: int | None = None,
  separator: str | None = None,
) -> Iterator[Row]:
  """Yields the lines that are not blank.

  Args:
    file: The file. Bytes that are not UTF-8 survive, as file names need.
    fields: How many fields each line has; None takes any number.
    separator: What stands between them; None is a tab, or in a line without
      one any space.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: It has no line, a line is too long, holds a zero byte or has
      another number of fields; names it.
  """
  name = os.fspath(file)
  if not os.path.isfile(name):
    raise FileNotFoundError(f"there is no file {name!r}")
  file_kinds.refuse(name, "a list")
  found = False
  with open(name, encoding="utf-8-sig", errors="surrogateescape") as text:
    number = 0
    while line := text.readline(_MAX_LINE):
      number += 1
      row = Row(f"{name!r} line {number}", _split(line.strip(), separator))
      if len(line) == _MAX_LINE or "\0" in line:
        raise row.error("is no text")
      if not line.strip():
        continue
      if fields is not None and len(row.fields) != fields:
        raise row.error(
          f"expected {fields} fields, got {len(row.fields)}:"
          f" {line.strip()[:80]!r}"
        )
      found = True
      yield row
  if not found:
    raise ValueError(f"{name!r} is empty")


def _split(line: str, separator: str | None) -> tuple[str, ...]:
  if separator is None and "\t" in line:
    separator = "\t"
  return tuple(field.strip() for field in line.split(separator))


def is_count(text: str) -> bool:
  """Returns whether a text is a number of 1 or more, of nine digits at most."""
  return (
    text.isascii() and text.isdecimal() and len(text) < 10 and int(text) > 0
  )


def first_line(error: BaseException) -> str:
  """The first line of what an error says, or else its kind.

  >>> first_line(OSError("full\\nfor long"))
  'full'
  """
  text = str(error).strip() or type(error).__name__
  return text.splitlines()[0][:_LONGEST_MESSAGE]


def printable(name: str) -> str:
  """Returns a file name that any UTF-8 file or console can take."""
  return os.fsencode(name).decode("utf-8", "backslashreplace")
