"""Files of embeddings: .npz, or .parquet for tables.

An .npz holds `embeddings` float32 [n, dim], `paths` [n], `labels` int32 [n]
(-1: nobody known), `names` (of the labels), `skipped` (what could not be read)
and `about`, JSON: the card of the net and how it was used. A .parquet has a row
an image: path, label (its name), embedding; the rest is metadata.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from facejax.runtime import extras, file_kinds, npz, text_lines, whole_files

SUFFIXES = (".npz", ".parquet")
ABOUT = b"facejax"


@dataclasses.dataclass(frozen=True, eq=False)
class Embeddings:
  """Embeddings and what they are of.

  Attributes:
    vectors: float32 [n, dim]; of an .npz mapped from the file.
    paths: str [n], where each image lies, or what it is called.
    labels: int32 [n], who it shows: an index of `names`; -1 if not known.
    names: the identities.
    about: the card of the net, its training steps, whether mirror images were
      summed (flip), the run's folder and the threshold of its verification;
      empty if not known.
    skipped: images that could not be read, and why.
  """

  vectors: np.ndarray
  paths: np.ndarray
  labels: np.ndarray
  names: Sequence[str]
  about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  skipped: Sequence[str] = ()

  def __len__(self) -> int:
    return len(self.vectors)

  def name(self, row: int) -> str:
    """Who row `row` shows; where nobody knows, the image itself."""
    label = self.labels[row]
    return str(self.names[int(label)] if label >= 0 else self.paths[row])


def check_suffix(path: str | os.PathLike[str]) -> None:
  """Refuses what is neither .npz nor .parquet, or cannot be written here.

  Raises:
    ValueError: for another suffix.
    ImportError: for .parquet without pyarrow.
    FileNotFoundError: if its folder does not exist.
  """
  path = pathlib.Path(path)
  if path.suffix not in SUFFIXES:
    raise ValueError(
      f"{os.fspath(path)!r}: embeddings go to a file that ends in"
      f" {' or '.join(SUFFIXES)}"
    )
  if path.suffix == ".parquet":
    pyarrow()
  if not path.absolute().parent.is_dir():
    raise FileNotFoundError(f"there is no folder {os.fspath(path.parent)!r}")


def is_file(path: str | os.PathLike[str]) -> bool:
  """Whether there is a file that is called like one of embeddings."""
  return os.path.isfile(path) and pathlib.Path(path).suffix in SUFFIXES


def read(path: str | os.PathLike[str]) -> Embeddings:
  """Reads a file of embeddings, ours or any .npz with `embeddings`.

  Raises:
    FileNotFoundError: if there is none.
    ValueError: if it is damaged, or vectors are not finite.
  """
  path = pathlib.Path(path)
  if path.suffix not in SUFFIXES:
    raise ValueError(
      f"{os.fspath(path)!r} is no file of embeddings ({', '.join(SUFFIXES)})"
    )
  if not path.exists():
    raise FileNotFoundError(f"there is no file {os.fspath(path)!r}")
  found = _read_npz(path) if path.suffix == ".npz" else _read_parquet(path)
  vectors = found.vectors
  if vectors.ndim != 2 or not vectors.size:
    raise ValueError(
      f"{path}: embeddings have shape {vectors.shape}; expected [n, dim]"
    )
  if not len(vectors) == len(found.paths) == len(found.labels):
    raise ValueError(
      f"{path}: {len(vectors)} embeddings, {len(found.paths)} paths,"
      f" {len(found.labels)} labels"
    )
  labels = found.labels
  if not -1 <= labels.min() <= labels.max() < len(found.names):
    raise ValueError(f"{path}: a label has no name")
  # Sums instead of a mask of all numbers: a fourth of the memory.
  if not np.isfinite(vectors.sum(axis=1, dtype=np.float64)).all():
    raise ValueError(f"{path}: some embeddings are not finite")
  return found


def write(path: str | os.PathLike[str], embeddings: Embeddings) -> None:
  """Writes a file of embeddings, .npz or .parquet, whole or not at all."""
  _write(pathlib.Path(path), embeddings, [embeddings.vectors])


def join(
  path: str | os.PathLike[str], parts: Sequence[pathlib.Path]
) -> Embeddings:
  """Joins .npz files to one, whose vectors need not fit in memory.

  Args:
    path: the file, .npz or .parquet.
    parts: the files; the first has the names of all.

  Returns:
    All but the vectors.
  """
  whole = _combined([_without_vectors(_read_npz(part)) for part in parts])
  blocks = (_read_npz(part).vectors for part in parts)
  _write(pathlib.Path(path), whole, blocks)
  return whole


def read_skipped(path: pathlib.Path) -> list[str]:
  """What could not be read of a part."""
  with explained(path), np.load(path, allow_pickle=False) as archive:
    return archive["skipped"].tolist()


def _without_vectors(part: Embeddings) -> Embeddings:
  # Nor their file, of which few may be open at once.
  none = np.empty((0, part.vectors.shape[1]), np.float32)
  return dataclasses.replace(part, vectors=none)


def _combined(parts: Sequence[Embeddings]) -> Embeddings:
  return Embeddings(
    vectors=parts[0].vectors,
    paths=np.concatenate([part.paths for part in parts]),
    labels=np.concatenate([part.labels for part in parts]),
    names=parts[0].names,
    about=parts[0].about,
    skipped=[line for part in parts for line in part.skipped],
  )


def _write(
  path: pathlib.Path, whole: Embeddings, blocks: Iterable[np.ndarray]
) -> None:
  """Writes all but the vectors from `whole`, and these block by block."""
  check_suffix(path)
  with whole_files.replacing(path) as draft:
    if path.suffix == ".npz":
      _write_npz(draft, whole, blocks)
    else:
      _write_parquet(draft, whole, blocks)


def _write_npz(path, whole: Embeddings, blocks) -> None:
  members = {
    "paths": whole.paths,
    "labels": whole.labels,
    "names": np.asarray(list(whole.names), str),
    "skipped": np.asarray(list(whole.skipped), str),
    "about": np.asarray(json.dumps(dict(whole.about))),
  }
  npz.write(
    path,
    members,
    large="embeddings",
    shape=(len(whole.labels), whole.vectors.shape[1]),
    blocks=blocks,
  )


def _read_npz(path: pathlib.Path) -> Embeddings:
  file_kinds.refuse(path, "embeddings", ("npz", "zip"))
  with explained(path):
    vectors = np.asarray(npz.mapped(path, "embeddings"), np.float32)
    with np.load(path, allow_pickle=False) as archive:
      found = {name: archive[name] for name in archive if name != "embeddings"}
    count = len(vectors)
    names, labels = found.get("names"), found.get("labels")
    if labels is None:
      labels, names = np.full(count, -1), np.asarray([], str)
    elif names is None:
      # Somebody else's file: whatever its labels are, they name people.
      names, labels = np.unique(labels, return_inverse=True)
    paths = found.get("paths")
    if paths is None:
      paths = np.asarray([f"row {k}" for k in range(count)])
    return Embeddings(
      vectors,
      paths,
      labels.astype(np.int32),
      [str(name) for name in names],
      json.loads(str(found.get("about", "{}"))),
      [str(line) for line in found.get("skipped", ())],
    )


def _write_parquet(path, whole: Embeddings, blocks) -> None:
  pa, parquet = pyarrow()
  dim = whole.vectors.shape[1]
  extra = {"about": dict(whole.about), "skipped": list(whole.skipped)}
  schema = pa.schema(
    [
      ("path", pa.string()),
      ("label", pa.string()),
      ("embedding", pa.list_(pa.float32(), dim)),
    ],
    metadata={ABOUT: json.dumps(extra).encode()},
  )
  start = 0
  with parquet.ParquetWriter(path, schema) as writer:
    for block in blocks:
      rows = slice(start, start := start + len(block))
      paths = [text_lines.printable(str(path)) for path in whole.paths[rows]]
      who = [whole.names[k] if k >= 0 else None for k in whole.labels[rows]]
      flat = pa.array(np.ascontiguousarray(block, np.float32).reshape(-1))
      columns = [
        pa.array(paths, pa.string()),
        pa.array(who, pa.string()),
        pa.FixedSizeListArray.from_arrays(flat, dim),
      ]
      writer.write_table(pa.table(columns, schema=schema))


def _read_parquet(path: pathlib.Path) -> Embeddings:
  _, parquet = pyarrow()
  file_kinds.refuse(path, "embeddings in Parquet", ("parquet",))
  with explained(path):
    table = parquet.read_table(path)
    column = table.column("embedding").combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    who = table.column("label").to_pylist()
    names = sorted({name for name in who if name is not None})
    number = {name: k for k, name in enumerate(names)}
    labels = [-1 if name is None else number[name] for name in who]
    extra = json.loads((table.schema.metadata or {}).get(ABOUT, b"{}"))
    return Embeddings(
      np.asarray(flat, np.float32).reshape(len(column), -1),
      np.asarray(table.column("path").to_pylist(), str),
      np.asarray(labels, np.int32),
      names,
      extra.get("about", {}),
      extra.get("skipped", ()),
    )


def pyarrow() -> tuple[Any, Any]:
  """The modules pyarrow and pyarrow.parquet.

  Raises:
    ImportError: without them; says how to install them.
  """
  with extras.needed():
    import pyarrow
    from pyarrow import parquet
  return pyarrow, parquet


@contextlib.contextmanager
def explained(path: pathlib.Path) -> Iterator[None]:
  """Turns what a damaged file leads to into a ValueError that names it."""
  try:
    yield
  except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
    raise ValueError(f"{path} cannot be read as embeddings: {error}") from None
