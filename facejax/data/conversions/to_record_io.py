"""Conversion to RecordIO as InsightFace lays it out.

Key 0 is the header, keys 1 … N are the images in order. When the images of each
identity stand together, one record for each identity follows, with the keys of
its images; a shuffled set has none, and the header says so (InsightFace's
training reads the images alone).
"""

import os
import pathlib
from collections.abc import Iterator

import numpy as np

from facejax.data import encoded, fingerprints, images
from facejax.data.conversions import targets
from facejax.data.stores import record_io_write as layout
from facejax.data.stores import set_header
from facejax.runtime import whole_files

NAME = "train.rec"

_LINES = 2**16
_TRIED = 100


class RecordIOTarget:
  """`train.rec`, `train.idx`, `train.lst` with the names, and `property`."""

  header_folder = "."
  whole_identities = False

  def check(
    self, files: encoded.EncodedImages, plan: set_header.ConversionPlan
  ) -> None:
    if files.num_classes > layout.MAX_LABEL + 1:
      raise ValueError(
        f"{files.num_classes:,} identities; RecordIO counts them exactly up to"
        f" {layout.MAX_LABEL + 1:,} only: convert to array_record"
      )
    _image_size(files)  # which may fail, and would at the very end

  def write(
    self,
    site: targets.Site,
    shard: targets.TargetShard,
    advance: targets.Advance,
  ) -> set_header.FilePiece:
    paths = _parts(site.scratch, shard.name)
    drafts = [path.with_name(f"{path.name}.tmp") for path in paths]
    sizes = np.empty(len(shard.places), np.int64)
    with open(drafts[0], "wb") as records, open(drafts[2], "wb") as names:
      for number, place in enumerate(map(int, shard.places)):
        key, label = shard.begin + 1 + number, int(site.files.labels[place])
        data = site.files.encoded(place)
        payload = layout.image_payload(label, key, data)
        sizes[number] = records.write(layout.pack(payload))
        line = _line(site.files, place)
        names.write(b"%d\t%d\t%s\n" % (key, label, line))
        advance(1)
    with open(drafts[1], "wb") as file:
      np.save(file, sizes)
    for draft, path in zip(drafts, paths, strict=True):
      whole_files.commit(draft, path)
    return targets.piece(paths[0], images=len(shard.places))

  def finish(
    self,
    site: targets.Site,
    order: np.ndarray | None,
    shards: targets.Pieces,
  ) -> tuple[targets.Pieces, targets.Pieces]:
    spans = _spans(site.files.labels, order)
    count = len(site.files)
    head = layout.pack(layout.header_payload(count + 1, count + 1 + len(spans)))
    ends = np.cumsum([len(head), *(shard.bytes for shard in shards)])
    rec = site.folder / NAME
    if not rec.exists():
      whole_files.write(rec, head)
    _join(site, shards, ends.tolist())
    tail = site.scratch / "identities.rec"
    tail_sizes = _write_identities(tail, spans, count)
    last = targets.piece(tail)
    whole_files.append(tail, rec, int(ends[-1]))
    _write_index(site, shards, len(head), tail_sizes)
    _write_names(site, shards)
    height, width = _image_size(site.files)
    text = f"{site.files.num_classes},{height},{width}\n"
    whole_files.write(site.folder / "property", text.encode())
    joined = [
      set_header.FilePiece(NAME, shard.bytes, shard.sha256, shard.images, begin)
      for shard, begin in zip(shards, ends[:-1].tolist(), strict=True)
    ]
    files = [
      set_header.FilePiece(NAME, last.bytes, last.sha256, 0, int(ends[-1]))
    ]
    for name in ("train.idx", "train.lst", "property"):
      files.append(targets.piece(site.folder / name))
    return joined, files


def _parts(scratch: pathlib.Path, name: str) -> list[pathlib.Path]:
  """The records of a shard, their sizes, and their lines of the list."""
  return [scratch / f"{name}.{suffix}" for suffix in ("rec", "npy", "lst")]


def _line(files: encoded.EncodedImages, place: int) -> bytes:
  """Returns `identity/file` as it stands in the list."""
  parts = fingerprints.names_on_disk(files, place)
  for part in parts:
    if not part or any(mark in part for mark in b"\t\n\r\\/\0"):
      raise ValueError(
        f"{files.name(place)!r} cannot be written to a list of RecordIO: a name"
        " may not be empty or hold a tab, a line break or a slash"
      )
  return b"/".join(parts)


def _spans(labels: np.ndarray, order: np.ndarray | None) -> np.ndarray:
  """Returns the first key of each identity and one more than its last.

  In order of the labels; none when the images of one do not stand together.
  """
  labels = labels if order is None else labels[order]
  begin = np.append(0, np.flatnonzero(labels[1:] != labels[:-1]) + 1)
  held = labels[begin]
  if len(np.unique(held)) < len(held):
    return np.zeros((0, 2), np.int64)
  end = np.append(begin[1:], len(labels))
  return np.stack([begin, end], axis=-1)[np.argsort(held)] + 1


def _join(
  site: targets.Site,
  shards: targets.Pieces,
  begins: list[int],
) -> None:
  """Appends the records of each shard and deletes their own file.

  A part that is gone was appended by an attempt that was killed later.
  """
  rec = site.folder / NAME
  for shard, begin, end in zip(shards, begins, begins[1:], strict=False):
    part, size = site.scratch / shard.file, rec.stat().st_size
    if size < (begin if part.exists() else end):
      raise ValueError(
        f"{os.fspath(rec)!r} has {size:,} bytes and lacks images of"
        f" {shard.file}: name another folder, and begin again there"
      )
    if part.exists():
      whole_files.append(part, rec, begin)


def _write_identities(
  path: pathlib.Path, spans: np.ndarray, count: int
) -> np.ndarray:
  """Writes the records of the identities; returns their sizes."""
  sizes = np.empty(len(spans), np.int64)
  with open(path, "wb") as file:
    for number, (first, end) in enumerate(spans):
      key = count + 1 + number
      payload = layout.identity_payload(key, int(first), int(end))
      sizes[number] = file.write(layout.pack(payload))
  return sizes


def _write_index(
  site: targets.Site,
  shards: targets.Pieces,
  head: int,
  tail: np.ndarray,
) -> None:
  """Writes the key and the offset of each record."""

  def sizes() -> Iterator[np.ndarray]:
    yield np.asarray([head])
    for shard in shards:
      yield np.load((site.scratch / shard.file).with_suffix(".npy"))
    yield tail

  draft = site.scratch / "train.idx"
  key = offset = 0
  with open(draft, "wb") as file:
    for part in sizes():
      offsets = offset + np.cumsum(part) - part
      for begin in range(0, len(part), _LINES):
        chunk = offsets[begin : begin + _LINES].tolist()
        lines = enumerate(chunk, key)
        file.write(b"".join(b"%d\t%d\n" % line for line in lines))
        key += len(chunk)
      offset += int(part.sum())
  whole_files.commit(draft, site.folder / "train.idx")


def _write_names(site: targets.Site, shards: targets.Pieces) -> None:
  draft = site.scratch / "train.lst"
  with open(draft, "wb") as file:
    for shard in shards:
      part = (site.scratch / shard.file).with_suffix(".lst")
      whole_files.copy(part, file)
  whole_files.commit(draft, site.folder / "train.lst")


def _image_size(files: encoded.EncodedImages) -> tuple[int, int]:
  """Returns the height and width of the first image that can be decoded."""
  complaint = ""
  for place in range(min(len(files), _TRIED)):
    try:
      image = images.decode(files.encoded(place), name=files.name(place))
      return image.shape[0], image.shape[1]
    except images.BadImageError as error:
      complaint = str(error)
  raise images.BadImageError(f"no image can be decoded; the last: {complaint}")
