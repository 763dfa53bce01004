"""Retrieval: are an image's nearest neighbours those of the same person?

Every image searches all others. With R the number of other images of its
person, and P(i) the share of the nearest i that show it,

    precision at 1  = P(1)
    R-precision     = P(R)
    MAP@R           = 1/R * (sum over i <= R of P(i), where neighbour i shows it)

and each figure is the mean over the images that have R >= 1. MAP@R looks at the
order as well, and no classifier or clustering stands between it and the
embeddings.

References:
  Musgrave, Belongie, Lim, *A Metric Learning Reality Check*, 2020, Sec. 3.2.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from facejax.metrics import checks

_CELLS = 1 << 24  # scores that are held at once


@dataclasses.dataclass(frozen=True, eq=False)
class Retrieval:
  """What each query found; images of people who have no other are left out.

  Attributes:
    queries: places of these images, int [queries].
    first: whether the nearest other image shows the same person, [queries].
    r_precision: [queries].
    map_at_r: average precision at R, [queries].
  """

  queries: np.ndarray
  first: np.ndarray
  r_precision: np.ndarray
  map_at_r: np.ndarray


def search(vectors: npt.ArrayLike, labels: npt.ArrayLike) -> Retrieval:
  """Each image against all others, by cosine.

  Holds sixteen million scores at once, whatever the sizes. A tie counts against
  the person, and so do scores that rounding alone may tell apart.

  Args:
    vectors: embeddings of any length, [images, dim].
    labels: the person of each, ints or strings, [images].

  Raises:
    ValueError: if shapes do not fit, an embedding is zero or not finite, or
      nobody has two images.

  >>> found = search([[1, 0], [1, 0.1], [0, 1], [1, 2]], [7, 8, 8, 7])
  >>> found.first.tolist(), found.map_at_r.tolist()
  ([False, False, False, False], [0.0, 0.0, 0.0, 0.0])
  >>> search([[1, 0], [1, 0.1], [1, 0.3], [0, 1]], [7, 7, 8, 7]).map_at_r[:1]
  array([0.5])
  """
  units = checks.units(vectors, "vectors")
  labels = checks.labels(labels, len(units), "labels")
  _, person, sizes = np.unique(labels, return_inverse=True, return_counts=True)
  queries = np.flatnonzero(sizes[person] > 1)
  if not queries.size:
    raise ValueError("nobody has two images: there is nothing to be found")
  rows = max(1, _CELLS // len(units))
  found = [
    _search(units, person, sizes, queries[start : start + rows])
    for start in range(0, len(queries), rows)
  ]
  return Retrieval(
    queries, *(np.concatenate(parts) for parts in zip(*found, strict=True))
  )


def _search(
  units: np.ndarray, person: np.ndarray, sizes: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(first, r_precision, map_at_r) of some queries."""
  scores = units[rows] @ units.T
  mine = person[rows][:, None] == person
  # So that a tie is lost.
  scores -= np.where(mine, checks.rounding(scores), 0)
  scores[np.arange(len(rows)), rows] = -np.inf
  wanted = sizes[person[rows]] - 1
  most = int(wanted.max())
  # The nearest `most`, first in any order, then in theirs.
  near = np.argpartition(-scores, most - 1, axis=1)[:, :most]
  order = np.argsort(-np.take_along_axis(scores, near, axis=1), axis=1)
  near = np.take_along_axis(near, order, axis=1)
  hits = np.take_along_axis(mine, near, axis=1)
  places = np.arange(1, most + 1)
  hits &= places <= wanted[:, None]
  precision = np.cumsum(hits, axis=1) / places
  return (
    hits[:, 0],
    hits.sum(axis=1) / wanted,
    (precision * hits).sum(axis=1) / wanted,
  )
