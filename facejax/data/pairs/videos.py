"""Pairs of videos: the splits of YouTube Faces, and the frames that they name.

`splits.txt` has a line of column names, then one for each pair:

    split number, first name, second name, is same, original
    1, Aaron_Eckhart/0, Aaron_Eckhart/2, 1, 0

What stands after "is same" is not read. Each split is a fold; there are ten of
250 genuine and 250 impostor pairs. `splits_corrected.txt` has the same form.

The frames of a video are the images in `NAME/VIDEO` under the root, in the
order of the last number in their names: `aligned_detect_0.99.jpg` comes before
`aligned_detect_0.100.jpg`, and so it is in `frame_images_DB` (`0.99.jpg`).

References:
  Wolf, Hassner, Maoz. Face Recognition in Unconstrained Videos with Matched
  Background Similarity. 2011.
"""

import dataclasses
import os
import re
from collections.abc import Iterator

import numpy as np

from facejax.data.pairs import protocols
from facejax.data.stores import folder, folder_scan
from facejax.runtime import text_lines

_FIELDS = 4


@dataclasses.dataclass(frozen=True, eq=False)
class VideoPairs:
  """Pairs of videos for verification in folds.

  Attributes:
    frames: The frames, video after video, each in the order of its film; the
      label of a frame is its video, `class_names` are `NAME/VIDEO`.
    first: int32 [n], each pair's first video.
    second: int32 [n], its second.
    same: bool [n], whether both show the same person.
    fold: int32 [n], the fold of each pair, counted from 0.
  """

  frames: folder.ImageFiles
  first: np.ndarray
  second: np.ndarray
  same: np.ndarray
  fold: np.ndarray


def open_videos(
  path: str | os.PathLike[str],
  root: str | os.PathLike[str],
  *,
  frames: int | None = None,
) -> VideoPairs:
  """Reads a list of pairs of videos and finds the frames of these.

  Args:
    path: `splits.txt`.
    root: The folder that holds `NAME/VIDEO/FRAME.jpg`.
    frames: How many of the first frames of each video count; None for all.

  Raises:
    FileNotFoundError: The list, the root or a video does not exist.
    ValueError: A line is malformed, a video has no frames, or one of its frames
      is damaged.
  """
  if not os.path.isdir(root):
    raise FileNotFoundError(f"there is no folder of videos {os.fspath(root)!r}")
  pairs = list(read_splits(path))
  where: dict[str, str] = {}
  for pair in pairs:
    for video in (pair.first, pair.second):
      where.setdefault(video, pair.where)
  names = sorted(where)
  number = {name: k for k, name in enumerate(names)}
  groups = ((name, _frames(root, name, where[name])[:frames]) for name in names)
  return VideoPairs(
    frames=folder.ImageFiles(root, groups),
    first=np.asarray([number[pair.first] for pair in pairs], np.int32),
    second=np.asarray([number[pair.second] for pair in pairs], np.int32),
    same=np.asarray([pair.same for pair in pairs], bool),
    fold=np.asarray([pair.fold for pair in pairs], np.int32),
  )


def read_splits(
  path: str | os.PathLike[str],
) -> Iterator[protocols.ListedPair]:
  """Reads `splits.txt`; the paths of its pairs are those of videos.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: There is no pair, or a line is malformed or leads out of the
      root; names it.
  """
  found = False
  for k, row in enumerate(text_lines.rows(path, separator=",")):
    fields = row.fields
    if k == 0 and fields[0] and not fields[0][0].isdecimal():
      continue  # the names of the columns
    if len(fields) < _FIELDS:
      raise row.error(
        f"expected {_FIELDS} fields or more with commas between (split, first"
        f" video, second video, is same), got {len(fields)}"
      )
    if fields[3] not in ("0", "1"):
      raise row.error(f"expected 0 or 1 for 'is same', got {fields[3][:80]!r}")
    found = True
    yield protocols.ListedPair(
      row.where,
      row.image(fields[1]),
      row.image(fields[2]),
      fields[3] == "1",
      row.count(fields[0]) - 1,
    )
  if not found:
    raise ValueError(f"{os.fspath(path)!r} lists no pair of videos")


def _frames(root: str | os.PathLike[str], video: str, where: str) -> list[str]:
  """Names of the frames of a video, in the order of the film."""
  place = os.path.join(root, video)
  if not os.path.isdir(place):
    raise FileNotFoundError(
      f"{where}: there is no folder {place!r} with the frames of this video"
    )
  found = folder_scan.scan(place)
  if found.damaged:
    raise ValueError(
      f"{where}: {len(found.damaged)} frames are damaged, such as"
      f" {found.damaged[0]}; repair them, or move them elsewhere"
    )
  if not found.images:
    raise ValueError(f"{where}: {place!r} has no frames")
  return sorted(found.images, key=_frame_number)


def _frame_number(name: str) -> tuple[int, str]:
  """By the last number before the suffix.

  >>> sorted(["0.100.jpg", "0.99.jpg", "cover.jpg"], key=_frame_number)
  ['cover.jpg', '0.99.jpg', '0.100.jpg']
  """
  numbers = re.findall(r"[0-9]+", os.path.splitext(name)[0])
  return (int(numbers[-1]) if numbers else -1, name)
