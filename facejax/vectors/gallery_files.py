"""The files of a gallery.

    vectors.npy    float32 [faces, dim], of length 1, read from the disk as needed
    codes.npy      the same in int8 or bfloat16 (as its bits, uint16), if stored so
    scales.npy     float32 [faces], of int8
    labels.npy, paths.npy, gallery.json
    index.faiss    an approximate index, if asked for
    part-N/        faces that were added, laid out like the gallery itself
    removed-N.npy  the rows that were removed, counted over all parts
    changes.json   which of these count: {"parts": […], "removed": …, "number": N}

Files are never written to again. A change is there once changes.json names it.
"""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from facejax.runtime import file_kinds, json_files, unit_vectors
from facejax.vectors import chained, storage
from facejax.vectors import embeddings as embeddings_lib

ABOUT = "gallery.json"
CHANGES = "changes.json"
INDEX = "index.faiss"
VECTORS = "vectors.npy"
_CODES, _SCALES = "codes.npy", "scales.npy"
_LABELS, _PATHS = "labels.npy", "paths.npy"
_ROWS = 2**16


class Contents(NamedTuple):
  """All that a gallery holds.

  Attributes:
    known: the faces of all parts, mapped; the label of removed ones is -1.
    removed: int64, the rows that were removed, ascending.
    stored: one of `storage.KINDS`.
    codes: of `storage.encode`, mapped; None where that is the vectors.
    scales: of `storage.encode`.
  """

  known: embeddings_lib.Embeddings
  removed: np.ndarray
  stored: str
  codes: Any
  scales: Any


class Changes(NamedTuple):
  """What was done to a gallery after it was built.

  Attributes:
    parts: folders of added faces, in their order.
    removed: the file of removed rows; None where none was.
    number: how often it was changed.
  """

  parts: Sequence[str] = ()
  removed: str | None = None
  number: int = 0


def write(
  folder: pathlib.Path,
  sets: Sequence[embeddings_lib.Embeddings],
  stored: str = "float32",
) -> None:
  """Writes faces into an empty folder.

  Raises:
    ValueError: if embeddings differ in size or are zero, or there is no such
      storage.
  """
  if stored not in storage.KINDS:
    raise ValueError(f"storage {stored!r}: choose {', '.join(storage.KINDS)}")
  names = sorted({name for part in sets for name in part.names})
  number = {name: k for k, name in enumerate(names)}
  labels = []
  for part in sets:
    # The last stands for -1.
    ids = np.asarray([*(number[name] for name in part.names), -1], np.int32)
    labels.append(ids[part.labels])
  _write_vectors(folder, sets, stored)
  np.save(folder / _LABELS, np.concatenate(labels))
  np.save(folder / _PATHS, np.concatenate([part.paths for part in sets]))
  about = {"faces": sum(map(len, sets)), "names": names, "stored": stored}
  json_files.write(folder / ABOUT, about | {"about": dict(sets[0].about)})


def _write_vectors(folder: pathlib.Path, sets, stored: str) -> None:
  dims = {part.vectors.shape[1] for part in sets}
  if len(dims) > 1:
    raise ValueError(f"embeddings of {sorted(dims)} numbers cannot be mixed")
  shape = (sum(map(len, sets)), dims.pop())

  def empty(name, dtype, shape):
    return np.lib.format.open_memmap(folder / name, "w+", dtype, shape)

  vectors = empty(VECTORS, np.float32, shape)
  whole = stored == "int8"
  codes = scales = None
  if stored != "float32":
    codes = empty(_CODES, np.int8 if whole else np.uint16, shape)
    scales = empty(_SCALES, np.float32, shape[:1]) if whole else None
  row = 0
  for part in sets:
    for start in range(0, len(part), _ROWS):
      block = unit_vectors.unit(part.vectors[start : start + _ROWS])
      rows = slice(row, row := row + len(block))
      vectors[rows] = block
      if codes is not None:
        short, scale = storage.encode(block, stored)
        codes[rows] = short.view(codes.dtype)
        if scales is not None:
          scales[rows] = scale
  for array in (vectors, codes, scales):
    if array is not None:
      array.flush()


def read_changes(folder: pathlib.Path) -> Changes:
  """What was done to a gallery; nothing to one that was only built."""
  found = json_files.read_or_none(folder / CHANGES)
  return Changes(**found) if found else Changes()


def read(folder: pathlib.Path) -> Contents:
  """Opens a gallery; reads little of it yet.

  Raises:
    FileNotFoundError: if it is none.
    ValueError: if it is damaged.
  """
  if not (folder / ABOUT).exists():
    raise FileNotFoundError(f"{folder} is no gallery: it has no {ABOUT}")
  try:
    changes = read_changes(folder)
    parts = [_read(folder), *(_read(folder / name) for name in changes.parts)]
    removed = np.empty(0, np.int64)
    if changes.removed:
      removed = _array(folder / changes.removed)
    known = _joined([part.known for part in parts])
    known.labels[removed] = -1
    if len({part.stored for part in parts}) > 1:
      raise ValueError("its parts are stored in different types")
  except (OSError, LookupError, ValueError, TypeError) as error:
    raise ValueError(f"gallery {folder} is damaged: {error}") from None
  codes, scales = (
    None if columns[0] is None else chained.chain(columns)
    for columns in ([p.codes for p in parts], [p.scales for p in parts])
  )
  return Contents(known, removed, parts[0].stored, codes, scales)


def _read(folder: pathlib.Path) -> Contents:
  """One part."""
  about = json_files.read(folder / ABOUT)
  vectors, paths = (_array(folder / name, "r") for name in (VECTORS, _PATHS))
  labels = _array(folder / _LABELS)
  arrays = [vectors, labels, paths]
  stored = about.get("stored", "float32")
  codes = scales = None
  if stored != "float32":
    codes = _array(folder / _CODES, "r")
    arrays.append(codes)
    if stored == "int8":
      scales = _array(folder / _SCALES, "r")
      arrays.append(scales)
    else:
      codes = codes.view(ml_dtypes.bfloat16)
  if {len(array) for array in arrays} != {about["faces"]}:
    raise ValueError("its files differ in length")
  known = embeddings_lib.Embeddings(
    vectors, paths, labels, about["names"], about["about"]
  )
  return Contents(known, np.empty(0, np.int64), stored, codes, scales)


def _array(path: pathlib.Path, mode: Any = None) -> np.ndarray:
  file_kinds.refuse(path, "an array of NumPy", ("npy",))
  return np.load(path, mmap_mode=mode)


def _joined(parts) -> embeddings_lib.Embeddings:
  """Equal names are the same person."""
  first = parts[0]
  if len(parts) == 1:
    return first
  number = {name: k for k, name in enumerate(first.names)}
  labels = [first.labels]
  for part in parts[1:]:
    ids = [number.setdefault(name, len(number)) for name in part.names]
    labels.append(np.asarray([*ids, -1], np.int32)[part.labels])
  return embeddings_lib.Embeddings(
    chained.chain([part.vectors for part in parts]),
    chained.chain([part.paths for part in parts]),
    np.concatenate(labels),
    list(number),
    first.about,
  )
