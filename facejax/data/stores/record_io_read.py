"""Records of a `.rec` file: one of them whole, or the heads of many at once."""

import os

import numpy as np

from facejax.data.stores import record_io_write as layout

# An image of 4096 x 4096 pixels takes 48 MiB uncompressed.
MAX_RECORD = 2**27
IMAGE, META, BAD = range(3)

_MAX_PARTS = 2**16
_CHUNK = 2**20
_HEAD_WORDS = (layout.FRAME.size + layout.HEADER.size) // 4
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


def read_record(descriptor: int, offset: int) -> bytes:
  """Reads one record and joins its parts.

  `os.pread` rather than a memory map: it is as fast here (two calls, under 3
  microseconds), any number of threads may use it, and when the disk fails or
  the file shrinks it says so where a map ends the process with SIGBUS.

  Args:
    descriptor: The `.rec` file.
    offset: Where the record begins, in bytes.

  Returns:
    The payload.

  Raises:
    ValueError: It is no record, or cut off; says why, not where.
    OSError: The disk fails.
  """
  size = os.fstat(descriptor).st_size
  parts: list[bytes] = []
  total = 0
  while True:
    kind, length = _frame(os.pread(descriptor, 8, offset))
    if kind not in ((_MIDDLE, _LAST) if parts else (_WHOLE, _FIRST)):
      raise ValueError("consists of parts that do not follow one another")
    total += length + 4
    if total > MAX_RECORD or len(parts) > _MAX_PARTS:
      raise ValueError(
        f"claims more than {MAX_RECORD:,} bytes or {_MAX_PARTS:,} parts"
      )
    if offset + 8 + length > size:
      raise ValueError(f"claims {length:,} bytes, more than the file still has")
    parts.append(os.pread(descriptor, length, offset + 8))
    if len(parts[-1]) != length:
      raise ValueError("is cut off")
    if kind in (_WHOLE, _LAST):
      return layout.MAGIC_BYTES.join(parts) if len(parts) > 1 else parts[0]
    offset += 8 + length + -length % 4


def _frame(head: bytes) -> tuple[int, int]:
  """Returns the kind and the length of a part."""
  if len(head) != 8:
    raise ValueError("is cut off")
  magic, kind_length = layout.FRAME.unpack(head)
  if magic != layout.MAGIC:
    raise ValueError(f"begins with {magic:#010x}, not {layout.MAGIC:#010x}")
  return kind_length >> 29, kind_length & layout.MAX_LENGTH


def parse(payload: bytes) -> tuple[float, int]:
  """Returns the label of a record and where its image begins.

  Raises:
    ValueError: The payload is too short for its header; says why.
  """
  if len(payload) < layout.HEADER.size:
    raise ValueError(f"is too short: {len(payload)} bytes")
  flag, label, _, _ = layout.HEADER.unpack_from(payload)
  begin = layout.HEADER.size + 4 * flag
  if begin > len(payload):
    raise ValueError(f"claims {flag:,} labels in {len(payload):,} bytes")
  if flag:
    label = float(np.frombuffer(payload, "<f4", 1, layout.HEADER.size)[0])
  return label, begin


def heads(
  words: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Reads the labels of many records; 32 bytes of each are touched.

  Args:
    words: The `.rec` file as uint32, a memory map.
    offsets: int64 [n], in bytes, multiples of four within the file.

  Returns:
    uint8 [n], IMAGE, META (labels without an image) or BAD; float32 [n], the
    first label of each.
  """
  kinds = np.empty(len(offsets), np.uint8)
  labels = np.empty(len(offsets), np.float32)
  for begin in range(0, len(offsets), _CHUNK):
    part = slice(begin, begin + _CHUNK)
    kinds[part], labels[part] = _heads(words, offsets[part])
  return kinds, labels


def _heads(
  words: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  at = offsets // 4

  def word(place: int) -> np.ndarray:
    return words[np.minimum(at + place, len(words) - 1)]

  flag, length = word(2).astype(np.int64), word(1) & layout.MAX_LENGTH
  kind = np.where(word(0) == layout.MAGIC, word(1) >> 29, _LAST)
  begin = layout.HEADER.size + 4 * flag
  fits = offsets + 8 + length <= 4 * len(words) + 3
  whole = (kind == _WHOLE) & fits & (begin <= length)
  kinds = np.full(len(offsets), BAD, np.uint8)
  kinds[whole] = IMAGE
  kinds[whole & (flag > 0) & (begin == length)] = META
  labels = np.where(flag > 0, word(_HEAD_WORDS), word(3)).view(np.float32)
  # A header never holds the magic word, so that the first part has all of it.
  shortest = layout.HEADER.size + 4 * (flag > 0)
  kinds[(kind == _FIRST) & fits & (length >= shortest)] = IMAGE
  return kinds, labels


def labels_of(
  words: np.ndarray, keys: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Finds the label of every record, by the identity records if there are any.

  Args:
    words: The `.rec` file as uint32, a memory map.
    keys: int64 [n], ascending.
    offsets: int64 [n], as `heads` takes them.

  Returns:
    The same as `heads`.
  """
  kinds = np.full(len(keys), IMAGE, np.uint8)
  labels = np.zeros(len(keys), np.float32)
  begin, stop, label = _spans(words, keys, offsets)
  edges = np.zeros(len(keys) + 1, np.int8)
  np.add.at(edges, begin, 1)
  np.add.at(edges, stop, -1)
  known = np.cumsum(edges[:-1], dtype=np.int8).astype(bool)
  labels[known] = np.repeat(label, stop - begin)
  kinds[~known], labels[~known] = heads(words, offsets[~known])
  return kinds, labels


def _spans(
  words: np.ndarray, keys: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns where the images of each identity begin and end, and its label.

  Only spans that the first and the last image of the identity bear out. The
  numbers of a header are float32: spans that end above 2^24 are rounded, and
  left out. The header's own count is not looked at, for the same reason.
  """
  none = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)

  def is_meta(place: int) -> bool:
    return heads(words, offsets[place : place + 1])[0][0] == META

  if keys[0] != 0 or not is_meta(0):
    return none
  low, high = 1, len(keys)
  while low < high:
    middle = (low + high) // 2
    low, high = (low, middle) if is_meta(middle) else (middle + 1, high)
  kinds, first = heads(words, offsets[low:])
  at = np.minimum(offsets[low:] // 4 + _HEAD_WORDS + 1, len(words) - 1)
  end = words[at].view(np.float32)
  with np.errstate(invalid="ignore"):
    exact = (kinds == META) & (first >= 1) & (end > first)
    exact &= end < layout.MAX_LABEL
  begin = np.searchsorted(keys[:low], first[exact].astype(np.int64))
  stop = np.searchsorted(keys[:low], end[exact].astype(np.int64))
  held = stop > begin
  begin, stop = begin[held], stop[held]
  if not len(begin) or np.any(begin[1:] < stop[:-1]):
    return none
  kinds, label = heads(words, offsets[begin])
  last_kinds, last_label = heads(words, offsets[stop - 1])
  good = (kinds == IMAGE) & (last_kinds == IMAGE) & (label == last_label)
  return begin[good], stop[good], label[good]
