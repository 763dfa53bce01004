"""Vectors in fewer bytes, and a search of them that answers as float32 does.

int8: each vector is divided by its scale, its largest entry over 127, and
rounded. bfloat16: each number is rounded. All of these are compared, which reads
a fourth or a half of the bytes; the best candidates are then compared once more
with the vectors as they are, float32, of which only those rows are read from the
disk. Scores are those of float32 and exact; a face can be missed only if so many
others seem better by the error of rounding that it is no candidate.
"""

from typing import Any

import jax
import ml_dtypes
import numpy as np

from facejax.vectors import nearest

KINDS = ("float32", "bfloat16", "int8")
# Candidates of k faces: _TIMES k, and at least _MORE more than k.
_TIMES, _MORE = 4, 32
# Bytes of candidates that are compared again at once.
_AGAIN = 2**26


def encode(
  vectors: np.ndarray, kind: str
) -> tuple[np.ndarray, np.ndarray | None]:
  """Vectors as they are stored, and their scales.

  Args:
    vectors: float32 [rows, dim], finite.
    kind: one of `KINDS`.

  Returns:
    float32, bfloat16 or int8 [rows, dim]; float32 [rows] for int8, else None.

  >>> codes, scales = encode(np.float32([[0.6, -0.8]]), "int8")
  >>> codes.tolist(), round(float(scales[0] * 127), 3)
  ([[95, -127]], 0.8)
  """
  if kind != "int8":
    bfloat16 = kind == "bfloat16"
    return vectors.astype(ml_dtypes.bfloat16 if bfloat16 else np.float32), None
  scales = np.abs(vectors).max(axis=1) / np.float32(127)
  scales = np.maximum(scales, np.finfo(np.float32).tiny)
  return np.rint(vectors / scales[:, None]).astype(np.int8), scales


def decode(codes: np.ndarray, scales: np.ndarray | None) -> np.ndarray:
  """float32 [rows, dim], what `encode` left of the vectors."""
  plain = codes.astype(np.float32)
  return plain if scales is None else plain * scales[:, None]


class Reranked:
  """A search of stored vectors, called like `nearest.Nearest`.

  Args:
    codes: of `encode`, bfloat16 or int8 [rows, dim].
    scales: of `encode`.
    vectors: float32 [rows, dim], which are read row by row.
    removed: rows that are not to be found.
    options: of `nearest.Nearest`.
  """

  def __init__(
    self,
    codes: np.ndarray,
    scales: np.ndarray | None,
    vectors: np.ndarray,
    *,
    removed: np.ndarray | None = None,
    mesh: jax.sharding.Mesh | None = None,
    **options: Any,
  ):
    self._coarse = nearest.Nearest(
      codes, scales=scales, removed=removed, mesh=mesh, **options
    )
    self._whole = codes.dtype == np.int8
    self._vectors = vectors
    gone = () if removed is None else removed
    self._most = len(vectors) - len(np.unique(gone))

  def __call__(self, queries: np.ndarray, k: int) -> nearest.Neighbours:
    """The `k` nearest of each query [queries, dim]; see `nearest.Nearest`."""
    queries = np.asarray(queries, np.float32)
    if not np.isfinite(queries).all():
      raise ValueError("a query is not finite")
    asked = encode(queries, "int8")[0] if self._whole else queries
    candidates = max(k, min(max(_TIMES * k, k + _MORE), self._most))
    rows = self._coarse(asked, candidates).rows
    size = max(1, _AGAIN // (8 * candidates * self._vectors.shape[1]))
    found = [
      self._again(queries[i : i + size], rows[i : i + size], k)
      for i in range(0, max(1, len(rows)), size)
    ]
    return nearest.Neighbours(*map(np.concatenate, zip(*found, strict=True)))

  def _again(self, queries, rows, k: int) -> nearest.Neighbours:
    """The best k of the candidates, by their vectors as they are."""
    rows = np.sort(rows, axis=1)
    vectors = self._vectors[rows].astype(np.float64)
    scores = (vectors @ queries.astype(np.float64)[:, :, None])[:, :, 0]
    scores = scores.astype(np.float32)
    # Rows ascend: of equal scores the lowest comes first.
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return nearest.Neighbours(
      np.take_along_axis(scores, order, axis=1),
      np.take_along_axis(rows, order, axis=1),
    )
