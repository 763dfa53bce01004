"""The page of an album: its people with their photos, for a browser offline."""

import os
import pathlib
import urllib.parse
from collections.abc import Mapping, Sequence

from facejax.report import pages
from facejax.runtime import whole_files
from facejax.vectors import album

PAGE = "index.html"
FACES = "faces"


def write(
  folder: str | os.PathLike[str],
  photos: str | os.PathLike[str],
  people: Sequence[album.KnownPerson],
  faces: Mapping[str, album.KnownFace],
) -> pathlib.Path:
  """Writes OUT/index.html; pictures stay where they are, and are linked to.

  Args:
    folder: of the album; its aligned faces lie in `faces` there.
    photos: the folder of the photos.
    people: see `album.named`.
    faces: by their files.
  """
  folder = pathlib.Path(folder)
  up = os.path.relpath(photos, folder)

  def card(file: str) -> dict[str, str]:
    return {
      "image": _link(FACES, file),
      "photo": _link(up, faces[file].photo),
      "name": faces[file].photo,
    }

  shown = [
    {
      "number": person.number,
      "name": person.name,
      "best": card(album.best(person, faces).file),
      "faces": [card(file) for file in _by_quality(person, faces)],
    }
    for person in people
  ]
  page = pages.environment().get_template("people.html.jinja")
  text = page.render(
    people=[one for one in shown if len(one["faces"]) > 1 or one["name"]],
    once=[one for one in shown if len(one["faces"]) == 1 and not one["name"]],
    count=len(faces),
    table=album.PEOPLE,
    style=pages.style(),
  )
  path = folder / PAGE
  whole_files.write(path, text)
  return path


def _by_quality(
  person: album.KnownPerson, faces: Mapping[str, album.KnownFace]
) -> list[str]:
  return sorted(person.files, key=lambda file: -faces[file].quality)


def _link(*parts: str) -> str:
  """A path as a link of a page has it."""
  path = pathlib.PurePath(*parts).as_posix()
  return urllib.parse.quote(path.encode("utf-8", "surrogateescape"))
