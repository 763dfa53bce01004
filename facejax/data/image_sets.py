"""What a command may be told to embed: a folder, a list, a record file."""

import os
import re
from collections.abc import Sequence

import numpy as np

from facejax.data import encoded, formats, images
from facejax.data.stores import folder, folder_scan
from facejax.runtime import json_files, text_lines

_LISTS = (".txt", ".csv", ".tsv", ".lst", ".list")
_SETS = (".rec",)
_JSON = re.compile(r"\.json(_[0-9]+)*$")


class ListedImages:
  """Images at any paths, with or without names; an `EncodedImages`.

  People are numbered in the order of their names. An image of whom nobody
  knows has label -1.
  """

  def __init__(self, paths: Sequence[str], who: Sequence[str] | None = None):
    """Takes them as they are; nothing is opened yet.

    Args:
      paths: Where the images lie.
      who: The name of each one's person; "" where it is not known.
    """
    self.paths = list(paths)
    known = who if who is not None else [""] * len(self.paths)
    self.class_names = sorted({name for name in known if name})
    number = {name: k for k, name in enumerate(self.class_names)}
    self.labels = np.asarray([number.get(name, -1) for name in known], np.int32)

  @property
  def num_classes(self) -> int:
    return len(self.class_names)

  def __len__(self) -> int:
    return len(self.paths)

  def path(self, index: int) -> str:
    return self.paths[index]

  def name(self, index: int) -> str:
    return text_lines.printable(self.paths[index])

  def encoded(self, index: int) -> bytes:
    return encoded.read_file(self.paths[index])


def open_set(
  path: str | os.PathLike[str],
  *,
  max_bad_share: float = 0.01,
  recursive: bool = False,
) -> encoded.EncodedImages:
  """Opens what a command was given.

  - an image: itself;
  - a list (.txt, .csv, .tsv, .lst): `PATH` or `PATH<tab>NAME` a line, in .csv
    with a comma between; lines that begin with # do not count, paths go from
    the folder of the list;
  - a list of MegaFace (.json, .json_1000_1): "path", and "id" of people;
  - a folder of images, of folders with images, one a person, or of both;
  - what `facejax.train` reads: .rec, array records, a data set of TFDS.

  Args:
    path: where it lies.
    max_bad_share: the largest share of damaged files in a folder.
    recursive: whether images deeper in a person's folder are taken as well.

  Raises:
    FileNotFoundError: there is nothing.
    ValueError: there is no image in it, or it is damaged.
  """
  path = os.fspath(path)
  if not os.path.exists(path):
    raise FileNotFoundError(f"there is no folder or file {path!r}")
  if os.path.isdir(path):
    if formats.guess(path) == "folder":
      return _open_folder(path, max_bad_share, recursive)
    return formats.open_images(path, max_bad_share=max_bad_share)
  if path.endswith(_SETS):
    return formats.open_images(path, max_bad_share=max_bad_share)
  if path.endswith(_LISTS):
    return _read_list(path)
  if _JSON.search(path):
    return _read_json(path)
  if images.is_image_name(path) or images.check(path) is None:
    return ListedImages([path])
  raise ValueError(
    f"{path!r} is neither an image nor a list of them"
    f" ({', '.join(_LISTS)}, .json), a .rec file or a folder"
  )


def image_path(files: encoded.EncodedImages, index: int) -> str:
  """Where an image lies; what it is called, if it is no file of its own."""
  find = getattr(files, "path", None)
  return str(find(index)) if callable(find) else files.name(index)


def _open_folder(
  path: str, max_bad_share: float, recursive: bool
) -> encoded.EncodedImages:
  """A folder of people, of images that nobody is named for, or of both."""
  here = folder_scan.scan(path)
  if not here.images:
    return folder.ImageFolder(
      path, max_bad_share=max_bad_share, recursive=recursive
    )
  loose = [os.path.join(path, name) for name in here.images]
  if not here.folders:
    left_out = folder_scan.LeftOut()
    left_out.add("files that are no images", here.damaged)
    left_out.add("other files", here.others)
    left_out.report(path)
    return ListedImages(loose)
  people = folder.ImageFolder(
    path, max_bad_share=max_bad_share, recursive=recursive, mixed=True
  )
  names = [people.class_names[label] for label in people.labels.tolist()]
  return ListedImages(
    [*loose, *map(people.path, range(len(people)))],
    [*[""] * len(loose), *names],
  )


def _read_list(path: str) -> ListedImages:
  home = os.path.dirname(path)
  separator = "," if path.endswith(".csv") else "\t"
  places, who = [], []
  for row in text_lines.rows(path, separator=separator):
    place, *rest = row.fields
    if place.startswith("#"):
      continue
    if len(rest) > 1 or not place:
      raise row.error("expected PATH, or PATH and NAME")
    places.append(os.path.join(home, os.path.expanduser(place)))
    who.append(rest[0] if rest else "")
  if not places:
    raise ValueError(f"{path!r} lists no image")
  return ListedImages(places, who)


def _read_json(path: str) -> ListedImages:
  """A list as MegaFace's development kit has it: {"path": […], "id": […]}."""
  content = json_files.read(path)
  places, who = content.get("path"), content.get("id")
  lists: list[list[str]] = []
  for each in [places] if who is None else [places, who]:
    if isinstance(each, list) and all(isinstance(name, str) for name in each):
      lists.append(each)
    else:
      raise ValueError(
        f'{path!r} is no list of images: expected {{"path": ["A/1.jpg", …]}}, and'
        ' "id": ["A", …] where their people are known'
      )
  if not places or len({len(each) for each in lists}) > 1:
    raise ValueError(
      f"{path!r} lists {' and '.join(str(len(each)) for each in lists)} paths"
      " and people; expected as many of each, and one or more"
    )
  home = os.path.dirname(path)
  return ListedImages([os.path.join(home, place) for place in places], who)
