"""Known faces, and who among them a new one is.

A gallery is a folder, see `gallery_files`. A face keeps its row for good: those
that `gallery_changes` removes are not found any more, and keep their rows.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from facejax.runtime import unit_vectors, whole_files
from facejax.vectors import (
  approximate,
  gallery_files,
  nearest,
  storage,
  verdicts,
)
from facejax.vectors import embeddings as embeddings_lib

_ROWS = 2**16
# What two sets of embeddings must share to be compared.
_SAME = ("card", "step", "flip")


class Answers(NamedTuple):
  """Who each query is, or without a threshold who comes nearest.

  Attributes:
    rows: int [queries], the gallery's row that is most like the query among
      those of the person who was voted for; -1 for nobody known.
    scores: float32 [queries], how like it is: a cosine; for nobody known, that
      of the nearest row.
    votes: int [queries], how many of the nearest rows voted for them.
  """

  rows: np.ndarray
  scores: np.ndarray
  votes: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Gallery:
  """Known faces; see `open_gallery`.

  Attributes:
    known: embeddings, paths, labels and names of the faces, removed ones too,
      whose label is -1.
    exact: compares a query with all of them.
    removed: the rows that were removed, ascending.
    index: an approximate index, if the gallery has one.
  """

  known: embeddings_lib.Embeddings
  exact: nearest.Nearest | storage.Reranked
  removed: np.ndarray
  index: approximate.Index | None = None

  @property
  def faces(self) -> int:
    """How many there are, without those that were removed."""
    return len(self.known) - len(self.removed)

  @property
  def nameless(self) -> int:
    """How many of them have no name."""
    return int((self.known.labels < 0).sum()) - len(self.removed)

  @property
  def people(self) -> int:
    """How many people with a name they show."""
    return len(np.unique(self.known.labels[self.known.labels >= 0]))

  def search(
    self, queries: np.ndarray, k: int, *, exact: bool = True
  ) -> nearest.Neighbours:
    """The `k` faces most like each query [n, dim], best first.

    Args:
      queries: embeddings, of any length but 0.
      k: how many; at most as many as there are faces.
      exact: compare with all of them. Otherwise the index is asked, which may
        miss some; a row of -1 stands for none found.

    Raises:
      ValueError: if `k` or the shape of the queries is out of range, or there
        is no index.
    """
    unit = unit_vectors.unit(np.atleast_2d(queries))
    if exact:
      return self.exact(unit, k)
    if self.index is None:
      raise ValueError("the gallery was built without an approximate index")
    return self.index(unit, k)

  def answers(
    self, found: nearest.Neighbours, *, threshold: float | None = None
  ) -> Answers:
    """Lets the faces that were found vote on who each query is.

    The person with most faces among them wins; of equals the one with the
    highest sum of cosines, then the nearest. A face without a name speaks for
    itself alone.

    Args:
      found: of `search`; with k = 1 the nearest face decides.
      threshold: cosine from which on a face may vote. All may without it, and
        whoever wins is only the most alike: nothing is decided, see `verdicts`.
    """
    return vote(found, self.known.labels, threshold=threshold)

  def name(self, row: int) -> str | None:
    """Who a row shows; None for -1."""
    return None if row < 0 else self.known.name(row)


def build(
  folder: str | os.PathLike[str],
  sets: Sequence[embeddings_lib.Embeddings],
  *,
  index: str = "",
  stored: str = "float32",
) -> Gallery:
  """Writes a gallery, whole or not at all, and opens it.

  Args:
    folder: where to; must not exist.
    sets: the faces. Equal names are the same person.
    index: an approximate index besides, as faiss calls it: "HNSW32",
      "IVF1024,Flat" …; empty for none.
    stored: what is searched, one of `storage.KINDS`. Beside bfloat16 and int8
      the folder has the vectors in float32, of which a search reads few.

  Raises:
    ValueError: if the folder exists, the sets come from different nets, an
      embedding is zero, there is no such storage or faiss knows no such index.
    ImportError: if faiss is missing.
  """
  folder = pathlib.Path(folder)
  check_free(folder)
  for other in sets[1:]:
    check_same_net(sets[0].about, other.about)
  with whole_files.replacing(folder) as draft:
    draft.mkdir()
    gallery_files.write(draft, sets, stored)
    if index:
      vectors = np.load(draft / gallery_files.VECTORS, mmap_mode="r")
      approximate.build(draft / gallery_files.INDEX, vectors, index)
  return open_gallery(folder)


def check_free(folder: str | os.PathLike[str]) -> None:
  """Refuses a place for a gallery where something is already.

  Raises:
    ValueError: if there is.
  """
  if os.path.lexists(folder):
    raise ValueError(f"{os.fspath(folder)} exists: name another")


def is_gallery(folder: str | os.PathLike[str]) -> bool:
  """Whether a folder is laid out as `build` does it."""
  return all(
    os.path.exists(os.path.join(folder, name))
    for name in (gallery_files.ABOUT, gallery_files.VECTORS)
  )


def open_gallery(
  folder: str | os.PathLike[str], *, mesh: jax.sharding.Mesh | None = None
) -> Gallery:
  """Opens a gallery that `build` wrote; reads little of it yet.

  Raises:
    FileNotFoundError: if it is none.
    ValueError: if it is damaged.
  """
  folder = pathlib.Path(folder)
  found = gallery_files.read(folder)
  if found.codes is None:
    exact = nearest.Nearest(
      found.known.vectors, removed=found.removed, mesh=mesh
    )
  else:
    exact = storage.Reranked(
      found.codes,
      found.scales,
      found.known.vectors,
      removed=found.removed,
      mesh=mesh,
    )
  index = folder / gallery_files.INDEX
  return Gallery(
    found.known,
    exact,
    found.removed,
    approximate.Index(index) if index.exists() else None,
  )


def check_same_net(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
  """Refuses embeddings of different nets, where both are known.

  Raises:
    ValueError: naming what differs.
  """
  differing = [
    name
    for name in _SAME
    if name in one and name in other and one[name] != other[name]
  ]
  if differing:
    raise ValueError(
      f"embeddings of different nets cannot be compared: {', '.join(differing)}"
      f" of {one.get('run')} and {other.get('run')} differ"
    )


def vote(
  found: nearest.Neighbours,
  labels: np.ndarray,
  *,
  threshold: float | None = None,
) -> Answers:
  """See `Gallery.answers`; `labels` are those of the gallery, -1 for nobody.

  >>> found = nearest.Neighbours(np.array([[0.9, 0.8, 0.7]]), np.array([[2, 0, 1]]))
  >>> vote(found, np.array([5, 5, 6])).rows.tolist()
  [0]
  """
  parts = [
    _vote(
      nearest.Neighbours(*(part[i : i + _ROWS] for part in found)),
      labels,
      threshold,
    )
    for i in range(0, max(1, len(found.rows)), _ROWS)
  ]
  return Answers(*map(np.concatenate, zip(*parts, strict=True)))


def _vote(
  found: nearest.Neighbours, labels, threshold: float | None
) -> Answers:
  scores, rows = found.scores, found.rows.astype(np.int64)
  counts = rows >= 0
  same = verdicts.same_person(scores, threshold)
  if same is not None:
    counts &= same
  # Faces without a name are people of their own.
  who = np.where(labels[rows] >= 0, labels[rows], -2 - rows)
  votes = np.zeros(rows.shape, int)
  sums = np.zeros(rows.shape)
  for j in range(rows.shape[1]):
    agree = counts & counts[:, j : j + 1] & (who == who[:, j : j + 1])
    votes += agree
    sums += np.where(agree, scores[:, j : j + 1], 0)
  most = votes.max(axis=1, keepdims=True)
  leading = np.where((votes == most) & counts, sums, -np.inf)
  best = leading.argmax(axis=1)[:, None]
  known = counts.any(axis=1)
  take = [np.take_along_axis(a, best, 1)[:, 0] for a in (rows, scores, votes)]
  return Answers(
    np.where(known, take[0], -1),
    np.where(known, take[1], scores[:, 0]).astype(np.float32),
    np.where(known, take[2], 0),
  )
