"""One photo, and the aligned faces that are made of it."""

import errno
import os
from typing import NamedTuple

import numpy as np
import simplejpeg

from facejax.data import encoded, images
from facejax.data.aligning import found as found_faces
from facejax.data.aligning import landmarks as geometry
from facejax.data.aligning import quality, table
from facejax.data.aligning import settings as settings_lib
from facejax.data.detectors import contract, registry
from facejax.runtime import file_kinds, whole_files


class Made(NamedTuple):
  """What became of a photo.

  Attributes:
    fate: "aligned", "already there", or after the reason a colon and the
      details.
    rows: Of the table, for each face that was found and aligned.
    complaints: Of faces that were left out of a photo that has others.
  """

  fate: str
  rows: tuple[found_faces.FoundFace, ...] = ()
  complaints: tuple[str, ...] = ()


def align(settings: settings_lib.Settings, listed: table.ListedFace) -> Made:
  """Aligns the faces of a photo, or one of them that a table lists."""
  if listed.complaint:
    return Made(listed.complaint)
  if _is_there(settings, listed):
    return Made("already there")
  source = os.path.join(settings.source, listed.path)
  if not os.path.isfile(source):
    return Made("no such image: it is not in the source folder")
  if refusal := _refusal(source):
    return Made(refusal)
  try:
    return _align(settings, listed, source)
  except images.BadImageError as error:
    return Made(f"image that cannot be read: {error}")
  except geometry.LandmarkError as error:
    return Made(f"landmarks that cannot be right: {error}")
  except OSError as error:
    if error.errno != errno.ENAMETOOLONG:
      raise
    return Made("name that is too long: the file system refuses it")


def _is_there(
  settings: settings_lib.Settings, listed: table.ListedFace
) -> bool:
  made = listed.made
  if listed.landmarks is not None:
    made = (_file(listed.path, listed.number),)
  return bool(made) and all(
    os.path.exists(os.path.join(settings.target, file)) for file in made
  )


def _file(path: str, number: int) -> str:
  """The name of a face: a/b.jpg, or of all faces of a photo a/b_1.jpg …

  Numbered or not, no two photos of other stems share one.
  """
  stem = os.path.splitext(path)[0]
  return f"{stem}_{number}.jpg" if number else f"{stem}.jpg"


def _refusal(source: str) -> str:
  """What is wrong with a file that is none of a photo, or none to be read."""
  kind = file_kinds.of_file(source)
  if kind == file_kinds.VIDEO:
    return f"video: {file_kinds.VIDEO.advice}"
  if kind == file_kinds.HEIC and images.check(source) is not None:
    return f"HEIC photo that cannot be read here: {file_kinds.HEIC.advice}"
  return ""


def _align(
  settings: settings_lib.Settings, listed: table.ListedFace, source: str
) -> Made:
  image, factor = images.decode_reduced(
    encoded.read_file(source), name=listed.path
  )
  if listed.landmarks is not None:
    points = contract.enlarged(listed.landmarks, 1 / factor)
    file = _file(listed.path, listed.number)
    _write(_cut(settings, image, points), settings, file)
    return Made("aligned")
  assert settings.detector is not None
  faces = registry.load(settings.detector)(image).enlarged(factor)
  if not len(faces):
    return Made("photo without a face: none was found in it")
  faces, complaints = _possible(faces, image, factor)
  every = settings.faces == "all"
  chosen = _by_size(faces) if every else [main_face(faces, image, factor)]
  rows = []
  for number, place in enumerate(chosen, 1 if every else 0):
    file = _file(listed.path, number)
    points = contract.enlarged(faces.points[place], 1 / factor)
    aligned = _cut(settings, image, points)
    _write(aligned, settings, file)
    rows.append(
      found_faces.FoundFace(
        path=listed.path,
        points=faces.points[place],
        file=file,
        faces=len(chosen),
        score=float(faces.scores[place]),
        box=faces.boxes[place],
        quality=quality.of_face(aligned, points, settings.template),
      )
    )
  return Made("aligned", tuple(rows), complaints if every else ())


def _possible(
  faces: contract.Faces, image: np.ndarray, factor: int
) -> tuple[contract.Faces, tuple[str, ...]]:
  """Those whose points can be a face's, and what is wrong with the others.

  Raises:
    geometry.LandmarkError: There is none.
  """
  faces = contract.Faces(
    faces.boxes, faces.scores, found_faces.rounded(faces.points)
  )
  complaints = []
  good = np.ones(len(faces), bool)
  for place, points in enumerate(faces.points):
    try:
      geometry.check_landmarks(
        contract.enlarged(points, 1 / factor), image.shape
      )
    except geometry.LandmarkError as error:
      good[place] = False
      complaints.append(f"one of its faces: {error}")
  if not good.any():
    raise geometry.LandmarkError(complaints[0])
  return faces.take(np.flatnonzero(good)), tuple(complaints)


def main_face(faces: contract.Faces, image: np.ndarray, factor: int) -> int:
  """The face that a photo shows, of those found in it.

  Of the largest, down to half of their size, that nearest to the middle.
  """
  middles = faces.points.mean(1)
  spread = np.square(faces.points - middles[:, None]).sum(-1).mean(-1)
  sizes = np.sqrt(spread)
  height, width = (factor * side for side in image.shape[:2])
  distances = np.hypot(*(middles - ((width - 1) / 2, (height - 1) / 2)).T)
  distances[sizes < 0.5 * sizes.max()] = np.inf
  return int(np.argmin(distances))


def _by_size(faces: contract.Faces) -> np.ndarray:
  """The places of the faces, from the largest box down."""
  sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
  return np.argsort(-sides.prod(1), kind="stable")


def _cut(
  settings: settings_lib.Settings, image: np.ndarray, points: np.ndarray
) -> np.ndarray:
  return geometry.align(
    image,
    points,
    image_size=settings.image_size,
    kind=settings.template,
    antialias=settings.antialias,
  )


def _write(
  image: np.ndarray, settings: settings_lib.Settings, file: str
) -> None:
  """Writes a JPEG; under its name there is a whole file or none."""
  data = simplejpeg.encode_jpeg(
    image, quality=settings.quality, colorsubsampling="420"
  )
  target = os.path.join(settings.target, file)
  os.makedirs(os.path.dirname(target), exist_ok=True)
  whole_files.write(target, data)
