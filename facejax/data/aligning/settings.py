"""How a folder of faces is aligned, and that all of it was aligned so."""

import json
import os
import pathlib
from typing import Literal, NamedTuple, TypeAlias

from facejax.data.aligning import enrolment, found
from facejax.data.aligning import landmarks as geometry
from facejax.data.detectors import registry
from facejax.runtime import whole_files

NAME = "align.json"
Faces: TypeAlias = Literal["main", "all"]


class Settings(NamedTuple):
  """How faces are aligned; travels to the workers.

  Attributes:
    source: The folder of photos.
    target: The folder of faces.
    image_size: Height and width of a face.
    quality: Of the JPEGs, 1 to 100.
    antialias: Whether large faces are shrunk first.
    detector: What finds faces; None where a table says where they are.
    faces: Whether each photo gives its main face, or all of them.
    template: Where the points come to lie.
  """

  source: str
  target: str
  image_size: tuple[int, int] = (112, 112)
  quality: int = 95
  antialias: bool = True
  detector: registry.Choice | None = None
  faces: Faces = "main"
  template: geometry.Template = "arcface"


def prepare(settings: Settings) -> None:
  """Makes the target; refuses folders that cannot be used.

  Raises:
    FileNotFoundError: There is no source folder, or the detector has no model.
    ValueError: The target lies in the source, or holds faces of other settings
      or of another detector; or there is no such detector.
    extras.MissingPackageError: The detector lacks a package.
  """
  chosen = _described(settings)
  source, target = map(os.path.realpath, (settings.source, settings.target))
  if not os.path.isdir(source):
    raise FileNotFoundError(f"there is no folder {settings.source!r}")
  if os.path.commonpath([source, target]) == source:
    raise ValueError(
      f"{settings.target!r} lies in {settings.source!r}, whose files would be"
      " overwritten or aligned again; write to another folder"
    )
  file = pathlib.Path(target, NAME)
  file.parent.mkdir(parents=True, exist_ok=True)
  said = file.read_text().strip() if file.exists() else None
  if said == chosen:
    return
  if said is not None and _has_faces(file.parent):
    raise ValueError(
      f"{settings.target!r} holds faces that were aligned otherwise:"
      f" {said[:300]}, not {chosen}; name another folder"
    )
  if said is not None:
    whole_files.remove(file.parent / found.NAME)
  whole_files.write(file, chosen + "\n")


def _has_faces(target: pathlib.Path) -> bool:
  """Whether anything was made; a detector may have failed at once."""
  others = NAME, found.NAME, enrolment.NAME
  return any(name not in others for name in os.listdir(target))


def _described(settings: Settings) -> str:
  """All that the pixels of a face depend on, as JSON."""
  geometry.template(settings.image_size, settings.template)
  chosen: dict[str, object] = {
    "image_size": list(settings.image_size),
    "quality": settings.quality,
    "antialias": settings.antialias,
  }
  if settings.detector is not None:
    chosen["detector"] = registry.described(settings.detector)
  if settings.faces != "main":
    chosen["faces"] = settings.faces
  if settings.template != "arcface":
    chosen["template"] = settings.template
  return json.dumps(chosen)
