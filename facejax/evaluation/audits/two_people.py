"""Two people under one name, and images that are like nobody of their name.

The images of each name are cut into the two clusters that Ward's method merges
last. How unlikely these are one person's is compared with what two names, put
together on purpose, give.
"""

from typing import NamedTuple

import numpy as np

from facejax.evaluation.audits import embedded_set, same_person, wrong_labels
from facejax.metrics import fault_thresholds, two_covariance
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
    score: how much likelier they are two people's, a logarithm.
    others: the images of the smaller cluster, int [images].
  """

  person: int
  score: float
  others: np.ndarray


def cuts(
  images: embedded_set.EmbeddedSet,
  known: same_person.People,
  suspects: np.ndarray,
  *,
  seed: int,
) -> tuple[list[Cut], np.ndarray]:
  """Cuts all names that have images enough, and some joined ones.

  Args:
    images: the set.
    known: centres of its people.
    suspects: images that are left aside, bool [images].
    seed: of which names are joined.

  Returns:
    The cuts, and the scores of joined names.
  """
  use = np.flatnonzero(~suspects)
  order = use[np.argsort(images.labels[use], kind="stable")]
  labels = images.labels[order]
  people, starts = np.unique(labels, return_index=True)
  parts = np.split(order, starts[1:])

  def cut(rows: np.ndarray) -> tuple[float, np.ndarray] | None:
    rows = rows[:: -(-len(rows) // _MOST)]
    which = clustering.halves(known.space.unit(images.vectors[rows]))
    if min(np.bincount(which, minlength=2)) < 2:
      return None
    means, counts = [], []
    for side in (0, 1):
      part = known.space.unit(images.vectors[rows[which == side]])
      counts.append(np.asarray([float(len(part))]))
      means.append(known.placed(part.sum(axis=0)[None], counts[-1]))
    ratio = two_covariance.log_likelihood_ratio(
      known.model, (means[0], counts[0]), (means[1], counts[1])
    )
    return -float(ratio[0]), rows[which == 1]

  found = []
  for person, rows in zip(people.tolist(), parts, strict=True):
    done = cut(rows) if len(rows) >= FEWEST else None
    if done is not None:
      found.append(Cut(person, *done))
  made = [cut(rows) for rows in _joined(parts, seed)]
  return found, np.asarray([one[0] for one in made if one is not None])


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
