"""Aligns all faces of a folder, on many processes, where it was stopped."""

import collections
import concurrent.futures
import errno
import functools
import importlib.metadata
import itertools
import json
import multiprocessing
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import process
from typing import NamedTuple

import numpy as np
import simplejpeg

from facejax.data import encoded, images
from facejax.data.aligning import landmarks as geometry
from facejax.data.aligning import table
from facejax.runtime import text_lines, whole_files

_CHUNK = 32
_NAMED = 10
_GROUP = "facejax.detectors"
_SETTINGS = "align.json"

Detector = Callable[[np.ndarray], np.ndarray]


class Settings(NamedTuple):
  """How faces are aligned; travels to the workers."""

  source: str
  target: str
  image_size: tuple[int, int] = (112, 112)
  quality: int = 95
  antialias: bool = True
  detector: str | None = None


class Outcome(NamedTuple):
  """What became of some images: how many of each kind, and the complaints."""

  counts: collections.Counter[str]
  complaints: list[str]


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
    OSError: The target cannot be written.
  """
  _prepare(settings)
  total = collections.Counter[str]()
  work = functools.partial(_align_some, settings)
  for outcome in _spread(work, _chunks(table.once(faces)), workers):
    total += outcome.counts
    report(outcome)
  return total


def _prepare(settings: Settings) -> None:
  """Refuses folders that cannot be used; makes the target."""
  geometry.template(settings.image_size)
  source, target = map(os.path.realpath, (settings.source, settings.target))
  if not os.path.isdir(source):
    raise FileNotFoundError(f"there is no folder {settings.source!r}")
  if os.path.commonpath([source, target]) == source:
    raise ValueError(
      f"{settings.target!r} lies in {settings.source!r}, whose files would be"
      " overwritten or aligned again; write to another folder"
    )
  if settings.detector is not None:
    _entry_point(settings.detector)
  chosen = {
    "image_size": list(settings.image_size),
    "quality": settings.quality,
    "antialias": settings.antialias,
  }
  file = pathlib.Path(target, _SETTINGS)
  file.parent.mkdir(parents=True, exist_ok=True)
  if not file.exists():
    whole_files.write(file, json.dumps(chosen) + "\n")
  found = file.read_text()
  if found != json.dumps(chosen) + "\n":
    raise ValueError(
      f"{settings.target!r} holds faces that were aligned otherwise:"
      f" {found.strip()[:200]}, not {json.dumps(chosen)}; name another folder"
    )


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
  outcome = Outcome(collections.Counter(), [])
  for face in faces:
    complaint = face.complaint or _align_one(settings, face)
    kind, colon, _ = complaint.partition(":")
    outcome.counts[kind] += 1
    if colon and len(outcome.complaints) < _NAMED:
      outcome.complaints.append(
        text_lines.printable(f"{face.path}: {complaint}")
      )
  return outcome


def _align_one(settings: Settings, face: table.ListedFace) -> str:
  """Returns what became of an image, and after a colon what was wrong."""
  target = os.path.join(settings.target, os.path.splitext(face.path)[0])
  target += ".jpg"
  if os.path.exists(target):
    return "already there"
  source = os.path.join(settings.source, face.path)
  if not os.path.isfile(source):
    return "no such image: it is not in the source folder"
  try:
    image = images.decode(encoded.read_file(source), name=face.path)
    landmarks = face.landmarks
    if landmarks is None:
      found = _detector(str(settings.detector))(image)
      landmarks = table.main_face(found, image.shape)
    aligned = geometry.align(
      image,
      landmarks,
      image_size=settings.image_size,
      antialias=settings.antialias,
    )
  except images.BadImageError as error:
    return f"image that cannot be read: {error}"
  except geometry.LandmarkError as error:
    return f"landmarks that cannot be right: {error}"
  try:
    _write(aligned, target, quality=settings.quality)
  except OSError as error:
    if error.errno != errno.ENAMETOOLONG:
      raise
    return "name that is too long: the file system refuses it"
  return "aligned"


def _write(image: np.ndarray, target: str, *, quality: int) -> None:
  """Writes a JPEG; under its name there is a whole file or none."""
  data = simplejpeg.encode_jpeg(image, quality=quality, colorsubsampling="420")
  os.makedirs(os.path.dirname(target), exist_ok=True)
  whole_files.write(target, data)


def _entry_point(name: str) -> importlib.metadata.EntryPoint:
  found = importlib.metadata.entry_points(group=_GROUP)
  if name not in found.names:
    raise ValueError(
      f"there is no detector {name!r}; installed are:"
      f" {', '.join(sorted(found.names)) or 'none'}. A package brings one by an"
      f" entry point of the group {_GROUP}"
    )
  return next(iter(found.select(name=name)))


@functools.cache
def _detector(name: str) -> Detector:
  try:
    return _entry_point(name).load()
  except (ImportError, AttributeError) as error:
    raise ValueError(f"detector {name!r} cannot be loaded: {error}") from error
