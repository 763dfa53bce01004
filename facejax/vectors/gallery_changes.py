"""Adds, removes and updates people of a gallery, without writing it anew.

Added faces become a part of their own, and removed ones a list of rows; neither
touches a file that is there. A change is there whole once changes.json names it,
which takes one step: killed before, it has not happened, and what it left is
cleared by the next. Whoever has the gallery open goes on seeing it as it was.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from facejax.runtime import folder_lock, json_files, whole_files
from facejax.vectors import embeddings as embeddings_lib
from facejax.vectors import gallery, gallery_files

_LOCK = ".lock"


def add(
  folder: str | os.PathLike[str], sets: Sequence[embeddings_lib.Embeddings]
) -> gallery.Gallery:
  """Adds faces; those of a person who is known already join the others.

  Args:
    folder: the gallery.
    sets: the faces. Equal names are the same person.

  Raises:
    FileNotFoundError: if there is no gallery.
    ValueError: if the faces come from another net, one is zero, or the gallery
      is damaged or has an approximate index.
    folder_lock.InUseError: if somebody else is changing it.
  """
  with _changing(folder) as (folder, contents):
    _change(folder, contents, sets, [])
  return gallery.open_gallery(folder)


def remove(
  folder: str | os.PathLike[str], names: Sequence[str]
) -> gallery.Gallery:
  """Removes people; they stay on the disk, and are not found any more.

  Args:
    folder: the gallery.
    names: of people; of a face without a name its path.

  Raises:
    ValueError: if a name is not known, or nobody would be left. Otherwise as
      `add`.
  """
  with _changing(folder) as (folder, contents):
    rows, missing = _rows_of(contents, names)
    if missing:
      raise ValueError(
        f"{len(missing)} of {len(names)} names are not in the gallery:"
        f" {', '.join(missing[:5])}"
      )
    if len(rows) + len(contents.removed) == len(contents.known):
      raise ValueError(
        "nobody would be left, and a gallery has at least one face: name fewer"
      )
    _change(folder, contents, [], rows)
  return gallery.open_gallery(folder)


def update(
  folder: str | os.PathLike[str], sets: Sequence[embeddings_lib.Embeddings]
) -> gallery.Gallery:
  """Adds faces in place of those that the same people had, in one step.

  Raises:
    ValueError: if a face has no name. Otherwise as `add`.
  """
  nameless = sum(int((part.labels < 0).sum()) for part in sets)
  if nameless:
    raise ValueError(
      f"{nameless:,} faces have no name, and only people are updated: add them"
    )
  with _changing(folder) as (folder, contents):
    shown = {name for part in sets for name in _shown(part)}
    rows, _ = _rows_of(contents, sorted(shown), paths=False)
    _change(folder, contents, sets, rows)
  return gallery.open_gallery(folder)


@contextlib.contextmanager
def _changing(
  folder: str | os.PathLike[str],
) -> Iterator[tuple[pathlib.Path, gallery_files.Contents]]:
  folder = pathlib.Path(folder)
  if not (folder / gallery_files.ABOUT).exists():
    raise FileNotFoundError(
      f"{folder} is no gallery: it has no {gallery_files.ABOUT}"
    )
  with folder_lock.held(folder / _LOCK, folder_lock.Advice("name another")):
    if (folder / gallery_files.INDEX).exists():
      raise ValueError(
        f"{folder} has an approximate index, which cannot follow changes: build"
        " another gallery of the changed faces, with --index for such an index"
      )
    yield folder, gallery_files.read(folder)


def _shown(faces: embeddings_lib.Embeddings) -> list[str]:
  """The people of a set of faces."""
  return [str(faces.names[int(k)]) for k in np.unique(faces.labels)]


def _rows_of(
  contents: gallery_files.Contents, names: Sequence[str], *, paths: bool = True
) -> tuple[np.ndarray, list[str]]:
  """The rows of people, and the names that nobody has."""
  known = contents.known
  number = {name: k for k, name in enumerate(known.names)}
  there = set(np.unique(known.labels).tolist())
  ids = [number[name] for name in names if number.get(name) in there]
  missing = [name for name in names if number.get(name) not in there]
  chosen = np.isin(known.labels, ids)
  if paths and missing:
    nameless = known.labels < 0
    nameless[contents.removed] = False
    shown = np.asarray(known.paths)
    chosen |= nameless & np.isin(shown, missing)
    found = set(shown[chosen].tolist())
    missing = [name for name in missing if name not in found]
  return np.flatnonzero(chosen), missing


def _change(folder: pathlib.Path, contents, sets, rows) -> None:
  """Writes the files of a change, and then that they count."""
  changes = gallery_files.read_changes(folder)
  _clear(folder, changes)
  number = changes.number + 1
  parts, removed = list(changes.parts), changes.removed
  if sets:
    _check(contents.known, sets)
    parts.append(f"part-{number}")
    with whole_files.replacing(folder / parts[-1]) as draft:
      draft.mkdir()
      gallery_files.write(draft, sets, contents.stored)
  if len(rows):
    removed = f"removed-{number}.npy"
    gone = np.union1d(contents.removed, rows)
    with (
      whole_files.replacing(folder / removed) as draft,
      draft.open("wb") as file,
    ):
      np.save(file, gone)
  json_files.write(
    folder / gallery_files.CHANGES,
    gallery_files.Changes(parts, removed, number)._asdict(),
  )


def _check(known, sets) -> None:
  for part in sets:
    gallery.check_same_net(known.about, part.about)
    dims = known.vectors.shape[1], part.vectors.shape[1]
    if dims[0] != dims[1]:
      raise ValueError(
        f"embeddings of {dims[1]} numbers cannot join a gallery of {dims[0]}"
      )


def _clear(folder: pathlib.Path, changes: gallery_files.Changes) -> None:
  """Removes what does not count: of changes that were cut short, or are past."""
  whole_files.remove_drafts(folder)
  counting = {*changes.parts, changes.removed}
  for pattern in ("part-*", "removed-*.npy"):
    for path in folder.glob(pattern):
      if path.name not in counting:
        whole_files.remove(path)
