"""Tables for people and spreadsheets."""

import csv
import os
from collections.abc import Iterable, Sequence
from typing import Any

from facejax.runtime import whole_files


def write(
  path: str | os.PathLike[str],
  header: Sequence[str],
  rows: Iterable[Sequence[Any]],
) -> None:
  """Writes a CSV file, whole or not at all; names of files as they are."""
  with (
    whole_files.replacing(path) as draft,
    draft.open("w", newline="", errors="surrogateescape") as file,
  ):
    out = csv.writer(file)
    out.writerow(header)
    out.writerows(rows)
