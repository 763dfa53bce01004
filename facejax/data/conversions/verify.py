"""Reads converted sets again and compares them with their checksums."""

import concurrent.futures
import os
import pathlib

from facejax.data.conversions import to_folder
from facejax.data.stores import set_header
from facejax.runtime import progress, whole_files

_NAMED = 3


def verify(path: str | os.PathLike[str], *, workers: int = 1) -> int:
  """Compares every byte of a converted set with what was written.

  Args:
    path: The set.
    workers: How many threads read.

  Returns:
    How many images it holds.

  Raises:
    FileNotFoundError: There is no converted set.
    ValueError: Files differ; names the first.
  """
  root = pathlib.Path(path)
  hidden = root / to_folder.HEADER_FOLDER
  folder = hidden if hidden.is_dir() else root
  header = set_header.read(folder)
  pieces = [*header.shards, *header.files]

  def check(piece: set_header.FilePiece) -> str | None:
    found = whole_files.sha256(folder / piece.file, piece.offset, piece.bytes)
    if found != piece.sha256:
      begin, end = piece.offset, piece.offset + piece.bytes
      return f"{piece.file!r}, bytes {begin:,} to {end:,}"
    if header.plan.kind == "folder":
      return to_folder.compare(folder / piece.file, root)
    return None

  with (
    progress.counting("verified", header.plan.images) as advance,
    concurrent.futures.ThreadPoolExecutor(workers) as pool,
  ):
    damaged = []
    for piece, complaint in zip(pieces, pool.map(check, pieces), strict=True):
      advance(piece.images)
      if complaint:
        damaged.append(complaint)
  if damaged:
    more = f" and {len(damaged) - _NAMED} more" * (len(damaged) > _NAMED)
    raise ValueError(
      f"{os.fspath(path)!r} differs from what was written, in"
      f" {'; '.join(damaged[:_NAMED])}{more}; convert it again"
    )
  return header.plan.images
