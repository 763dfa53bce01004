"""RecordIO, the format of InsightFace's training sets, without MXNet.

A set is a folder with `train.rec`, the records one after another; `train.idx`,
where they begin; and `property`, a line `classes,height,width`. The layout is
in `record_io_write`.
"""

import functools
import logging
import os
import weakref
from collections.abc import Sequence

import numpy as np

from facejax.data import images
from facejax.data.stores import record_io_index, record_io_list, record_io_read
from facejax.data.stores import record_io_write as layout
from facejax.runtime import file_kinds

logger = logging.getLogger(__name__)

_NAMED = 3
_NAME = "train.rec"


class RecordIO:
  """The images of a `train.rec`; an `encoded.EncodedImages`.

  Written by InsightFace (with a header and identity records), by MXNet's
  im2rec (images alone) or by `facejax.data.convert`. Images are in order of
  their keys. Labels are renumbered without gaps, in their order; a class is
  named after its folder where a `train.lst` (`key<tab>label<tab>folder/file`)
  lies beside the records, else by its label as it stood.

  Opening reads the `.idx`, 20 bytes and 0.1 microseconds an image, and keeps
  12 bytes an image (55 while it opens); a copy in another process opens its
  own. With identity records the headers of two images of each identity are
  looked at; without, and beyond image 2^24, where their float32 counts are
  rounded, those of all images: 0.1 microseconds an image from memory, and in
  effect one reading of the file from a disk. Without an `.idx` the records are
  found one after another, 3 microseconds an image. Nothing else is read before
  it is asked for.

  Attributes:
    path: The `.rec` file.
    labels: int32 [len], the class of each image.
    skipped: How many damaged records, or labels out of range, were left out.
  """

  def __init__(
    self, path: str | os.PathLike[str], *, max_bad_share: float = 0.01
  ):
    """Opens the files and finds the labels.

    Args:
      path: The folder, or the `.rec` file itself.
      max_bad_share: The largest share of records that may be left out because
        their headers are damaged. Damage behind the header is found when an
        image is read.

    Raises:
      FileNotFoundError: There is no such folder or file.
      ValueError: The files are damaged, truncated or do not belong together;
        names the file.
    """
    path = os.fspath(path)
    self._given = path, max_bad_share
    self.path = path
    if os.path.isdir(path):
      self.path = file_in(path) or os.path.join(path, _NAME)
    if not os.path.isfile(self.path):
      raise FileNotFoundError(f"there is no RecordIO file {self.path!r}")
    self._descriptor = os.open(self.path, os.O_RDONLY)
    weakref.finalize(self, os.close, self._descriptor)
    words = self._map()
    keys, offsets = self._index(4 * len(words))
    kinds, labels = record_io_read.labels_of(words, keys, offsets)
    del words
    classes = self._classes(labels[kinds == record_io_read.IMAGE])
    kinds[(kinds == record_io_read.IMAGE) & ~_valid(labels, classes)] = (
      record_io_read.BAD
    )
    self.skipped = self._report(keys, offsets, kinds, classes, max_bad_share)
    keep = kinds == record_io_read.IMAGE
    if not keep.any():
      raise ValueError(f"{self.path!r} holds no image")
    self._first_key = int(keys[kinds != record_io_read.META].min())
    self._offsets = offsets[keep]
    self._keys = _compact(keys[keep])
    self._values, self.labels = _renumber(labels[keep].astype(np.int32))

  def __reduce__(self):
    return functools.partial(RecordIO, max_bad_share=self._given[1]), (
      self._given[0],
    )

  def _map(self) -> np.ndarray:
    size = os.path.getsize(self.path)
    head = os.pread(self._descriptor, 4, 0)
    if size < 32 or head != layout.MAGIC_BYTES:
      file_kinds.refuse(self.path, "a RecordIO file", ("record_io",))
      raise ValueError(
        f"{self.path!r} is no RecordIO file: it has {size:,} bytes and begins"
        f" with {head.hex()}, not {layout.MAGIC_BYTES.hex()}"
      )
    return np.memmap(self.path, "<u4", mode="r", shape=(size // 4,))

  def _index(self, size: int) -> tuple[np.ndarray, np.ndarray]:
    index = os.path.splitext(self.path)[0] + ".idx"
    if os.path.isfile(index):
      keys, offsets = record_io_index.read(index, size)
      self._check_end(int(offsets.max()), size)
      return keys, offsets
    logger.warning(
      "there is no %r: looking for the records of %r one by one",
      *(index, self.path),
    )
    return record_io_index.scan(self.path, self._descriptor)

  def _check_end(self, offset: int, size: int) -> None:
    """Refuses a file that ends in the middle of its last record."""
    magic, length = layout.FRAME.unpack(os.pread(self._descriptor, 8, offset))
    end = offset + 8 + (length & layout.MAX_LENGTH)
    if magic == layout.MAGIC and end > size + 3:
      raise ValueError(
        f"{self.path!r} is truncated: its last record ends at byte {end:,}, the"
        f" file at {size:,}"
      )

  def _classes(self, labels: np.ndarray) -> int:
    """Returns how many labels there may be, as `property` has it.

    Labels of more people than it knows of are believed before it.
    """
    path = os.path.join(os.path.dirname(self.path), "property")
    if not os.path.isfile(path):
      return layout.MAX_LABEL + 1
    classes = _property(path)
    valid = labels[_valid(labels, layout.MAX_LABEL + 1)]
    people = int(_present(valid.astype(np.int32)).sum())
    if people != classes:
      logger.warning(
        "%r says %d people, the labels of %r say %d: the labels count",
        *(path, classes, self.path, people),
      )
    return layout.MAX_LABEL + 1 if people > classes else classes

  def _report(
    self,
    keys: np.ndarray,
    offsets: np.ndarray,
    kinds: np.ndarray,
    classes: int,
    max_bad_share: float,
  ) -> int:
    """Says which records are left out; refuses when they are too many."""
    bad = np.flatnonzero(kinds == record_io_read.BAD)
    named = [
      f"record {keys[place]} at byte {offsets[place]:,}"
      f" {self._complaint(int(offsets[place]), classes)}"
      for place in bad[:_NAMED]
    ]
    for complaint in named:
      logger.warning("left out of %r: %s", self.path, complaint)
    count = len(bad) + np.count_nonzero(kinds == record_io_read.IMAGE)
    if len(bad) > max_bad_share * count:
      raise ValueError(
        f"{len(bad):,} of {count:,} images in {self.path!r} are damaged"
        f" ({len(bad) / count:.2%}, allowed {max_bad_share:.2%}):"
        f" {'; '.join(named)}"
      )
    return len(bad)

  def _complaint(self, offset: int, classes: int) -> str:
    try:
      payload = record_io_read.read_record(self._descriptor, offset)
      label, _ = record_io_read.parse(payload)
    except (ValueError, OSError) as error:
      return str(error)
    return f"has label {label}, no integer from 0 to {classes - 1:,}"

  @property
  def num_classes(self) -> int:
    return len(self._values)

  def __len__(self) -> int:
    return len(self.labels)

  @functools.cached_property
  def _list(self) -> record_io_list.ListFile | None:
    return record_io_list.beside(
      self.path, np.asarray(self._keys), first=self._first_key
    )

  @property
  def class_names(self) -> Sequence[str]:
    return self._class_names

  @functools.cached_property
  def _class_names(self) -> Sequence[str]:
    numbers = [str(value) for value in self._values.tolist()]
    if self._list is None:
      return numbers
    _, first = np.unique(self.labels, return_index=True)
    keys = [int(self._keys[place]) for place in first]
    return self._list.identities(keys, self._values.tolist()) or numbers

  def name(self, index: int) -> str:
    self._check_index(index)
    key = int(self._keys[index])
    file = self._list.entry(key)[2] if self._list else f"{key}.jpg"
    return f"{self.class_names[self.labels[index]]}/{file}"

  def encoded(self, index: int) -> bytes:
    self._check_index(index)
    offset = int(self._offsets[index])
    try:
      payload = record_io_read.read_record(self._descriptor, offset)
      label, begin = record_io_read.parse(payload)
      if label != self._values[self.labels[index]]:
        raise ValueError(f"has label {label}, unlike the rest of its identity")
    except (ValueError, OSError) as error:
      raise images.BadImageError(
        f"record {self._keys[index]} of {self.path!r}, at byte {offset:,},"
        f" {error}"
      ) from None
    return payload[begin:]

  def _check_index(self, index: int) -> None:
    if not 0 <= index < len(self):
      raise IndexError(f"image {index} of {len(self)}")


def file_in(folder: str | os.PathLike[str]) -> str | None:
  """Returns the `.rec` file of a folder: train.rec, or the only one.

  Raises:
    ValueError: There are several, and none is called train.rec.
  """
  if not os.path.isdir(folder):
    return None
  names = sorted(n for n in os.listdir(folder) if n.endswith(".rec"))
  if _NAME in names:
    names = [_NAME]
  if len(names) > 1:
    raise ValueError(
      f"{os.fspath(folder)!r} holds {len(names)} .rec files"
      f" ({', '.join(names[:5])}): name one of them"
    )
  return os.path.join(folder, names[0]) if names else None


def _property(path: str) -> int:
  """Returns how many classes the first line of a `property` tells of."""
  with open(path, "rb") as file:
    text = file.read(100).strip()
  # InsightFace's own tool writes a second line.
  fields = [field.strip() for field in text.split(b"\n")[0].split(b",")]
  if len(fields) != 3 or not all(
    field.isdigit() and 0 < int(field) < 2**31 for field in fields
  ):
    raise ValueError(
      f"{path!r}: expected 'classes,height,width' such as '93431,112,112',"
      f" got {text!r}"
    )
  return int(fields[0])


def _valid(labels: np.ndarray, classes: int) -> np.ndarray:
  # Comparisons with NaN are false.
  return (labels >= 0) & (labels < classes) & (labels == np.trunc(labels))


def _compact(keys: np.ndarray) -> np.ndarray | range:
  """Returns keys without gaps as a range, which takes no memory."""
  first, last = int(keys[0]), int(keys[-1])
  return range(first, last + 1) if last - first + 1 == len(keys) else keys


def _present(labels: np.ndarray) -> np.ndarray:
  """Returns which labels occur, bool [largest + 1]; sorts nothing."""
  present = np.zeros(int(labels.max(initial=-1)) + 1, bool)
  present[labels] = True
  return present


def _renumber(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the labels that occur, and for each image the place of its own."""
  present = _present(labels)
  places = np.cumsum(present, dtype=np.int32) - 1
  return np.flatnonzero(present), places[labels].astype(np.int32)
