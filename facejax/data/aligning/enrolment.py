"""How many photos gave a face: the failure to enrol of ISO/IEC 19795-1.

`enrolment.json` lies beside the faces of a folder whose alignment came to its
end.
"""

import collections
import os
import pathlib
from typing import NamedTuple

from facejax.runtime import json_files, whole_files

NAME = "enrolment.json"
_ENROLLED = ("aligned", "already there")
# What a photo, or a detector, is to blame for; not a list that names no photo.
_FAILED = (
  "photo without a face",
  "image that cannot be read",
  "landmarks that cannot be right",
)


class Enrolment(NamedTuple):
  """Of how many photos no face could be made."""

  failed: int
  tried: int


def begin(target: str | os.PathLike[str]) -> None:
  """Takes away what an earlier run counted, until `finish`."""
  whole_files.remove(pathlib.Path(target, NAME))


def finish(
  target: str | os.PathLike[str], counts: collections.Counter[str]
) -> None:
  """Writes what became of all photos, however often it was begun."""
  content = {
    "enrolled": sum(counts[kind] for kind in _ENROLLED),
    "failed": sum(counts[kind] for kind in _FAILED),
  }
  json_files.write(pathlib.Path(target, NAME), content, indent=1)


def read(target: str | os.PathLike[str]) -> Enrolment | None:
  """What was counted in a folder of faces; None if nothing was.

  Raises:
    ValueError: if the file is damaged.
  """
  file = pathlib.Path(target, NAME)
  if not os.fspath(target) or not file.is_file():
    return None
  content = json_files.read(file)
  numbers = content.get("failed"), content.get("enrolled")
  if any(type(number) is not int or number < 0 for number in numbers):
    raise ValueError(
      f"{file} is damaged: it must count the photos that failed and those that"
      " were enrolled"
    )
  failed, enrolled = (int(number or 0) for number in numbers)
  return Enrolment(failed, failed + enrolled) if failed + enrolled else None
