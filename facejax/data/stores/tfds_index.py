"""Which identity each record of a data set of TFDS shows, gathered once.

A record holds image and label together, so that all must be read to know the
labels; what was found is kept beside the data set.
"""

import array
import dataclasses
import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from facejax.data import images
from facejax.data.stores import array_shards
from facejax.runtime import progress, whole_files

logger = logging.getLogger(__name__)

_FORMAT = 1
_NAMED_IN_LOG = 10
_ARRAYS = {"labels": "<i4", "records": "<i8", "names": "|u1", "ends": "<i8"}


class ShardEntry(NamedTuple):
  """What the index keeps of one record."""

  label: int | bytes
  file: bytes


@dataclasses.dataclass(frozen=True, eq=False)
class LabelIndex:
  """The usable records of a data set.

  Attributes:
    labels: int32 [n], the class of each, counted from 0 without gaps.
    records: int64 [n], where it stands in the data set.
    names: uint8, the names of the files one after another; of one byte where
      the data set has none.
    ends: int64 [n + 1], the bounds of each name, or [1] where it has none.
    classes: The label that each class has in the data set, in their order.
    folder: Where the index is kept on disk; None when it is not.
  """

  labels: np.ndarray
  records: np.ndarray
  names: np.ndarray
  ends: np.ndarray
  classes: Sequence[int | str]
  folder: str | None = None

  def __reduce__(self):
    # What lies on disk is mapped again, not sent: processes then share it.
    if self.folder is not None:
      return load, (self.folder,)
    fields = [getattr(self, f.name) for f in dataclasses.fields(self)]
    return LabelIndex, tuple(fields)

  def file(self, index: int) -> str | None:
    """Returns the name of an image's file, or None where there is none."""
    if len(self.ends) == 1:
      return None
    begin, end = self.ends[index], self.ends[index + 1]
    text = self.names[begin:end].tobytes().decode("utf-8", "backslashreplace")
    return None if text in ("", ".", "..") or "\0" in text else text


def gather(
  records: array_shards.Shards,
  parse: Callable[[bytes], ShardEntry],
  *,
  name: str,
  max_bad_share: float = 0.01,
) -> LabelIndex:
  """Reads all records for their labels; damaged ones are left out.

  Args:
    records: The records.
    parse: Takes one apart; `images.BadImageError` tells that it is damaged.
    name: What messages call the data set.
    max_bad_share: The largest share of damaged records that is accepted.

  Raises:
    ValueError: Too many are damaged, or `parse` refuses the data set.
  """
  place: dict[int | bytes, int] = {}
  labels, kept, ends = array.array("q"), array.array("q"), array.array("q", [0])
  files, bad = bytearray(), _Bad()
  with progress.counting("read labels of", len(records), unit="records") as add:
    for record in range(len(records)):
      add(1)
      try:
        entry = parse(_read(records, record))
      except images.BadImageError as error:
        bad.add(f"record {record} of {name} {error}")
        continue
      kept.append(record)
      labels.append(place.setdefault(entry.label, len(place)))
      files += entry.file
      ends.append(len(files))
  bad.check(name, len(records), max_bad_share)
  order = sorted(place)
  rank = np.empty(len(order), np.int32)
  rank[[place[label] for label in order]] = np.arange(len(order))
  return LabelIndex(
    labels=rank[np.frombuffer(labels, np.int64)],
    records=np.frombuffer(kept, np.int64),
    names=np.frombuffer(bytes(files) or b"\0", np.uint8),
    ends=np.frombuffer(ends, np.int64) if files else np.zeros(1, np.int64),
    classes=[_text(label) for label in order],
  )


class _Bad:
  """Damaged records: the first are named in the log."""

  def __init__(self):
    self.count, self.first = 0, ""

  def add(self, complaint: str) -> None:
    self.count += 1
    self.first = self.first or complaint
    if self.count <= _NAMED_IN_LOG:
      logger.warning("left out: %s", complaint)

  def check(self, name: str, total: int, max_bad_share: float) -> None:
    if self.count == total or self.count > max_bad_share * total:
      raise ValueError(
        f"{self.count} of {total} records of {name} are damaged, more than"
        f" {max_bad_share:.0%}; the first: {self.first or 'there is none'}."
        " Copy or make the data set again"
      )
    if self.count:
      logger.warning("left out %d damaged records of %s", self.count, name)


def _read(records: array_shards.Shards, record: int) -> bytes:
  try:
    return records[record]
  except (RuntimeError, ValueError, OSError) as error:
    raise images.BadImageError(f"cannot be read: {error}") from None


def _text(label: int | bytes) -> int | str:
  return label if isinstance(label, int) else label.decode("utf-8", "replace")


def fingerprint(shards: Sequence[Sequence[object]], *keys: str | None) -> str:
  """Returns what changes whenever the index of these shards might.

  Args:
    shards: For each its file and the range of its records that is read.
    *keys: The names of the features that are read.
  """
  entries: list[object] = [_FORMAT, *keys]
  for file, *numbers in shards:
    status = os.stat(str(file))
    entries.append([os.path.basename(str(file)), *numbers])
    entries.append([status.st_size, status.st_mtime_ns])
  return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:16]


def save(index: LabelIndex, folder: str) -> LabelIndex:
  """Writes an index, whole or not at all; returns the one on disk if it can."""
  target = pathlib.Path(folder)
  try:
    with whole_files.replacing(target) as draft:
      draft.mkdir()
      for name, dtype in _ARRAYS.items():
        values = getattr(index, name).astype(dtype, copy=False)
        np.save(draft / f"{name}.npy", values, allow_pickle=False)
      (draft / "classes.json").write_text(json.dumps(index.classes))
    return load(folder)
  except (OSError, ValueError) as error:
    # Another process may have been faster, or there is no room.
    if target.is_dir():
      logger.debug("no index written to %s: %s", folder, error)
    else:
      logger.warning(
        "the labels cannot be kept in %r (%s): each start reads them again",
        os.fspath(target.parent),
        getattr(error, "strerror", None) or error,
      )
    return index


def load(folder: str) -> LabelIndex:
  """Maps an index on disk into memory.

  Raises:
    FileNotFoundError: There is none.
    ValueError: It is damaged.
  """
  root = pathlib.Path(folder)
  if not root.is_dir():
    raise FileNotFoundError(f"there is no index {folder!r}")
  try:
    arrays = {
      name: np.load(root / f"{name}.npy", mmap_mode="r", allow_pickle=False)
      for name in _ARRAYS
    }
    classes = json.loads((root / "classes.json").read_text())
    _check(arrays, classes)
  except (OSError, ValueError, EOFError, RecursionError) as error:
    raise ValueError(f"the index {folder!r} is damaged: {error}") from None
  return LabelIndex(**arrays, classes=classes, folder=folder)


def _check(arrays: dict[str, np.ndarray], classes: object) -> None:
  """Refuses whatever could lead a reader astray."""
  for name, dtype in _ARRAYS.items():
    if arrays[name].dtype.str != dtype or arrays[name].ndim != 1:
      raise ValueError(f"{name} is {arrays[name].dtype} {arrays[name].shape}")
  labels, records, names, ends = arrays.values()
  if not isinstance(classes, list) or not classes:
    raise ValueError("it has no classes")
  kind = type(classes[0])
  if kind not in (int, str) or any(
    type(label) is not kind for label in classes
  ):
    raise ValueError("classes are neither numbers nor names")
  if len(records) != len(labels) or len(ends) not in (1, len(labels) + 1):
    raise ValueError("its parts differ in length")
  if labels.min() < 0 or labels.max() >= len(classes):
    raise ValueError("a label is out of range")
  if records.min() < 0 or (np.diff(records) <= 0).any():
    raise ValueError("its records are not in order")
  if ends[0] != 0 or ends[-1] > len(names) or (np.diff(ends) < 0).any():
    raise ValueError("the bounds of the names are not in order")
