"""Packs of pairs that lie in a folder, or beside the images of a data set."""

import os
import pickle
from collections.abc import Iterable

from facejax.data.pairs import packs

# What the field ships beside its records, by whatever protocol of pickle.
_OF_THE_FIELD = ("lfw", "cfp_fp", "cfp_ff", "agedb_30", "calfw", "cplfw")
_OF_THE_FIELD += ("vgg2_fp",)
# Folders of CFP's lists of pairs, which are opened as one set.
_OF_CFP = ("ff", "fp")


def expanded(places: Iterable[str]) -> list[str]:
  """Sets of pairs by their paths, each folder of packs as the packs in it.

  Args:
    places: Packs, lists of pairs, folders of packs, folders of CFP's lists.

  Returns:
    What `pairs.open_pairs` opens; the packs of a folder by their names.

  Raises:
    ValueError: A folder holds no pack.
  """
  found = []
  for path in places:
    name = os.path.basename(os.path.normpath(path)).lower()
    if os.path.isdir(path) and name not in _OF_CFP:
      found += _in_folder(path)
    else:
      found.append(path)
  return found


def beside(images: str | os.PathLike[str]) -> list[str]:
  """The packs that lie beside images: lfw.bin, cfp_fp.bin and so on, by name.

  Other files are called `.bin`, too: of those that the field does not ship, the
  ones count that begin like a pickle.

  Args:
    images: A folder of images, or a file of records.
  """
  folder = os.fspath(images)
  if not os.path.isdir(folder):
    folder = os.path.dirname(folder)
  return [
    path
    for path in _files(folder, (".bin",))
    if _stem(path) in _OF_THE_FIELD or _begins_like_a_pickle(path)
  ]


def _in_folder(folder: str) -> list[str]:
  found = _files(folder, packs.SUFFIXES)
  if not found:
    raise ValueError(
      f"the folder {folder!r} holds no pack of pairs, whose name ends in"
      f" {' or '.join(packs.SUFFIXES)}; of CFP name Split/FF or Split/FP"
    )
  return found


def _files(folder: str, suffixes: tuple[str, ...]) -> list[str]:
  """The files of a folder that are called so, by name."""
  if not os.path.isdir(folder):
    return []
  paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
  return [
    path
    for path in paths
    if os.path.splitext(path)[1].lower() in suffixes
    and not os.path.basename(path).startswith(".")
    and os.path.isfile(path)
  ]


def _stem(path: str) -> str:
  return os.path.splitext(os.path.basename(path))[0].lower()


def _begins_like_a_pickle(path: str) -> bool:
  with open(path, "rb") as file:
    return file.read(1) == pickle.PROTO
