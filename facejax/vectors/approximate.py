"""Approximate nearest neighbours, by faiss: quicker, and may miss some."""

import os
import pathlib
import warnings
from typing import Any

import numpy as np

from facejax.runtime import extras
from facejax.vectors import nearest

_ROWS = 2**16
# Vectors that an index learns from, where it has something to learn.
_TRAINING = 2**17
_CANDIDATES = 128


class Index:
  """An index that `build` wrote; called with queries like `nearest.Nearest`.

  Args:
    path: the file.

  Raises:
    ImportError: if faiss is missing.
    ValueError: if the file is damaged.
  """

  def __init__(self, path: str | os.PathLike[str]):
    faiss = _faiss()
    try:
      self._index = faiss.read_index(os.fspath(path))
    except RuntimeError as error:
      raise ValueError(f"{path} is damaged: {_last_line(error)}") from None

  def __call__(self, queries: np.ndarray, k: int) -> nearest.Neighbours:
    """The nearest of each query that the index finds; row -1 for none."""
    if queries.shape[1] != self._index.d or not 1 <= k <= self._index.ntotal:
      raise ValueError(
        f"queries of {queries.shape[1]} numbers, k={k}: the index has"
        f" {self._index.ntotal:,} vectors of {self._index.d}"
      )
    _look_at(self._index, max(_CANDIDATES, 2 * k))
    scores, rows = self._index.search(np.ascontiguousarray(queries), k)
    scores = np.where(rows < 0, -np.inf, scores).astype(np.float32)
    return nearest.Neighbours(scores, rows.astype(np.int32))


def build(path: pathlib.Path, vectors: np.ndarray, kind: str) -> None:
  """Writes an index of vectors [rows, dim] of length 1.

  Args:
    path: the file.
    vectors: float32; read block by block.
    kind: what faiss's index factory takes, such as "HNSW32".

  Raises:
    ImportError: if faiss is missing.
    ValueError: if it knows no such index, or has too few vectors for it.
  """
  faiss = _faiss()
  try:
    metric = faiss.METRIC_INNER_PRODUCT
    index = faiss.index_factory(vectors.shape[1], kind, metric)
    if not index.is_trained:
      chosen = np.random.default_rng(0).permutation(len(vectors))[:_TRAINING]
      index.train(np.ascontiguousarray(vectors[np.sort(chosen)]))
    for start in range(0, len(vectors), _ROWS):
      index.add(np.ascontiguousarray(vectors[start : start + _ROWS]))
    faiss.write_index(index, os.fspath(path))
  except RuntimeError as error:
    raise ValueError(
      f"faiss cannot make the index {kind!r}: {_last_line(error)}"
    ) from None


def _look_at(index: Any, candidates: int) -> None:
  """Sets how much of the index a search looks at."""
  if hasattr(index, "hnsw"):
    index.hnsw.efSearch = candidates
  elif hasattr(index, "nprobe"):
    index.nprobe = max(1, index.nlist // 16)


def _last_line(error: Exception) -> str:
  return str(error).strip().splitlines()[-1]


def _faiss() -> Any:
  with extras.needed(), warnings.catch_warnings():
    # Of the wrapper that it was made with.
    warnings.simplefilter("ignore", DeprecationWarning)
    import faiss
  return faiss
