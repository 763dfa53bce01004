"""Files of embeddings read block by block: millions that need not fit in memory."""

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from facejax.runtime import file_kinds, npz
from facejax.vectors import embeddings


class EmbeddingStream:
  """A file of embeddings, .npz or .parquet, of which one block is held.

  Attributes:
    path: the file.
    dim: of the embeddings.
    about: see `embeddings.Embeddings`.
  """

  def __init__(self, path: str | os.PathLike[str]):
    """Reads what is said of the embeddings.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is no file of embeddings, or damaged.
    """
    self.path = pathlib.Path(path)
    if self.path.suffix not in embeddings.SUFFIXES:
      raise ValueError(
        f"{os.fspath(path)!r} is no file of embeddings"
        f" ({', '.join(embeddings.SUFFIXES)})"
      )
    if not self.path.exists():
      raise FileNotFoundError(f"there is no file {os.fspath(path)!r}")
    kinds = ("npz", "zip") if self._packed else ("parquet",)
    file_kinds.refuse(self.path, "embeddings", kinds)
    with embeddings.explained(self.path):
      self._rows, self.dim, self.about = self._opened()
    if not self._rows or not self.dim:
      raise ValueError(f"{self.path} holds no embeddings")

  def __len__(self) -> int:
    return self._rows

  def paths(self, rows: int) -> Iterator[list[str]]:
    """Where the images lie, or what they are called, `rows` at a time."""
    with embeddings.explained(self.path):
      if self._packed:
        yield from self._packed_paths(rows)
      else:
        for batch in self._parquet().iter_batches(rows, columns=["path"]):
          yield batch.column("path").to_pylist()

  def vectors(self, rows: int) -> Iterator[np.ndarray]:
    """The embeddings, float32 [rows, dim] at a time."""
    with embeddings.explained(self.path):
      if self._packed:
        blocks = npz.Member(self.path, "embeddings").blocks(rows)
        yield from (np.asarray(block, np.float32) for block in blocks)
      else:
        for batch in self._parquet().iter_batches(rows, columns=["embedding"]):
          flat = batch.column("embedding").flatten()
          flat = flat.to_numpy(zero_copy_only=False)
          yield np.asarray(flat, np.float32).reshape(len(batch), -1)

  @property
  def _packed(self) -> bool:
    return self.path.suffix == ".npz"

  def _opened(self) -> tuple[int, int, Any]:
    if not self._packed:
      file = self._parquet()
      kind = file.schema_arrow.field("embedding").type
      if getattr(kind, "list_size", -1) < 1:
        raise ValueError(f"embeddings are {kind}, not lists of one fixed size")
      extra = (file.schema_arrow.metadata or {}).get(embeddings.ABOUT, b"{}")
      about = json.loads(extra).get("about", {})
      return file.metadata.num_rows, kind.list_size, about
    shape = npz.Member(self.path, "embeddings").shape
    if len(shape) != 2:
      raise ValueError(f"embeddings have shape {shape}; expected [n, dim]")
    with np.load(self.path, allow_pickle=False) as archive:
      about = str(archive["about"]) if "about" in archive else "{}"
    return *shape, json.loads(about)

  def _packed_paths(self, rows: int) -> Iterator[list[str]]:
    try:
      member = npz.Member(self.path, "paths")
    except KeyError:
      for start in range(0, self._rows, rows):
        stop = min(start + rows, self._rows)
        yield [f"row {k}" for k in range(start, stop)]
      return
    if member.shape != (self._rows,):
      raise ValueError(f"{self._rows} embeddings, {member.shape} paths")
    yield from (block.astype(str).tolist() for block in member.blocks(rows))

  def _parquet(self) -> Any:
    return embeddings.pyarrow()[1].ParquetFile(self.path)
