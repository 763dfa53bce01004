"""Lists of images that a benchmark is better without, as MegaFace's noises.

One path a line; of a line with a tab, what follows it. Lines that begin with #
do not count. A path means every image whose own path ends so, folder by folder,
with whatever suffix: `Adam_Brody_12.png` is `facescrub/Adam_Brody/Adam_Brody_12.jpg`
too, and `363/1@N05/2_0.jpg` is `megaface_images/363/1@N05/2_0.jpg`.
"""

import os
from collections.abc import Sequence

from facejax.data import images
from facejax.runtime import text_lines


class RefinedList:
  """Which images are left out; remembers what it was asked for."""

  def __init__(self, files: Sequence[str | os.PathLike[str]] = ()):
    """Reads the lists.

    Raises:
      FileNotFoundError: There is no such file.
      ValueError: A line is no path.
    """
    self._listed: dict[tuple[str, ...], bool] = {}
    for file in files:
      for row in text_lines.rows(file, separator="\t"):
        if not row.fields[0].startswith("#"):
          path = row.fields[-1]
          if not path:
            raise row.error("expected a path")
          self._listed[_parts(path)] = False
    self._lengths = sorted({len(parts) for parts in self._listed})

  def __len__(self) -> int:
    return len(self._listed)

  def holds(self, path: str) -> bool:
    """Whether an image is left out."""
    if not self._listed:
      return False
    parts = _parts(path)
    found = [
      parts[-length:]
      for length in self._lengths
      if parts[-length:] in self._listed
    ]
    for end in found:
      self._listed[end] = True
    return bool(found)

  @property
  def unmatched(self) -> list[str]:
    """Paths of which no image was met, without their suffixes."""
    return ["/".join(k) for k, met in self._listed.items() if not met]


def _parts(path: str) -> tuple[str, ...]:
  """Folders and name of a path, without the suffix of an image.

  >>> _parts("./a/b_0.jpg"), _parts("a/b_0.x")
  (('a', 'b_0'), ('a', 'b_0.x'))
  """
  if images.is_image_name(path):
    path = os.path.splitext(path)[0]
  return tuple(part for part in path.split("/") if part not in ("", "."))
