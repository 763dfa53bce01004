"""`facejax.json`: what a converted set of images consists of.

    {"format": "facejax images", "version": 1, "kind": "array_record",
     "images": 13233, "identities": 5749,
     "source": {"kind": "folder", "fingerprint": "9c1e…"}, "shuffle": null,
     "shard_count": 7,
     "shards": [{"file": "images-00000-of-00007.array_record", "offset": 0,
                 "images": 1890, "bytes": 8650752, "sha256": "07ab…"}, …],
     "files": [{"file": "labels.npy", …}, …],
     "class_names": ["AJ_Cook", …]}

The header is written last: a folder without it is not finished.
"""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from facejax.data import fingerprints
from facejax.runtime import whole_files

FILE = "facejax.json"
FORMAT = "facejax images"
VERSION = 1
KINDS = ("folder", "record_io", "array_record")

_MAX_BYTES = 2**30
_MAX_IMAGES = 2**31 - 1
_LONGEST_NAME = 255  # bytes; what file systems take
MAX_SHARDS = 99_999
_HEX = re.compile("[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class FilePiece:
  """A file of a set, or a stretch of one.

  Attributes:
    file: Its name, beside the header.
    bytes: How long it is.
    sha256: Of these bytes.
    images: How many it holds.
    offset: Where it begins in the file.
  """

  file: str
  bytes: int
  sha256: str
  images: int = 0
  offset: int = 0


@dataclasses.dataclass(frozen=True)
class ConversionPlan:
  """What a conversion is to make; equal plans make equal bytes.

  Attributes:
    kind: The format that is written.
    images: How many.
    identities: How many.
    source_kind: The format that is read.
    source: Its fingerprint.
    shuffle: Seed of the order of the images; None keeps that of the source.
    shard_count: In how many parts the work is done.
  """

  kind: str
  images: int
  identities: int
  source_kind: str
  source: str
  shuffle: int | None
  shard_count: int

  def __post_init__(self):
    _whole("images", self.images, 1, _MAX_IMAGES)
    _whole("identities", self.identities, 1, _MAX_IMAGES)
    _whole("shards", self.shard_count, 1, min(self.images, MAX_SHARDS))
    if self.shuffle is not None:
      _whole("shuffle", self.shuffle, 0, 2**32 - 1)
    if self.kind not in KINDS:
      raise ValueError(f"kind is {self.kind!r}, not one of {', '.join(KINDS)}")

  @property
  def fingerprint(self) -> str:
    """That of the set which is made."""
    if self.shuffle is None:
      return self.source
    return fingerprints.shuffled(self.source, self.shuffle)

  def to_json(self) -> dict[str, Any]:
    fields = dataclasses.asdict(self)
    source = {
      "kind": fields.pop("source_kind"),
      "fingerprint": fields.pop("source"),
    }
    return {"format": FORMAT, "version": VERSION, **fields, "source": source}


@dataclasses.dataclass(frozen=True)
class Header:
  """All that `facejax.json` says.

  Attributes:
    plan: What was made from what.
    class_names: The name of each identity.
    shards: The pieces with the images, in order.
    files: The other files.
  """

  plan: ConversionPlan
  class_names: Sequence[str]
  shards: Sequence[FilePiece]
  files: Sequence[FilePiece]


def write(folder: pathlib.Path, header: Header) -> None:
  """Writes the header of a finished set."""
  fields = {
    **header.plan.to_json(),
    "shards": [dataclasses.asdict(piece) for piece in header.shards],
    "files": [dataclasses.asdict(piece) for piece in header.files],
    "class_names": list(header.class_names),
  }
  text = json.dumps(fields, indent=1)
  whole_files.write(folder / FILE, text.encode() + b"\n")


def read(folder: str | os.PathLike[str], *, kind: str | None = None) -> Header:
  """Reads the header of a set, and compares it with the files that are there.

  Args:
    folder: Where it lies.
    kind: The format that the set should have; None takes any.

  Raises:
    FileNotFoundError: There is no such folder, or no header in it.
    ValueError: The header is damaged, is that of another kind, or does not
      match the files.
  """
  folder = pathlib.Path(folder)
  path = folder / FILE
  if not path.is_file():
    what = "unfinished, or no converted set" if folder.is_dir() else "not there"
    raise FileNotFoundError(
      f"{os.fspath(folder)!r} is {what}: it has no {FILE}; make it with"
      " python -m facejax.data.convert"
    )
  try:
    header = _parse(load(path), kind)
    for piece in (*header.shards, *header.files):
      _check_size(folder, piece, whole=header.plan.kind == "array_record")
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{os.fspath(path)!r}: {error}") from None
  return header


def load(path: pathlib.Path) -> Mapping[str, Any]:
  """Reads a JSON object.

  Raises:
    ValueError: It is none.
  """
  if path.stat().st_size > _MAX_BYTES:
    raise ValueError(f"has {path.stat().st_size:,} bytes, too many")
  fields = json.loads(path.read_bytes())
  if not isinstance(fields, dict):
    raise ValueError("is no JSON object")
  return fields


def _parse(fields: Mapping[str, Any], kind: str | None) -> Header:
  for name, wanted in (("format", FORMAT), ("version", VERSION)):
    if fields.get(name) != wanted:
      raise ValueError(f"{name} is {fields.get(name)!r}, expected {wanted!r}")
  missing = {
    *("images", "identities", "source", "shuffle", "shard_count", "kind"),
    *("shards", "files", "class_names"),
  } - fields.keys()
  if missing:
    raise ValueError(f"lacks {', '.join(sorted(missing))}")
  names = fields["class_names"]
  if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
    raise ValueError("class_names is no list of names")
  source = fields["source"]
  if not isinstance(source, dict) or not {"kind", "fingerprint"} <= set(source):
    raise ValueError("source lacks its kind or its fingerprint")
  plan = ConversionPlan(
    **{k: fields[k] for k in ("kind", "images", "identities", "shuffle")},
    shard_count=fields["shard_count"],
    source_kind=str(source["kind"]),
    source=_digest(source["fingerprint"]),
  )
  if kind not in (None, plan.kind):
    raise ValueError(f"is a set of kind {plan.kind}, not {kind}")
  shards = [to_piece(entry) for entry in fields["shards"]]
  files = [to_piece(entry) for entry in fields["files"]]
  held = sum(piece.images for piece in shards)
  for name, wanted, got in (
    ("images", plan.images, held),
    ("shards", plan.shard_count, len(shards)),
    ("identities", plan.identities, len(names)),
  ):
    if wanted != got:
      raise ValueError(f"announces {wanted:,} {name} and lists {got:,}")
  return Header(plan, names, shards, files)


def to_piece(fields: Mapping[str, Any]) -> FilePiece:
  """Makes a piece of what JSON held.

  Raises:
    ValueError: A field is missing or of the wrong kind.
  """
  try:
    piece = FilePiece(**fields)
  except TypeError:
    raise ValueError(f"{str(fields)[:80]!r} is no shard or file") from None
  if not isinstance(piece.file, str) or (
    piece.file != os.path.basename(piece.file)
    or piece.file in ("", ".", "..")
    or len(piece.file.encode("utf-8", "replace")) > _LONGEST_NAME
  ):
    raise ValueError(f"{piece.file!r} is no name of a file")
  for name in ("bytes", "images", "offset"):
    _whole(name, getattr(piece, name), 0, 2**62)
  _digest(piece.sha256)
  return piece


def _check_size(folder: pathlib.Path, piece: FilePiece, *, whole: bool) -> None:
  path = folder / piece.file
  if not path.is_file():
    raise ValueError(f"{piece.file!r} is missing")
  size, end = path.stat().st_size, piece.offset + piece.bytes
  if size < end or (whole and (piece.offset or size != end)):
    raise ValueError(f"{piece.file!r} has {size:,} bytes, not {end:,}")


def _whole(name: str, value: Any, low: int, high: int) -> None:
  if type(value) is not int or not low <= value <= high:
    raise ValueError(f"{name}={value!r}: must be from {low:,} to {high:,}")


def _digest(value: Any) -> str:
  if not isinstance(value, str) or not _HEX.fullmatch(value):
    raise ValueError(f"{value!r} is no SHA-256")
  return value
