"""The bytes of RecordIO: what the parts of a `train.rec` are made of.

A record is framed as

    magic u32 | kind << 29 | length u32 | payload | zeros up to four bytes

where `kind` is 0 for a whole record. A payload that holds the magic word at a
multiple of four bytes is cut there into parts of kind 1 (first), 2 (middle) and
3 (last), and the word itself is left out, so that a reader who is lost can look
for the next magic word. The payload of an image, and of the records that say
where the images of an identity lie, is

    flag u32 | label f32 | id u64 | id2 u64 | flag * f32 | file

InsightFace keeps its header under key 0, the images under 1 … N and one record
for each identity under N + 1 …; `train.idx` holds a line `key<tab>offset` for
each record.

References:
  MXNet, python/mxnet/recordio.py; dmlc-core, src/recordio.cc. 2015.
  InsightFace, src/data/face2rec2.py. 2018.
"""

import struct

import numpy as np

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", MAGIC)
FRAME = struct.Struct("<II")
HEADER = struct.Struct("<IfQQ")
MAX_LENGTH = 2**29 - 1
# Labels travel as float32, which counts one by one up to here.
MAX_LABEL = 2**24

_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


def pack(payload: bytes) -> bytes:
  """Frames one record as MXNet does.

  Args:
    payload: What the record holds, shorter than 2^29 bytes.

  Returns:
    The bytes to append to the `.rec` file, a multiple of four.

  Raises:
    ValueError: The payload is too long.

  >>> pack(b"abcde").hex()
  '0a23d7ce050000006162636465000000'
  """
  if len(payload) > MAX_LENGTH:
    raise ValueError(
      f"a record of {len(payload):,} bytes; RecordIO takes up to {MAX_LENGTH:,}"
    )
  padding = bytes(-len(payload) % 4)
  if MAGIC_BYTES not in payload:
    return FRAME.pack(MAGIC, len(payload)) + payload + padding
  words = np.frombuffer(payload, "<u4", count=len(payload) // 4)
  begin, pieces = 0, []
  for cut in 4 * np.flatnonzero(words == MAGIC):
    kind = _MIDDLE if begin else _FIRST
    pieces += [FRAME.pack(MAGIC, kind << 29 | cut - begin), payload[begin:cut]]
    begin = cut + 4
  kind = _LAST if begin else _WHOLE
  pieces.append(FRAME.pack(MAGIC, kind << 29 | len(payload) - begin))
  return b"".join([*pieces, payload[begin:], padding])


def image_payload(label: int, key: int, data: bytes) -> bytes:
  """Returns the payload of one image, as InsightFace's own tool writes it.

  Args:
    label: The identity, in [0, 2^24].
    key: The key of the record, at least 1.
    data: The image file.

  Returns:
    The bytes for `pack`.

  Raises:
    ValueError: The label does not fit a float32.
  """
  if not 0 <= label <= MAX_LABEL:
    raise ValueError(
      f"label {label} of record {key}: RecordIO stores labels as float32, exact"
      f" from 0 to {MAX_LABEL:,}"
    )
  # The second number says that the face is aligned.
  return _header(key, label, 1.0) + data


def identity_payload(key: int, first: int, end: int) -> bytes:
  """Returns the payload of the record of one identity.

  Args:
    key: The key of this record.
    first: The key of the identity's first image.
    end: One more than the key of its last.

  Returns:
    The bytes for `pack`.
  """
  return _header(key, first, end)


def header_payload(first_identity: int, end: int) -> bytes:
  """Returns the payload of record 0.

  Args:
    first_identity: The key of the first identity's record: one more than the
      number of images.
    end: One more than the key of the last identity's record.

  Returns:
    The bytes for `pack`.
  """
  return _header(0, first_identity, end)


def _header(key: int, *numbers: float) -> bytes:
  """A header that is followed by numbers; above 2^24 they are rounded."""
  return HEADER.pack(len(numbers), 0.0, key, 0) + struct.pack(
    f"<{len(numbers)}f", *numbers
  )
