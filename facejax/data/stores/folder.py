"""Images in files: a list of them, or a folder of `identity/image.jpg`."""

import collections
import logging
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from facejax.data import encoded, images, subsets
from facejax.runtime import text_lines

logger = logging.getLogger(__name__)

_NAMED_IN_LOG = 10
_NAMED_IN_ERROR = 3
_LAYOUT = "expected one folder per identity: ROOT/IDENTITY/IMAGE.jpg"


class ImageFiles:
  """Images in files, read when asked for; an `encoded.EncodedImages`.

  The names take one byte a character (16 bytes where Python would take 80), so
  that millions of files fit in memory and travel fast to worker processes.
  """

  def __init__(
    self,
    root: str | os.PathLike[str],
    groups: Iterable[tuple[str, Sequence[str]]],
  ):
    """Lists the files.

    Args:
      root: The folder that holds the folders of the identities.
      groups: For each identity its folder's name and the names of its files.
    """
    self.root = os.fspath(root)
    self._folders: list[str] = []
    blob, ends, counts = bytearray(), [], []
    for folder, files in groups:
      self._folders.append(folder)
      counts.append(len(files))
      for file in files:
        blob += os.fsencode(file)
        ends.append(len(blob))
    self._names = bytes(blob)
    self._ends = np.asarray([0, *ends], np.int64)
    self.labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    self.class_names = [
      text_lines.printable(folder) for folder in self._folders
    ]

  @property
  def num_classes(self) -> int:
    return len(self._folders)

  def __len__(self) -> int:
    return len(self.labels)

  def _parts(self, index: int) -> tuple[str, str]:
    if not 0 <= index < len(self):
      raise IndexError(f"image {index} of {len(self)}")
    begin, end = self._ends[index], self._ends[index + 1]
    file = os.fsdecode(self._names[begin:end])
    return self._folders[self.labels[index]], file

  def path(self, index: int) -> str:
    return os.path.join(self.root, *self._parts(index))

  def name(self, index: int) -> str:
    return text_lines.printable("/".join(self._parts(index)))

  def encoded(self, index: int) -> bytes:
    return encoded.read_file(self.path(index))


class ImageFolder(ImageFiles):
  """A folder with one folder of images per identity.

  Classes are the folders in order of their names. Hidden files, files whose
  suffix is not an image's and folders inside an identity's folder are ignored;
  links are followed. The first bytes of every file are looked at, and what is
  no image is left out.

  Attributes:
    skipped: How many damaged files were left out.
    ignored: How many entries were ignored because of their name or kind.
  """

  def __init__(
    self,
    path: str | os.PathLike[str],
    *,
    identities: Sequence[str] | None = None,
    max_bad_share: float = 0.01,
  ):
    """Scans the folder.

    Args:
      path: The folder.
      identities: Only these, which spares the scan of the others; default
        all.
      max_bad_share: The largest share of damaged files that is accepted.

    Raises:
      FileNotFoundError: There is no such folder.
      ValueError: The layout is not as expected, an identity has no usable
        image or does not exist, or too many files are damaged.
    """
    self.skipped = self.ignored = self._seen = 0
    self._bad: list[str] = []
    root = os.fspath(path)
    folders = self._identity_folders(root)
    if identities is not None:
      by_name = {text_lines.printable(folder): folder for folder in folders}
      chosen = subsets.listed(identities, by_name, where=root)
      folders = [by_name[name] for name in chosen]
    super().__init__(root, self._groups(root, folders))
    self._check_bad_share(max_bad_share)

  def _identity_folders(self, root: str) -> list[str]:
    if not os.path.exists(root):
      raise FileNotFoundError(f"there is no image folder {root!r}")
    if not os.path.isdir(root):
      raise ValueError(f"{root!r} is a file; {_LAYOUT}")
    folders, files = [], []
    with os.scandir(root) as entries:
      for entry in entries:
        if not entry.name.startswith(".") and entry.is_dir():
          folders.append(entry.name)
        else:
          files.append(entry.name)
    loose = [file for file in files if images.is_image_name(file)]
    if not folders:
      found = f"{len(loose)} images lie directly in it" if loose else "has none"
      raise ValueError(f"no identities in {root!r}: {found}; {_LAYOUT}")
    if loose:
      logger.warning(
        "%d images lie directly in %r and are ignored; %s",
        *(len(loose), root, _LAYOUT),
      )
    self.ignored += len(files)
    return sorted(folders)

  def _groups(
    self, root: str, folders: Iterable[str]
  ) -> Iterator[tuple[str, list[str]]]:
    for folder in folders:
      yield folder, self._usable_files(os.path.join(root, folder))

  def _usable_files(self, folder: str) -> list[str]:
    """Returns the sorted names of the images in one identity's folder."""
    usable: list[str] = []
    damaged: list[str] = []
    kinds = collections.Counter[str]()
    with os.scandir(folder) as entries:
      for entry in entries:
        if not images.is_image_name(entry.name) or entry.is_dir():
          kinds["folders" if entry.is_dir() else "other files"] += 1
          continue
        complaint = _check(entry)
        if complaint is None:
          usable.append(entry.name)
        else:
          damaged.append(f"{entry.path!r} {complaint}")
    if not usable:
      raise ValueError(_no_image(folder, kinds, damaged))
    self.ignored += kinds.total()
    self._seen += len(usable) + len(damaged)
    self._report(sorted(damaged))
    return sorted(usable)

  def _report(self, damaged: Sequence[str]) -> None:
    self.skipped += len(damaged)
    for complaint in damaged[: _NAMED_IN_LOG - len(self._bad)]:
      self._bad.append(complaint)
      logger.warning("left out: %s", complaint)

  def _check_bad_share(self, max_bad_share: float) -> None:
    if self.skipped > _NAMED_IN_LOG:
      logger.warning(
        "left out %d damaged files in all under %r", self.skipped, self.root
      )
    if self.skipped > max_bad_share * self._seen:
      raise ValueError(
        f"{self.skipped} of {self._seen} image files in {self.root!r} are damaged"
        f" ({self.skipped / self._seen:.2%}, allowed {max_bad_share:.2%}):"
        f" {'; '.join(self._bad[:_NAMED_IN_ERROR])}; repair or delete them, or"
        " raise max_bad_share"
      )


def _check(entry: os.DirEntry[str]) -> str | None:
  # Only links need a second look: to open a pipe would block for ever.
  if not entry.is_file():
    return "is a broken link" if entry.is_symlink() else "is not a file"
  return images.check(entry.path)


def _no_image(
  folder: str, kinds: collections.Counter[str], damaged: Sequence[str]
) -> str:
  held = [f"{count} {kind}" for kind, count in kinds.items()]
  if damaged:
    held.append(f"{len(damaged)} damaged images, such as {min(damaged)}")
  return (
    f"identity folder {folder!r} has no usable image: it holds"
    f" {' and '.join(held) or 'nothing'}; {_LAYOUT}; remove the folder, or name"
    " the folder that holds the identities"
  )
