"""Records in files of array_record, by number, over all files of a set."""

import collections
import os
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from array_record.python import (
  array_record_module,  # pyright: ignore[reportAttributeAccessIssue]
)

from facejax.runtime import file_kinds

# Each read alone, without threads: a read ahead is thrown away.
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_BUFFER = 32768
# Below the 1024 files that a process may usually open.
_MAX_OPEN = 512


class Piece(NamedTuple):
  """Consecutive records of a file.

  Attributes:
    path: The file.
    total: How many records it holds.
    skip: How many come before the piece.
    take: How many belong to it.
  """

  path: str
  total: int
  skip: int
  take: int


class Shards:
  """The records of some pieces, one after another.

  Files are opened when they are first asked for; an open one takes 30 bytes of
  memory a record, of which the library makes its index. May be read by many
  threads at once.
  """

  def __init__(self, pieces: Sequence[Piece]):
    self._pieces = list(pieces)
    self._ends = np.cumsum([piece.take for piece in self._pieces])
    self._open = collections.OrderedDict[str, _Shard]()
    self._lock = threading.Lock()

  def __reduce__(self):
    return Shards, (self._pieces,)

  def __len__(self) -> int:
    return int(self._ends[-1])

  def find(self, index: int) -> tuple[Piece, int]:
    """Returns the piece of a record and its place in the file.

    Raises:
      IndexError: There is no such record.
    """
    if not 0 <= index < len(self):
      raise IndexError(f"record {index} of {len(self)}")
    number = int(np.searchsorted(self._ends, index, side="right"))
    piece = self._pieces[number]
    return piece, int(index - self._ends[number]) + piece.take + piece.skip

  def __getitem__(self, index: int) -> bytes:
    """Returns a record.

    Raises:
      IndexError: There is no such record.
      RuntimeError: It is damaged.
      ValueError: The file is damaged, or holds another number of records.
    """
    piece, place = self.find(index)
    shard = self._shard(piece)
    try:
      return shard.read(place)
    except RuntimeError:
      # After an error a reader gives nothing but that error.
      with self._lock:
        self._open.pop(piece.path, None)
      raise

  def check(self) -> None:
    """Opens every file.

    Raises:
      ValueError: One is damaged, or holds another number of records.
    """
    for piece in self._pieces:
      self._shard(piece)

  def close(self) -> None:
    """Closes the files; the next record opens its own again."""
    with self._lock:
      self._open.clear()

  def _shard(self, piece: Piece) -> "_Shard":
    with self._lock:
      shard = self._open.get(piece.path)
      if shard is None:
        if len(self._open) >= _MAX_OPEN:
          # Closed once the last thread that reads it lets it go.
          self._open.popitem(last=False)
        shard = self._open[piece.path] = _Shard(piece.path, piece.total)
      return shard


class _Shard:
  """One open file."""

  def __init__(self, path: str, count: int):
    """Opens it.

    Raises:
      ValueError: It is damaged, or holds another number of records.
    """
    self._lock = threading.Lock()
    found, complaint = 0, "cannot be opened"
    try:
      # As bytes, since a str would have to be UTF-8.
      self._reader = array_record_module.ArrayRecordReader(
        os.fsencode(path),
        options=_READER_OPTIONS,
        file_reader_buffer_size=_BUFFER,
      )
      found = self._reader.num_records()
      if not self._reader.ok():
        self._reader.read([0])
    except RuntimeError as error:
      complaint = str(error)
    if found != count:
      file_kinds.refuse(path, "a file of array_record")
      reason = f"holds {found:,} records, not {count:,}" if found else complaint
      raise ValueError(f"{path!r} is damaged: {reason}")

  def read(self, place: int) -> bytes:
    """Returns one record.

    Raises:
      RuntimeError: It is damaged.
    """
    # Seeking and reading takes 5 microseconds; the reader's own random access
    # hands each read to another thread, 70 microseconds.
    with self._lock:
      try:
        self._reader.seek(place)
        return self._reader.read()
      except (RuntimeError, IndexError) as error:
        raise RuntimeError(f"is damaged: {error}") from None
