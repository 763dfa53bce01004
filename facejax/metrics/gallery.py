"""Search of a gallery: every probe against every entry, in blocks.

A probe's score for a person is its best score with that person's entries.
Probes whose person is in the gallery are mated. Of the mated probes

    rank = 1 + |{other people: score >= score of the mate}|

so a tie counts against the mate, and so do scores that rounding alone may tell
apart: products of equal vectors differ in the last places. `facejax.metrics.identification` turns what is
found into figures of merit.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from facejax.metrics import checks

_CELLS = 1 << 24  # scores that are held at once


@dataclasses.dataclass(frozen=True, eq=False)
class Search:
  """What each probe found in a gallery; `+` joins shards of the probes.

  Attributes:
    ranks: of the mate, from 1; 0 where the probe is not mated; int64 [probes].
    mates: score of the mate; nan where the probe is not mated; [probes].
    best: the best score of anybody, [probes].
  """

  ranks: np.ndarray
  mates: np.ndarray
  best: np.ndarray

  @property
  def mated(self) -> np.ndarray:
    """Whether the person of a probe is in the gallery, bool [probes]."""
    return self.ranks > 0

  def __add__(self, other: "Search") -> "Search":
    return Search(
      ranks=np.r_[self.ranks, other.ranks],
      mates=np.r_[self.mates, other.mates],
      best=np.r_[self.best, other.best],
    )


def search(
  probes: npt.ArrayLike,
  probe_ids: npt.ArrayLike,
  gallery: npt.ArrayLike,
  gallery_ids: npt.ArrayLike,
) -> Search:
  """Compares every probe with every gallery entry by cosine.

  Holds sixteen million scores at once, whatever the sizes.

  Args:
    probes: embeddings of any length, [probes, dim].
    probe_ids: the person of each, ints or strings, [probes].
    gallery: embeddings, [entries, dim].
    gallery_ids: the person of each, [entries].

  Raises:
    ValueError: if shapes do not fit, or an embedding is zero or not finite.

  >>> found = search([[1, 0], [1, 1], [0, -1]], [7, 8, 9], [[2, 1], [0, 3]],
  ...                [7, 8])
  >>> found.ranks.tolist(), found.best.round(2).tolist()
  ([1, 2, 0], [0.89, 0.95, -0.45])
  """
  probes = checks.units(probes, "probes")
  gallery = checks.units(gallery, "gallery")
  if probes.shape[1] != gallery.shape[1]:
    raise ValueError(
      f"probes have {probes.shape[1]} dimensions, the gallery {gallery.shape[1]}"
    )
  probe_ids = checks.labels(probe_ids, len(probes), "probe_ids")
  people, order, starts = _people(gallery_ids, len(gallery))
  gallery = gallery[order]
  rows = max(1, _CELLS // len(gallery))
  found = []
  for start in range(0, len(probes), rows):
    block = slice(start, start + rows)
    scores = probes[block] @ gallery.T
    found.append(_search(scores, probe_ids[block], people, starts))
  return Search(
    *(
      np.concatenate([getattr(part, field.name) for part in found])
      for field in dataclasses.fields(Search)
    )
  )


def search_scores(
  scores: npt.ArrayLike, probe_ids: npt.ArrayLike, gallery_ids: npt.ArrayLike
) -> Search:
  """`search` of scores that are there already.

  Args:
    scores: similarities, [probes, entries].
    probe_ids: the person of each probe, [probes].
    gallery_ids: the person of each entry, [entries].

  >>> search_scores([[0.8, 0.3, 0.9]], [4], [4, 5, 5]).ranks.tolist()
  [2]
  """
  scores = checks.vectors(scores, "scores")
  probe_ids = checks.labels(probe_ids, scores.shape[0], "probe_ids")
  people, order, starts = _people(gallery_ids, scores.shape[1])
  return _search(scores[:, order], probe_ids, people, starts)


def _people(
  gallery_ids: npt.ArrayLike, entries: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Distinct people, the order that groups entries by them, where each begins."""
  ids = checks.labels(gallery_ids, entries, "gallery_ids")
  people, person = np.unique(ids, return_inverse=True)
  starts = np.r_[0, np.cumsum(np.bincount(person))[:-1]]
  return people, np.argsort(person, kind="stable"), starts


def _search(
  scores: np.ndarray,
  probe_ids: np.ndarray,
  people: np.ndarray,
  starts: np.ndarray,
) -> Search:
  if len(people) < scores.shape[1]:
    scores = np.maximum.reduceat(scores, starts, axis=1)
  mate = np.searchsorted(people, probe_ids).clip(max=len(people) - 1)
  mated = people[mate] == probe_ids
  own = scores[np.arange(len(scores)), mate]
  # The mate, too, and who differs from it by rounding.
  least = (own - checks.rounding(own))[:, None]
  reached = np.count_nonzero(scores >= least, axis=1)
  return Search(
    ranks=np.where(mated, reached, 0),
    mates=np.where(mated, own, np.nan),
    best=scores.max(axis=1),
  )
