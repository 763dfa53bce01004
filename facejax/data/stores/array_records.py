"""Array records, the format of grain: sharded, checksummed, random access.

A set is a folder with `facejax.json` (see `set_header`), `labels.npy` and
shards `images-00000-of-00008.array_record`. Each record is a msgpack map of
`label`, `name` (of the file, as bytes) and `image` (the file). Records are not
compressed, since images are.
"""

import os
import threading
from typing import Any, NamedTuple, cast

import msgpack
import numpy as np

from facejax.data import images
from facejax.data.stores import array_shards, set_header
from facejax.runtime import text_lines

KIND = "array_record"
LABELS = "labels.npy"
WRITER_OPTIONS = "group_size:1,uncompressed"

_MAX_NAME = 65536


class Record(NamedTuple):
  """What one record holds."""

  label: int
  name: bytes
  image: bytes


def pack(record: Record) -> bytes:
  """Returns the bytes of a record."""
  return cast(bytes, msgpack.packb(record._asdict()))


def unpack(data: bytes) -> Record:
  """Returns what the bytes of a record hold.

  Raises:
    ValueError: They are no record; says why.
  """
  try:
    # No field can be longer than the record, which is in memory already.
    fields: Any = msgpack.unpackb(
      data,
      max_map_len=3,
      max_array_len=0,
      max_str_len=8,
      max_ext_len=0,
      max_bin_len=len(data),
    )
  except (ValueError, msgpack.UnpackException) as error:
    raise ValueError(f"is no msgpack map ({error})") from None
  kinds = {"label": int, "name": bytes, "image": bytes}
  found = fields if isinstance(fields, dict) else {}
  if {name: type(value) for name, value in found.items()} != kinds:
    raise ValueError("does not hold a label, a name and an image")
  if len(found["name"]) > _MAX_NAME:
    raise ValueError(f"has a name of {len(found['name']):,} bytes")
  return Record(**found)


class ArrayRecords:
  """A set of array records; an `encoded.EncodedImages`.

  Opening reads the header and looks at the sizes of the files. Shards are
  opened when they are first asked for.

  Attributes:
    path: The folder.
    labels: int32 [len], the identity of each image, mapped from the disk.
    class_names: The name of each identity.
    fingerprint: As `fingerprints.fingerprint` defines it.
  """

  def __init__(self, path: str | os.PathLike[str]):
    """Opens the set.

    Args:
      path: The folder.

    Raises:
      FileNotFoundError: There is no such folder, or it is not finished.
      ValueError: The header is damaged or does not match the files.
    """
    self.path = os.fspath(path)
    header = set_header.read(self.path, kind=KIND)
    self._records = array_shards.Shards(
      [
        array_shards.Piece(
          os.path.join(self.path, shard.file), shard.images, 0, shard.images
        )
        for shard in header.shards
      ]
    )
    self.labels = _labels(os.path.join(self.path, LABELS), header.plan)
    self.class_names = list(header.class_names)
    self.fingerprint = header.plan.fingerprint
    self._last = threading.local()

  def __reduce__(self):
    return ArrayRecords, (self.path,)

  @property
  def num_classes(self) -> int:
    return len(self.class_names)

  def __len__(self) -> int:
    return len(self.labels)

  def encoded(self, index: int) -> bytes:
    record = self._record(index)
    # Whoever decodes an image asks for its name next.
    self._last.read = (index, record.name)
    return record.image

  def name(self, index: int) -> str:
    read, file = getattr(self._last, "read", (None, b""))
    if read != index:
      try:
        file = self._record(index).name
      except images.BadImageError:
        piece, place = self._records.find(index)
        file = f"record {place} of {os.path.basename(piece.path)}".encode()
    identity = self.class_names[self.labels[index]]
    return f"{identity}/{text_lines.printable(os.fsdecode(file))}"

  def close(self) -> None:
    """Closes the shards; the next image opens its own again."""
    self._records.close()

  def _record(self, index: int) -> Record:
    if not 0 <= index < len(self):
      raise IndexError(f"image {index} of {len(self)}")
    try:
      data = self._records[index]
    except RuntimeError as error:
      raise self._bad(index, error) from None
    try:
      record = unpack(data)
      if record.label != self.labels[index]:
        raise ValueError(
          f"has label {record.label}, {LABELS} {self.labels[index]}"
        )
    except ValueError as error:
      raise self._bad(index, error) from None
    return record

  def _bad(self, index: int, reason: Exception) -> images.BadImageError:
    piece, place = self._records.find(index)
    return images.BadImageError(f"record {place} of {piece.path!r} {reason}")


def _labels(path: str, plan: set_header.ConversionPlan) -> np.ndarray:
  """Maps the labels from the disk.

  Raises:
    ValueError: They are damaged, of another length, or out of range.
  """
  try:
    labels = np.lib.format.open_memmap(path, mode="r")
  except Exception as error:  # NumPy raises all kinds on damaged bytes
    raise ValueError(f"{path!r} is damaged: {error}") from None
  if labels.dtype != np.int32 or labels.shape != (plan.images,):
    raise ValueError(
      f"{path!r} holds {labels.dtype} {labels.shape}, expected int32"
      f" {(plan.images,)}"
    )
  labels = labels.view(np.ndarray)
  low, high = int(labels.min()), int(labels.max())
  if low < 0 or high >= plan.identities:
    raise ValueError(
      f"{path!r} holds labels from {low} to {high}, out of range for"
      f" {plan.identities:,} identities"
    )
  return labels
