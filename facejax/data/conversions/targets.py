"""What a conversion writes: the shards of each format, and all around them."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from array_record.python import (
  array_record_module,  # pyright: ignore[reportAttributeAccessIssue]
)

from facejax.data import encoded, fingerprints
from facejax.data.stores import array_records, set_header
from facejax.runtime import whole_files

Advance = Callable[[int], object]
Pieces = Sequence[set_header.FilePiece]

_CHUNK = 2**20


@dataclasses.dataclass(frozen=True)
class Site:
  """Where a conversion takes from, and where it puts.

  Attributes:
    files: The source.
    folder: The set that is written.
    scratch: For what is not part of it, on the same disk.
  """

  files: encoded.EncodedImages
  folder: pathlib.Path
  scratch: pathlib.Path


@dataclasses.dataclass(frozen=True)
class TargetShard:
  """A part of the work.

  Attributes:
    number: Which.
    begin: Place of its first image in the set that is written.
    places: Of its images in the source, in order.
    name: As in `images-00000-of-00008`.
  """

  number: int
  begin: int
  places: Sequence[int] | np.ndarray
  name: str


class Target(Protocol):
  """A format that is written.

  Attributes:
    header_folder: Where the header belongs, below the folder of the set.
    whole_identities: All images of an identity must lie in one shard.
  """

  header_folder: str
  whole_identities: bool

  def check(
    self, files: encoded.EncodedImages, plan: set_header.ConversionPlan
  ) -> None:
    """Refuses with a ValueError what this format cannot hold."""
    ...

  def write(
    self, site: Site, shard: TargetShard, advance: Advance
  ) -> set_header.FilePiece:
    """Writes a shard, over whatever a killed attempt left of it.

    Raises:
      images.BadImageError: An image cannot be read.
      ValueError: An image has a name that this format cannot hold.
      OSError: The disk is full, among others.
    """
    ...

  def finish(
    self, site: Site, order: np.ndarray | None, shards: Pieces
  ) -> tuple[Pieces, Pieces]:
    """Writes the rest.

    Args:
      site: Where.
      order: Places of the images in the source; None when they are kept.
      shards: What `write` returned, in order.

    Returns:
      The shards and the other files, as the header has them.
    """
    ...


class ArrayRecordTarget:
  """Shards of array records, and `labels.npy`."""

  header_folder = "."
  whole_identities = False

  def check(
    self, files: encoded.EncodedImages, plan: set_header.ConversionPlan
  ) -> None:
    """Refuses nothing."""

  def write(
    self, site: Site, shard: TargetShard, advance: Advance
  ) -> set_header.FilePiece:
    path = site.folder / f"{shard.name}.array_record"
    draft = path.with_name(f"{path.name}.tmp")
    files = site.files
    try:
      writer = array_record_module.ArrayRecordWriter(
        os.fsencode(draft), array_records.WRITER_OPTIONS
      )
      for place in map(int, shard.places):
        image = files.encoded(place)
        _, name = fingerprints.names_on_disk(files, place)
        record = array_records.Record(int(files.labels[place]), name, image)
        writer.write(array_records.pack(record))
        advance(1)
      writer.close()
    except RuntimeError as error:
      raise OSError(
        f"{os.fspath(draft)!r} cannot be written: {error}"
      ) from None
    whole_files.commit(draft, path)
    return piece(path, images=len(shard.places))

  def finish(
    self, site: Site, order: np.ndarray | None, shards: Pieces
  ) -> tuple[Pieces, Pieces]:
    labels = site.files.labels
    draft = site.scratch / array_records.LABELS
    with open(draft, "wb") as file:
      np.lib.format.write_array_header_1_0(
        file, {"descr": "<i4", "fortran_order": False, "shape": labels.shape}
      )
      for begin in range(0, len(labels), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        values = labels[part if order is None else order[part]]
        file.write(values.astype("<i4").tobytes())
    path = site.folder / array_records.LABELS
    whole_files.commit(draft, path)
    return shards, [piece(path)]


def piece(path: pathlib.Path, *, images: int = 0) -> set_header.FilePiece:
  """Describes a file that is finished."""
  size = path.stat().st_size
  return set_header.FilePiece(path.name, size, whole_files.sha256(path), images)
