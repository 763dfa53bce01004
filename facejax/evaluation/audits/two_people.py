"""Two people under one name, and images that are like nobody of their name.

The images of each name are cut into the two clusters that Ward's method merges
last. How far apart these lie, by the mean cosine of their images, is compared with
what two names give that are put together on purpose. All that with the embeddings
themselves: a space that is fitted takes two people under one name for one who
varies much.
"""

from typing import NamedTuple

import numpy as np

from facejax.evaluation.audits import embedded_set, wrong_labels
from facejax.metrics import fault_thresholds
from facejax.vectors import clustering

# Images of a name that are clustered; of more, so many at equal distances. Names
# with many would otherwise look surer than joined ones with few.
_MOST = 40
# Fewer are no two clusters of two.
FEWEST = 4
_JOINED = 1000


class Cut(NamedTuple):
  """The images of a name in two clusters.

  Attributes:
    person: int.
    score: less the mean cosine of images of both.
    others: the images of the smaller cluster, int [images].
  """

  person: int
  score: float
  others: np.ndarray


def cuts(
  images: embedded_set.EmbeddedSet, suspects: np.ndarray, *, seed: int
) -> tuple[list[Cut], np.ndarray]:
  """Cuts all names that have images enough, and some joined ones.

  Args:
    images: the set.
    suspects: images that are left aside, bool [images].
    seed: of which names are joined.

  Returns:
    The cuts, and the scores of joined names.
  """
  use = np.flatnonzero(~suspects)
  order = use[np.argsort(images.labels[use], kind="stable")]
  people, starts = np.unique(images.labels[order], return_index=True)
  parts = np.split(order, starts[1:])
  found = []
  for person, rows in zip(people.tolist(), parts, strict=True):
    done = _cut(images, rows) if len(rows) >= FEWEST else None
    if done is not None:
      found.append(Cut(person, *done))
  made = [_cut(images, rows) for rows in _joined(parts, seed)]
  return found, np.asarray([one[0] for one in made if one is not None])


def _cut(
  images: embedded_set.EmbeddedSet, rows: np.ndarray
) -> tuple[float, np.ndarray] | None:
  """Score and smaller cluster of some images; None where that is one image."""
  rows = rows[:: -(-len(rows) // _MOST)]
  vectors = np.asarray(images.vectors[rows], np.float64)
  which = clustering.halves(vectors)
  if np.bincount(which, minlength=2).min() < 2:
    return None
  one, other = (vectors[which == side].mean(axis=0) for side in (0, 1))
  return -float(one @ other), rows[which == 1]


def _joined(parts: list[np.ndarray], seed: int) -> list[np.ndarray]:
  """Images of two names each, at random."""
  able = [part for part in parts if len(part) >= 2]
  if len(able) < 2:
    return []
  order = np.random.default_rng(seed).permutation(len(able))[: 2 * _JOINED]
  return [
    np.concatenate([able[i], able[j]])
    for i, j in zip(order[::2], order[1::2], strict=False)
  ]


def outliers(
  found: wrong_labels.Margins,
  suspects: np.ndarray,
  *,
  precision: float,
  given: float | None = None,
) -> fault_thresholds.FaultThreshold:
  """From which score, less the cosine to the own, an image is nobody's.

  Args:
    found: of all images.
    suspects: who is found out already, bool [images].
    precision: that is asked for.
    given: a score to take instead.
  """
  use = ~suspects & np.isfinite(found.own)
  made = found.stranger[use & np.isfinite(found.stranger)]
  return fault_thresholds.choose(
    -found.own[use], -made, precision=precision, given=given
  )
