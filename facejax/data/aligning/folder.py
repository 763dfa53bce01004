"""Aligns all faces of a folder, on many processes, where it was stopped."""

import collections
import concurrent.futures
import functools
import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import process
from typing import NamedTuple

from facejax.data.aligning import enrolment, found, photo, table
from facejax.data.aligning import settings as settings_lib
from facejax.runtime import text_lines

_CHUNK = 32
_NAMED = 10

Settings = settings_lib.Settings


# What becomes of a photo that is not left out.
FINE = ("aligned", "already there")


class Outcome(NamedTuple):
  """What became of some images.

  Attributes:
    counts: How many of each kind.
    complaints: The first of them.
    rows: Of the table, for each face that was found.
  """

  counts: collections.Counter[str]
  complaints: list[str]
  rows: list[found.FoundFace]


def align_folder(
  faces: Iterable[table.ListedFace],
  settings: Settings,
  *,
  workers: int = 0,
  report: Callable[[Outcome], None] = lambda outcome: None,
) -> collections.Counter[str]:
  """Aligns faces; leaves out those that cannot be, and those that are there.

  Args:
    faces: What to align.
    settings: How, and from where to where.
    workers: Processes that do it; 0 does it here.
    report: Is told of every few images.

  Returns:
    How many were `aligned`, how many were `already there`, and how many were
    left out for each reason.

  Raises:
    FileNotFoundError: There is no source folder.
    ValueError: The folders cannot be used, or the target holds faces of other
      settings, or the detector is unknown or broken.
    extras.MissingPackageError: The detector lacks a package.
    OSError: The target cannot be written.
  """
  settings_lib.prepare(settings)
  enrolment.begin(settings.target)
  listed = table.once(faces, every=settings.faces == "all")
  known = None
  if settings.detector is not None:
    known = found.Table(settings.target)
    listed = _with_known(listed, known)
  total = collections.Counter[str]()
  work = functools.partial(_align_some, settings)
  try:
    for outcome in _spread(work, _chunks(listed), workers):
      total += outcome.counts
      if known is not None:
        known.add(outcome.rows)
      report(outcome)
  finally:
    if known is not None:
      known.finish()
  enrolment.finish(settings.target, total)
  return total


def left_out(counts: collections.Counter[str]) -> str:
  """How many were left out for which reason, most first; "" for none.

  >>> left_out(collections.Counter({"aligned": 3, "no such image": 2}))
  '2 no such image'
  """
  reasons = [(kind, n) for kind, n in counts.most_common() if kind not in FINE]
  return ", ".join(f"{n:,} {kind}" for kind, n in reasons if n)


def _with_known(
  faces: Iterable[table.ListedFace], known: found.Table
) -> Iterator[table.ListedFace]:
  """Tells each photo which faces were made of it before."""
  for face in faces:
    yield face._replace(made=known.files(face.path))


def _chunks(
  faces: Iterable[table.ListedFace],
) -> Iterator[list[table.ListedFace]]:
  faces = iter(faces)
  while chunk := list(itertools.islice(faces, _CHUNK)):
    yield chunk


def _spread(
  work: Callable[[list[table.ListedFace]], Outcome],
  chunks: Iterator[list[table.ListedFace]],
  workers: int,
) -> Iterator[Outcome]:
  """Maps over a stream of any length, a few chunks ahead."""
  if not workers:
    yield from map(work, chunks)
    return
  context = multiprocessing.get_context("spawn")
  pool = concurrent.futures.ProcessPoolExecutor(workers, context)
  try:
    pending: set[concurrent.futures.Future[Outcome]] = set()
    for chunk in chunks:
      pending.add(pool.submit(work, chunk))
      if len(pending) >= 4 * workers:
        done, pending = concurrent.futures.wait(
          pending, return_when=concurrent.futures.FIRST_COMPLETED
        )
        yield from (future.result() for future in done)
    for future in concurrent.futures.as_completed(pending):
      yield future.result()
  except process.BrokenProcessPool:
    raise ValueError(
      "a worker was killed, perhaps for want of memory; the same command again"
      " goes on, with fewer --workers"
    ) from None
  finally:
    pool.shutdown(cancel_futures=True)


def _align_some(
  settings: Settings, faces: Sequence[table.ListedFace]
) -> Outcome:
  outcome = Outcome(collections.Counter(), [], [])
  for face in faces:
    made = photo.align(settings, face)
    kind, colon, _ = made.fate.partition(":")
    outcome.counts[kind] += 1
    outcome.rows.extend(made.rows)
    for complaint in (made.fate,) * bool(colon) + made.complaints:
      if len(outcome.complaints) < _NAMED:
        outcome.complaints.append(
          text_lines.printable(f"{face.path}: {complaint}")
        )
  return outcome
