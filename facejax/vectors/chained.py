"""Several arrays, mapped from files, read as one without joining them."""

import bisect
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np


class Chained:
  """The rows of several arrays of the same kind, one after the other.

  Rows within one of the arrays are a view of it; across several, a copy.

  >>> rows = Chained([np.arange(3), np.arange(3, 5)])
  >>> rows[1:3].tolist(), rows[2:5].tolist(), int(rows[-1]), len(rows)
  ([1, 2], [2, 3, 4], 4, 5)
  >>> rows[np.array([[4, 0], [3, 3]])].tolist()
  [[4, 0], [3, 3]]
  """

  def __init__(self, parts: Sequence[np.ndarray]):
    self._parts = parts
    self._starts = [0, *itertools.accumulate(map(len, parts))]
    self.shape = (self._starts[-1], *parts[0].shape[1:])
    self.dtype = np.result_type(*(part.dtype for part in parts))
    self.ndim = len(self.shape)
    self.size = int(np.prod(self.shape))
    self.nbytes = self.size * self.dtype.itemsize

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, rows: Any) -> Any:
    """A row; rows by a slice without a step; rows by an array of numbers."""
    if isinstance(rows, slice):
      return self._slice(*rows.indices(len(self)))
    if np.ndim(rows):
      return self._rows(np.asarray(rows))
    row = range(len(self))[rows]
    part = bisect.bisect_right(self._starts, row) - 1
    return self._parts[part][row - self._starts[part]]

  def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
    return np.asarray(self[:], dtype)

  def _slice(self, start: int, stop: int, step: int) -> np.ndarray:
    if step != 1:
      raise ValueError(f"step {step}: rows are read one after the other")
    found = [
      part[max(0, start - first) : stop - first]
      for first, part in zip(self._starts, self._parts, strict=False)
      if first < stop and start < first + len(part)
    ]
    if len(found) == 1:
      return found[0]
    return np.concatenate(found) if found else self._parts[0][:0]

  def _rows(self, rows: np.ndarray) -> np.ndarray:
    if rows.size and not -len(self) <= rows.min() <= rows.max() < len(self):
      raise IndexError(f"a row is not among {len(self):,}")
    rows = np.where(rows < 0, rows + len(self), rows)
    taken = np.empty((*rows.shape, *self.shape[1:]), self.dtype)
    for first, part in zip(self._starts, self._parts, strict=False):
      here = (rows >= first) & (rows < first + len(part))
      taken[here] = part[rows[here] - first]
    return taken


def chain(parts: Sequence[np.ndarray]) -> Any:
  """Arrays as one; a single one as it is."""
  return parts[0] if len(parts) == 1 else Chained(parts)
