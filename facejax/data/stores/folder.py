"""Images in files: a list of them, or a folder of `identity/image.jpg`."""

import io
import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from facejax.data import encoded, subsets
from facejax.data.stores import folder_scan
from facejax.runtime import distributed, text_lines

logger = logging.getLogger(__name__)

_NAMED_IN_LOG = 10
_NAMED_IN_ERROR = 3
_LAYOUT = "expected one folder per identity: ROOT/IDENTITY/IMAGE.jpg"
_RECURSIVE = "--data.recursive of facejax.train, --recursive of facejax.embed,"


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

  def packed(self) -> bytes:
    """The list as bytes, for another process; the root is not in it."""
    file = io.BytesIO()
    np.savez(
      file,
      names=np.frombuffer(self._names, np.uint8),
      ends=self._ends,
      counts=np.bincount(self.labels, minlength=self.num_classes),
      folders=np.frombuffer(
        b"\0".join(map(os.fsencode, self._folders)), np.uint8
      ),
    )
    return file.getvalue()

  @classmethod
  def unpacked(cls, root: str | os.PathLike[str], data: bytes) -> "ImageFiles":
    """The list that `packed` made of another process's."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
      names, ends = arrays["names"].tobytes(), arrays["ends"].tolist()
      counts = arrays["counts"].tolist()
      folders = arrays["folders"].tobytes().split(b"\0")
    files = (
      os.fsdecode(names[begin:end]) for begin, end in itertools.pairwise(ends)
    )
    groups = (
      (os.fsdecode(folder), [*itertools.islice(files, count)])
      for folder, count in zip(folders, counts, strict=True)
    )
    return cls(root, groups)

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

  Classes are the folders in order of their names. What is an image is told by
  its first bytes, whatever it is called; a file that is called like an image
  and is none counts as damaged. Hidden entries do not count at all; links to
  files and to identities' folders are followed. Whatever else is left out is
  told in one warning.

  Attributes:
    skipped: How many damaged files were left out.
    ignored: How many other entries were: other files, folders inside of an
      identity's folder, images beside the folders.
  """

  def __init__(
    self,
    path: str | os.PathLike[str],
    *,
    identities: Sequence[str] | None = None,
    max_bad_share: float = 0.01,
    recursive: bool = False,
    mixed: bool = False,
  ):
    """Scans the folder.

    Args:
      path: The folder.
      identities: Only these, which spares the scan of the others; default
        all.
      max_bad_share: The largest share of damaged files that is accepted.
      recursive: Whether images in folders inside of an identity's folder, at
        any depth, are its images as well.
      mixed: Whether images may lie beside the folders, which somebody else
        then takes, and folders may be without an image. Else the first are
        left out, the second an error.

    Raises:
      FileNotFoundError: There is no such folder.
      ValueError: The layout is not as expected, an identity has no usable
        image or does not exist, or too many files are damaged.
    """
    self.skipped = self._seen = 0
    self._bad: list[str] = []
    self._left_out = folder_scan.LeftOut()
    self._recursive, self._mixed = recursive, mixed
    root = os.fspath(path)
    folders = self._identity_folders(root)
    if identities is not None:
      by_name = {text_lines.printable(folder): folder for folder in folders}
      chosen = subsets.listed(identities, by_name, where=root)
      folders = [by_name[name] for name in chosen]
    super().__init__(root, self._groups(root, folders))
    self.ignored = self._left_out.report(root)
    self._check_bad_share(max_bad_share)

  def _identity_folders(self, root: str) -> list[str]:
    if not os.path.exists(root):
      raise FileNotFoundError(f"there is no image folder {root!r}")
    if not os.path.isdir(root):
      raise ValueError(f"{root!r} is a file; {_LAYOUT}")
    here = folder_scan.scan(root)
    if not here.folders:
      found = (
        f"{len(here.images)} images lie directly in it"
        if here.images
        else "has none"
      )
      raise ValueError(f"no identities in {root!r}: {found}; {_LAYOUT}")
    if not self._mixed:
      self._left_out.add("images beside the folders", here.images)
    self._left_out.add("other files", here.others)
    self._left_out.hidden += len(here.hidden)
    return here.folders

  def _groups(
    self, root: str, folders: Iterable[str]
  ) -> Iterator[tuple[str, list[str]]]:
    for folder in folders:
      files = self._usable_files(root, folder)
      if files:
        yield folder, files

  def _usable_files(self, root: str, folder: str) -> list[str]:
    """Returns the sorted names of the images of one identity."""
    found = folder_scan.scan(
      os.path.join(root, folder), recursive=self._recursive
    )
    deeper = folder_scan.deeper_images(os.path.join(root, folder), found)
    if not found.images and not self._mixed:
      raise ValueError(_no_image(os.path.join(root, folder), found, deeper))
    self._left_out.hidden += len(found.hidden)
    self._seen += len(found.images) + len(found.damaged)
    self._report(found.damaged)
    for kind, names in (
      ("folders without an image", () if found.images else [""]),
      ("other files", found.others),
      (f"images in deeper folders ({_RECURSIVE} take them)", deeper),
      ("folders inside of identities", () if deeper else found.folders),
    ):
      self._left_out.add(kind, [os.path.join(folder, name) for name in names])
    return found.images

  def _report(self, damaged: Sequence[str]) -> None:
    self.skipped += len(damaged)
    for complaint in damaged[: max(0, _NAMED_IN_LOG - len(self._bad))]:
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
        f" {'; '.join(self._bad[:_NAMED_IN_ERROR])}; repair them or move them"
        " elsewhere, or raise max_bad_share"
      )


def scanned(path: str | os.PathLike[str], **options: Any) -> ImageFiles:
  """An `ImageFolder`; of several processes, the first one scans for all."""
  if distributed.count() == 1:
    return ImageFolder(path, **options)
  if not os.path.isdir(path):
    raise FileNotFoundError(f"there is no image folder {os.fspath(path)!r}")
  data = distributed.shared(lambda: ImageFolder(path, **options).packed())
  return ImageFiles.unpacked(path, data)


def _no_image(
  folder: str, found: folder_scan.Found, deeper: Sequence[str]
) -> str:
  held = [
    f"{len(names)} {kind}"
    for kind, names in (
      ("folders", found.folders),
      ("other files", found.others),
    )
    if names
  ]
  if found.damaged:
    held.append(
      f"{len(found.damaged)} damaged images, such as {found.damaged[0]}"
    )
  advice = "name the folder that holds the identities"
  if deeper:
    advice += f"; {_RECURSIVE} take the {len(deeper):,} images deeper in it"
  return (
    f"identity folder {folder!r} has no usable image: it holds"
    f" {' and '.join(held) or 'nothing'}; {_LAYOUT}; move it elsewhere, or"
    f" {advice}"
  )
