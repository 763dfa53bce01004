"""Conversion to a folder of identities."""

import hashlib
import io
import os
import pathlib
import shutil

import numpy as np

from facejax.data import encoded, fingerprints, images
from facejax.data.conversions import targets
from facejax.data.stores import set_header
from facejax.runtime import text_lines, whole_files

# Hidden, so that those who read the folder for its images do not see it.
HEADER_FOLDER = ".facejax"

_MAX_NAME = 250
_SUFFIXES = {
  **{"JPEG": ".jpg", "PNG": ".png", "PPM": ".ppm", "BMP": ".bmp"},
  **{"GIF": ".gif", "WEBP": ".webp", "TIFF": ".tif", "HEIF": ".heic"},
}


class FolderTarget:
  """A folder for each identity; for each shard a list as sha256sum takes it.

  Identities without an image get no folder.
  """

  header_folder = HEADER_FOLDER
  whole_identities = True

  def check(
    self, files: encoded.EncodedImages, plan: set_header.ConversionPlan
  ) -> None:
    if plan.shuffle is not None:
      raise ValueError(
        "a folder has the order of its names: leave --shuffle out, or convert"
        " to array_record or record_io"
      )
    seen: set[str] = set()
    for label in map(int, np.unique(files.labels)):
      name = files.class_names[label]
      if name in seen:
        raise ValueError(
          f"two identities are called {name!r}; in a folder they would be one"
        )
      seen.add(name)
      _check_name(fingerprints.name_on_disk(name), name)

  def write(
    self,
    site: targets.Site,
    shard: targets.TargetShard,
    advance: targets.Advance,
  ) -> set_header.FilePiece:
    lines, current = io.BytesIO(), None
    for place in map(int, shard.places):
      data = site.files.encoded(place)
      name = site.files.name(place)
      identity, file = fingerprints.names_on_disk(site.files, place)
      file = _image_name(file, data, name)
      home = os.path.join(os.fsencode(site.folder), identity)
      if site.files.labels[place] != current:
        current = site.files.labels[place]
        _make_anew(home)
      try:
        with open(os.path.join(home, file), "xb") as copy:
          copy.write(data)
      except FileExistsError:
        raise ValueError(
          f"two images are called {name!r}; in a folder they would be one"
        ) from None
      digest = hashlib.sha256(data).hexdigest().encode()
      lines.write(b"%s  %s/%s\n" % (digest, identity, file))
      advance(1)
    # All at once: to wait for each file alone takes ten times as long.
    os.sync()
    path = site.folder / HEADER_FOLDER / f"{shard.name}.sha256"
    path.parent.mkdir(exist_ok=True)
    whole_files.write(path, lines.getvalue())
    return targets.piece(path, images=len(shard.places))

  def finish(
    self,
    site: targets.Site,
    order: np.ndarray | None,
    shards: targets.Pieces,
  ) -> tuple[targets.Pieces, targets.Pieces]:
    del site, order
    return shards, []


def compare(path: pathlib.Path, root: pathlib.Path) -> str | None:
  """Reads the images of one shard again.

  Args:
    path: The list of the shard.
    root: The folder of identities.

  Returns:
    The first image that is missing or differs from what was written, or None.
  """
  with open(path, "rb") as lines:
    for line in lines:
      digest, _, name = line.rstrip(b"\n").partition(b"  ")
      parts = name.split(b"/")
      if len(parts) != 2 or not {b"", b".", b".."}.isdisjoint(parts):
        return f"{os.fspath(path)!r}, which lists {name[:80]!r}"
      file = os.path.join(root, *map(os.fsdecode, parts))
      if not os.path.isfile(file):
        return f"{text_lines.printable(file)!r}, which is missing"
      if whole_files.sha256(file) != digest.decode("ascii", "replace"):
        return f"{text_lines.printable(file)!r}"
  return None


def _make_anew(home: bytes) -> None:
  if os.path.isdir(home):
    shutil.rmtree(home)  # of an attempt that was killed
  os.mkdir(home)


def _image_name(file: bytes, data: bytes, name: str) -> bytes:
  """Returns a file name that will be taken for an image's."""
  form = images.image_format(data[:16])
  if form is None:
    raise images.BadImageError(f"{name!r} is not an image")
  if not images.is_image_name(os.fsdecode(file)):
    file += _SUFFIXES[form].encode()
  _check_name(file, name)
  return file


def _check_name(part: bytes, name: str) -> None:
  """Refuses what is no name of one file, or hidden, or breaks a list."""
  if (
    not 0 < len(part) <= _MAX_NAME
    or part.startswith(b".")
    or any(mark in part for mark in (b"/", b"\0", b"\n", b"\r"))
  ):
    raise ValueError(
      f"{name!r} cannot be written to a folder: a name may not be empty, begin"
      f" with a dot, hold a slash or a line break, or exceed {_MAX_NAME} bytes"
    )
