"""Exact nearest neighbours by inner product, block by block over the devices.

Each device multiplies all queries with a block of its vectors and keeps, for
each query, the best seen so far: neither all scores nor all vectors need ever
be in the memory of the devices; see `best_rows`. Equal scores come in order of
their rows, as if all of them had been sorted.
"""

import collections
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np

from facejax.runtime import mesh as mesh_lib
from facejax.vectors import best_rows, top_k

# Scores that a device holds at a time, in bytes: what caches like, and what
# keeps an accelerator busy.
_SCORES = {"cpu": 32 * 2**20}
_SCORES_ELSEWHERE = 256 * 2**20
# Vectors that a device multiplies at once, at most, by the bytes of a number:
# steps that take long enough for what surrounds them to be little.
_ROWS = {4: 2**16, 2: 2**17, 1: 2**20}
# Queries multiplied at once; more of them share what is read of a block.
_QUERIES = 1024
_CHUNK = 64 * _QUERIES
# Of a device's memory that resident vectors may take.
_SHARE = 0.6
_MOST = 2**31 - 2
_TYPES = (np.float32, ml_dtypes.bfloat16, np.int8)


class Neighbours(NamedTuple):
  """The vectors nearest to each query, best first.

  Attributes:
    scores: float32 [queries, k], inner products.
    rows: int32 [queries, k], which vectors; of equal scores the lowest row
      comes first.
  """

  scores: np.ndarray
  rows: np.ndarray


class Nearest:
  """Finds the vectors with the highest inner product, all of them compared.

  Args:
    vectors: float32, bfloat16 or int8 [rows, dim]; an array mapped from a file
      is read as needed. Those of int8 are asked for with int8.
    scales: float32 [rows], which the products of each row are multiplied with;
      1 if not given.
    removed: rows that are not to be found, in any order.
    mesh: the devices; all of them if not given.
    block_rows: vectors a device multiplies at once; chosen by the number of
      queries and the kind of device if not given.
    resident: keep the vectors on the devices between calls; if not given, on
      accelerators when they fit. The CPU reads the host's own memory, without
      a copy where vectors lie at a multiple of 64 bytes.

  Raises:
    ValueError: if `vectors` is empty or no matrix.

  >>> search = Nearest(np.eye(3, dtype=np.float32))
  >>> search(np.float32([[0.1, 0.9, 0.2]]), 2).rows.tolist()
  [[1, 2]]
  """

  def __init__(
    self,
    vectors: np.ndarray,
    *,
    scales: np.ndarray | None = None,
    removed: np.ndarray | None = None,
    mesh: jax.sharding.Mesh | None = None,
    block_rows: int | None = None,
    resident: bool | None = None,
  ):
    if vectors.ndim != 2 or not vectors.size or vectors.dtype not in _TYPES:
      raise ValueError(
        f"vectors are {vectors.dtype} {list(vectors.shape)}; they must be"
        " float32, bfloat16 or int8 [rows, dim], at least one"
      )
    if len(vectors) > _MOST:
      raise ValueError(f"{len(vectors):,} vectors are more than 2^31 - 2")
    self._vectors = vectors
    self._scales = scales
    gone = () if removed is None else removed
    self._removed = np.unique(np.asarray(gone, np.int64))
    self._mesh = mesh or mesh_lib.make_mesh()
    device: Any = self._mesh.devices.flat[0]
    self._held = _SCORES.get(device.platform, _SCORES_ELSEWHERE)
    self._fixed_rows = block_rows
    self._resident = _fits(vectors, device) if resident is None else resident
    self._placed: list[best_rows.VectorBlock] | None = None

  def block_rows(self, queries: int) -> int:
    """How many vectors a device multiplies at once with so many queries."""
    if self._resident:
      queries = _QUERIES
    fitting = self._held // (4 * min(queries, _QUERIES))
    most = _ROWS[self._vectors.dtype.itemsize]
    wanted = self._fixed_rows or min(fitting, most)
    # Whole groups, of whatever size.
    return _round_up(wanted, top_k.LARGEST_GROUP)

  def __call__(self, queries: np.ndarray, k: int) -> Neighbours:
    """The `k` nearest of each query.

    Args:
      queries: [queries, dim], any float type; int8 where the vectors are.
      k: how many, at most as many as there are vectors, removed ones aside.

    Raises:
      ValueError: if shapes do not match, `k` is out of range or a query is not
        finite.
    """
    whole = self._vectors.dtype == np.int8
    if whole and queries.dtype != np.int8:
      raise ValueError(f"queries are {queries.dtype}, but the vectors int8")
    queries = np.asarray(queries, np.int8 if whole else np.float32)
    rows, dim = self._vectors.shape
    rows -= len(self._removed)
    if queries.ndim != 2 or queries.shape[1] != dim:
      raise ValueError(f"queries are {list(queries.shape)}, not [n, {dim}]")
    if not 1 <= k <= rows:
      raise ValueError(f"k={k}: choose 1 to {rows:,}, the number of vectors")
    if not np.isfinite(queries).all():
      raise ValueError("a query is not finite")
    chunks = [queries[i : i + _CHUNK] for i in range(0, len(queries), _CHUNK)]
    found = [self._search(chunk, k) for chunk in chunks]
    if not found:
      empty = np.empty((0, k))
      return Neighbours(empty.astype(np.float32), empty.astype(np.int32))
    return Neighbours(*map(np.concatenate, zip(*found, strict=True)))

  def _search(self, queries: np.ndarray, k: int) -> Neighbours:
    """One pass over all vectors."""
    everywhere = mesh_lib.sharding(self._mesh, mesh_lib.REPLICATED)
    tiles = [jax.device_put(tile, everywhere) for tile in _tiles(queries)]
    best = [best_rows.nothing(self._mesh, len(tile), k) for tile in tiles]
    step = best_rows.compiled(self._mesh.devices.flat[0].platform)
    earlier = collections.deque()
    for start, block in self._blocks(self.block_rows(len(queries))):
      for i, tile in enumerate(tiles):
        best[i] = step(best[i], tile, block, np.int32(start), mesh=self._mesh)
      # Blocks are not sent ahead of the computation by more than one.
      earlier.append(best[-1].scores)
      if len(earlier) > 1:
        earlier.popleft().block_until_ready()
    found = [best_rows.merged(jax.device_get(part), k) for part in best]
    merged = Neighbours(*map(np.concatenate, zip(*found, strict=True)))
    return Neighbours(*(part[: len(queries)] for part in merged))

  def _blocks(self, size: int) -> Iterator[tuple[int, best_rows.VectorBlock]]:
    """Yields the first row and the vectors of each block of all devices."""
    starts = self._starts(size)
    if self._placed is not None:
      yield from zip(starts, self._placed, strict=True)
      return
    split = mesh_lib.sharding(self._mesh, mesh_lib.BATCH)
    kept = []
    for start, stop in itertools.pairwise([*starts, len(self._vectors)]):
      block = jax.device_put(self._block(start, stop), split)
      if self._resident:
        kept.append(block)
      yield start, block
    if self._resident:
      self._placed = kept

  def _block(self, start: int, stop: int) -> best_rows.VectorBlock:
    """Some rows, filled up to whole groups of each device."""
    rows = np.ascontiguousarray(self._vectors[start:stop])
    scales = None if self._scales is None else self._scales[start:stop]
    missing = -len(rows) % (top_k.LARGEST_GROUP * self._mesh.size)
    first, last = np.searchsorted(self._removed, (start, stop))
    bars = None
    if missing or first < last:
      bars = np.zeros(len(rows) + missing, np.float32)
      bars[self._removed[first:last] - start] = -np.inf
      bars[len(rows) :] = -np.inf
    if missing:
      rows = np.pad(rows, ((0, missing), (0, 0)))
      scales = None if scales is None else np.pad(scales, (0, missing))
    return best_rows.VectorBlock(rows, scales, bars)

  def _starts(self, size: int) -> list[int]:
    """Where blocks begin: whole ones, what is left of whole groups, the rest.

    Only that rest is filled up, which takes a copy.
    """
    rows, least = len(self._vectors), top_k.LARGEST_GROUP * self._mesh.size
    starts = [*range(0, rows, size * self._mesh.size)]
    rest = rows - rows % least
    if starts[-1] < rest < rows:
      starts.append(rest)
    return starts


def _round_up(count: int, step: int) -> int:
  return -(-count // step) * step


def _fits(vectors: np.ndarray, device: Any) -> bool:
  """Whether the vectors can stay on accelerators like this one."""
  if device.platform == "cpu":
    return False
  limit = (device.memory_stats() or {}).get("bytes_limit", 0)
  return vectors.nbytes < _SHARE * limit * jax.device_count()


def _tiles(queries: np.ndarray) -> Iterator[np.ndarray]:
  """Cuts queries into pieces of few sizes, filled up with zeros."""
  size = min(_QUERIES, 1 << (len(queries) - 1).bit_length())
  for begin in range(0, len(queries), size):
    tile = queries[begin : begin + size]
    yield np.pad(tile, ((0, size - len(tile)), (0, 0)))
