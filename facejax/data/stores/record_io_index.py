"""Where the records of a `.rec` file begin: its `.idx` file, or a scan."""

import array
import os
import re
from collections.abc import Iterator

import numpy as np

from facejax.data.stores import record_io_write as layout
from facejax.runtime import file_kinds

_CHUNK = 2**24
_LINE = re.compile(rb"[0-9]{1,18}\t[0-9]{1,18}")


def read(path: str, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Reads an `.idx` file: about 50 ns and 20 bytes of text a record.

  Args:
    path: The file, with a line `key<tab>offset` for each record, in any order.
    size: The size of the `.rec` file in bytes.

  Returns:
    int64 [n] the keys, ascending; int64 [n] the offsets.

  Raises:
    ValueError: A line is malformed, a key occurs twice, or an offset lies
      outside the `.rec` file; names the file.
  """
  file_kinds.refuse(path, "an index of a RecordIO file")
  pieces, lines = [], 0
  with open(path, "rb") as file:
    for text in _whole_lines(path, file):
      count = text.count(b"\n")
      if text.translate(None, b"0123456789") != b"\t\n" * count:
        raise _malformed(path, text, lines)
      numbers = np.fromstring(text, np.int64, sep=" ")
      if len(numbers) != 2 * count or numbers.max() >= 10**18:
        raise _malformed(path, text, lines)
      pieces.append(numbers)
      lines += count
  if not lines:
    raise ValueError(
      f"{path!r} is empty: copy it again, or give it another name to have the .rec scanned"
    )
  keys = np.concatenate([numbers[0::2] for numbers in pieces])
  offsets = np.concatenate([numbers[1::2] for numbers in pieces])
  del pieces
  return _check(path, keys, offsets, size)


def _whole_lines(path: str, file) -> Iterator[bytes]:
  """Yields pieces of a file that end with a line."""
  rest = b""
  while text := file.read(_CHUNK):
    text = rest + text.replace(b"\r", b"")
    end = text.rfind(b"\n") + 1
    if len(text) - end > _CHUNK // 2:
      raise ValueError(f"{path!r} is no index: it has a line of megabytes")
    if end:
      yield text[:end]
    rest = text[end:]
  if rest:
    yield rest + b"\n"


def _malformed(path: str, text: bytes, lines: int) -> ValueError:
  number, line = next(
    (number, line)
    for number, line in enumerate(text.split(b"\n"), lines + 1)
    if not _LINE.fullmatch(line)
  )
  return ValueError(
    f"{path!r} line {number}: expected 'KEY<tab>OFFSET', got {line[:60]!r}"
  )


def _check(
  path: str, keys: np.ndarray, offsets: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
  if np.any(keys[1:] <= keys[:-1]):
    order = np.argsort(keys, kind="stable")
    keys, offsets = keys[order], offsets[order]
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twice):
      raise ValueError(f"{path!r} has key {keys[twice[0]]} twice")
  wrong = np.flatnonzero((offsets > size - 8) | (offsets % 4 != 0))
  if len(wrong):
    raise ValueError(
      f"{path!r} points to where no record can be, {len(wrong):,} times: key"
      f" {keys[wrong[0]]} at byte {offsets[wrong[0]]:,} of {size:,}; the .rec"
      " file is truncated, or the .idx that of another"
    )
  ordered = np.sort(offsets, kind="stable")
  twice = np.flatnonzero(ordered[1:] == ordered[:-1])
  if len(twice):
    raise ValueError(f"{path!r} has offset {ordered[twice[0]]:,} twice")
  return keys, offsets


def scan(path: str, descriptor: int) -> tuple[np.ndarray, np.ndarray]:
  """Finds the records of a `.rec` file one by one, for want of an `.idx`.

  Args:
    path: What messages call the file.
    descriptor: The file.

  Returns:
    int64 [n] the keys, ascending: the ids in the records where these differ,
    else their places; int64 [n] the offsets.

  Raises:
    ValueError: What follows a record is no record, or is cut off.
  """
  size = os.fstat(descriptor).st_size
  ids, offsets = array.array("Q"), array.array("q")
  offset = 0
  while offset < size:
    head = os.pread(descriptor, 24, offset).ljust(24, b"\0")
    magic, kind_length = layout.FRAME.unpack_from(head)
    kind, length = kind_length >> 29, kind_length & layout.MAX_LENGTH
    if magic != layout.MAGIC or offset + 8 + length > size or kind > 3:
      raise ValueError(
        f"{path!r} has no .idx, and byte {offset:,} of {size:,} is not where a"
        " whole record begins: the file is damaged or truncated"
      )
    if kind < 2:
      ids.append(int.from_bytes(head[16:24], "little"))
      offsets.append(offset)
    offset += 8 + length + -length % 4
  keys = np.frombuffer(ids, np.uint64)
  if len(np.unique(keys)) != len(keys) or np.any(keys >= 2**62):
    keys = np.arange(len(keys))
  order = np.argsort(keys, kind="stable")
  return keys[order].astype(np.int64), np.frombuffer(offsets, np.int64)[order]
