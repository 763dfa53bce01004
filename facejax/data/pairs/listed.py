"""Finding the images that a list of pairs names."""

import os
from collections.abc import Sequence

import numpy as np

from facejax.data import images
from facejax.data.pairs import encoded_pairs, protocols
from facejax.data.stores import folder


def listed_pairs(
  path: str | os.PathLike[str],
  root: str | os.PathLike[str],
  protocol: protocols.Protocol | None = None,
) -> encoded_pairs.EncodedPairs:
  """Reads a list of pairs and finds the images that occur in it.

  Args:
    path: The list; see `protocols`.
    root: The folder that holds the images as the list calls them, with any
      suffix. Where the list has file names alone, `NAME/NAME_0001.jpg` is
      found too.
    protocol: Whose list it is; None guesses.

  Returns:
    The pairs in the order of the list.

  Raises:
    FileNotFoundError: The list, the folder or an image does not exist.
    ValueError: A line is malformed.
  """
  pairs = protocols.read_list(path, protocol)
  finder = _Finder(root)
  found = [
    (finder(pair.where, pair.first), finder(pair.where, pair.second))
    for pair in pairs
  ]
  groups: dict[str, set[str]] = {}
  for place, file in (side for pair in found for side in pair):
    groups.setdefault(place, set()).add(file)
  ordered = [(place, sorted(groups[place])) for place in sorted(groups)]
  sides = ((place, file) for place, files in ordered for file in files)
  index = {side: k for k, side in enumerate(sides)}
  return encoded_pairs.EncodedPairs(
    files=folder.ImageFiles(root, ordered),
    first=np.asarray([index[first] for first, _ in found], np.int32),
    second=np.asarray([index[second] for _, second in found], np.int32),
    same=np.asarray([pair.same for pair in pairs], bool),
    fold=np.asarray([pair.fold for pair in pairs], np.int32),
  )


class _Finder:
  """Finds images under a folder; looks at each folder in it once."""

  def __init__(self, root: str | os.PathLike[str]):
    self._root = os.fspath(root)
    if not os.path.isdir(self._root):
      raise FileNotFoundError(f"there is no image folder {self._root!r}")
    self._folders: dict[str, dict[str, str]] = {}

  def __call__(self, where: str, path: str) -> tuple[str, str]:
    """Returns the names of the folder and of the file.

    Raises:
      FileNotFoundError: There is no such image.
    """
    place, _, file = path.rpartition("/")
    stem, suffix = os.path.splitext(file)
    if not images.is_image_name(file):
      stem, suffix = file, ".jpg"
    for candidate in [place] if place else [".", stem.rpartition("_")[0]]:
      here = self._files(candidate)
      if found := here.get(file) or here.get(stem):
        return candidate, found
    missing = os.path.join(self._root, place, stem + suffix)
    raise FileNotFoundError(
      f"{where}: there is no image {missing!r}, nor one with another suffix"
    )

  def _files(self, place: str) -> dict[str, str]:
    """Returns the files in a folder, by their names and by their stems."""
    if place not in self._folders:
      names = _file_names(os.path.join(self._root, place))
      by_stem = {os.path.splitext(name)[0]: name for name in names}
      self._folders[place] = by_stem | {name: name for name in names}
    return self._folders[place]


def _file_names(folder: str) -> Sequence[str]:
  """Those that are called like images last: of equal stems the last counts."""
  try:
    names = [name for name in os.listdir(folder) if not name.startswith(".")]
    return sorted(names, key=lambda name: (images.is_image_name(name), name))
  except (FileNotFoundError, NotADirectoryError):
    return ()
