"""Clustering: do groups of images and people agree?

Everything follows from the contingency counts n_ij, the images of person i in
cluster j; a_i and b_j are their row and column sums, n the sum of all. Only
the cells that are not zero are held, at most one for each image, and counts of
shards are added with `+`.
"""

import dataclasses
import functools
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from facejax.metrics import checks, intervals

Mean = Literal["arithmetic", "geometric", "max", "min"]


class Score(NamedTuple):
  """Precision and recall, and f = 2 precision recall / (precision + recall)."""

  precision: float
  recall: float
  f: float


@dataclasses.dataclass(frozen=True, eq=False)
class Contingency:
  """Images by person and cluster; `+` merges shards of the images.

  Attributes:
    people: the person of each cell that is not zero, [cells].
    clusters: the cluster of each cell, [cells].
    counts: its images, int64 [cells].
  """

  people: np.ndarray
  clusters: np.ndarray
  counts: np.ndarray

  @functools.cached_property
  def sums(self) -> tuple[np.ndarray, np.ndarray]:
    """a_i and b_j of each cell: images of its person, and of its cluster."""
    totals = []
    for names in (self.people, self.clusters):
      _, place = np.unique(names, return_inverse=True)
      found = np.zeros(place.max() + 1, np.int64)
      np.add.at(found, place, self.counts)
      totals.append(found[place])
    return totals[0], totals[1]

  def __add__(self, other: "Contingency") -> "Contingency":
    return _cells(
      np.concatenate([self.people, other.people]),
      np.concatenate([self.clusters, other.clusters]),
      np.concatenate([self.counts, other.counts]),
    )


def contingency(people: npt.ArrayLike, clusters: npt.ArrayLike) -> Contingency:
  """Counts images by person and cluster.

  Args:
    people: the person of each image, ints or strings, [images].
    clusters: the cluster of each image, [images]; images that belong to none
      need one of their own, see `singletons`.

  Raises:
    ValueError: if the lengths differ, there is no image, or labels are floats.

  >>> contingency([0, 0, 1], [5, 5, 5]).counts.tolist()
  [2, 1]
  """
  count = len(np.atleast_1d(people))
  return _cells(
    checks.labels(people, count, "people"),
    checks.labels(clusters, count, "clusters"),
    np.ones(count, np.int64),
  )


def singletons(clusters: npt.ArrayLike, *, noise: int = -1) -> np.ndarray:
  """Gives every image without a cluster one of its own, [images].

  DBSCAN and HDBSCAN call such images -1; as one cluster they would look like a
  huge mistake.

  >>> singletons([0, -1, 4, -1]).tolist()
  [0, 5, 4, 6]
  """
  clusters = np.array(clusters)
  alone = clusters == noise
  clusters[alone] = clusters.max(initial=-1) + 1 + np.arange(alone.sum())
  return clusters


def pairwise(table: Contingency) -> Score:
  """Precision and recall over unordered pairs of images.

      precision = Σ_ij C(n_ij, 2) / Σ_j C(b_j, 2)
      recall    = Σ_ij C(n_ij, 2) / Σ_i C(a_i, 2)

  A share of no pairs at all is 1: nothing was claimed, or nothing missed.

  References:
    Amigó et al., *A comparison of extrinsic clustering evaluation metrics based
    on formal constraints*, 2009.

  >>> pairwise(contingency([0, 0, 1, 1], [0, 0, 0, 1])).precision.__round__(3)
  0.333
  """
  both, same, together, _ = _pairs(table)
  precision = both / together if together else 1.0
  return _score(precision, both / same if same else 1.0)


def bcubed(table: Contingency) -> Score:
  """BCubed: precision and recall of each image, averaged over images.

      precision = 1/n Σ_ij n_ij² / b_j,    recall = 1/n Σ_ij n_ij² / a_i

  References:
    Bagga, Baldwin, *Entity-based cross-document coreferencing using the vector
    space model*, 1998.

  >>> round(bcubed(contingency([0, 0, 1, 1], [0, 0, 0, 1])).recall, 3)
  0.75
  """
  a, b = table.sums
  squares = table.counts.astype(np.float64) ** 2
  n = table.counts.sum()
  return _score(float((squares / b).sum() / n), float((squares / a).sum() / n))


def f_interval(
  table: Contingency,
  *,
  rule: Literal["pairwise", "bcubed"] = "bcubed",
  samples: int = 1000,
  level: float = 0.95,
  seed: int = 0,
) -> intervals.Interval:
  """Bootstrap interval of f: people are drawn again, the clusters stay.

  Args:
    table: the counts.
    rule: whose f, that of `pairwise` or of `bcubed`.
    samples: how often to draw.
    level: as in `intervals.wilson`.
    seed: of the draws.

  >>> people = np.arange(60) // 3
  >>> table = contingency(people, np.where(people < 9, people, people // 2))
  >>> low, high = f_interval(table)
  >>> low < bcubed(table).f < high
  True
  """
  a, b = table.sums
  n, rng = table.counts.astype(np.float64), np.random.default_rng(seed)
  if rule == "pairwise":
    terms = n * (n - 1), n * (b - 1), n * (n - 1), n * (a - 1)
  elif rule == "bcubed":
    terms = n * n / b, n, n * n / a, n
  else:
    raise ValueError(f'rule {rule!r}; use "pairwise" or "bcubed"')
  _, person = np.unique(table.people, return_inverse=True)
  shares = np.stack([np.bincount(person, weights=term) for term in terms])
  size, values = shares.shape[1], []
  for _ in range(samples):
    drawn = np.bincount(rng.integers(0, size, size), minlength=size)
    right, claimed, found, owed = shares @ drawn
    precision = right / claimed if claimed else 1.0
    values.append(_score(precision, found / owed if owed else 1.0).f)
  return intervals.percentiles(values, level=level)


def mutual_information(table: Contingency) -> float:
  """I(people; clusters) = Σ_ij n_ij / n log(n n_ij / (a_i b_j)), in nats.

  >>> round(mutual_information(contingency([0, 0, 1, 1], [3, 3, 4, 4])), 4)
  0.6931
  """
  a, b = table.sums
  n, counts = table.counts.sum(), table.counts.astype(np.float64)
  terms = counts / n * np.log(counts / a * (n / b))
  return max(0.0, float(terms.sum()))  # never negative but for rounding


def normalized_mutual_information(
  table: Contingency, *, mean: Mean = "arithmetic"
) -> float:
  """NMI = I(people; clusters) / mean(H(people), H(clusters)), in [0, 1].

  Papers differ in the mean: name it. One person in one cluster is 1.

  Args:
    table: the counts.
    mean: of the two entropies; "arithmetic" is scikit-learn's default.

  Raises:
    ValueError: if the mean is unknown.

  References:
    Vinh, Epps, Bailey, *Information theoretic measures for clusterings
    comparison*, 2010.

  >>> normalized_mutual_information(contingency([0, 0, 1], [7, 7, 8]))
  1.0
  """
  h = entropies(table)
  means = {
    "arithmetic": (h[0] + h[1]) / 2,
    "geometric": (h[0] * h[1]) ** 0.5,
    "max": max(h),
    "min": min(h),
  }
  if mean not in means:
    raise ValueError(f"mean {mean!r}; use one of {get_args(Mean)}")
  if h == (0, 0):
    return 1.0
  information = mutual_information(table)
  return min(1.0, information / means[mean]) if means[mean] else 0.0


def entropies(table: Contingency) -> tuple[float, float]:
  """H(people) and H(clusters) = -Σ p log p, in nats.

  >>> [round(h, 4) for h in entropies(contingency([0, 0, 1, 1], [2, 2, 2, 2]))]
  [0.6931, 0.0]
  """
  p = table.counts / table.counts.sum()
  # Each image adds the log of the share of its own person or cluster.
  h = [-(p * np.log(x / table.counts.sum())).sum() for x in table.sums]
  return max(0.0, float(h[0])), max(0.0, float(h[1]))


def adjusted_rand_index(table: Contingency) -> float:
  """ARI: agreement on pairs, 0 by chance and 1 at best.

      (Σ_ij C(n_ij, 2) - E) / ((A + B) / 2 - E),   E = A B / C(n, 2)
      A = Σ_i C(a_i, 2), B = Σ_j C(b_j, 2)

  One where both sides are all alone or all together.

  References:
    Hubert, Arabie, *Comparing partitions*, 1985.

  >>> adjusted_rand_index(contingency([0, 0, 1, 1], [0, 0, 1, 2])).__round__(3)
  0.571
  """
  both, same, together, pairs = _pairs(table)
  # Over C(n, 2), in whole numbers of any size: no rounding before the end.
  numerator = both * pairs - same * together
  denominator = (same + together) * pairs - 2 * same * together
  return 2 * numerator / denominator if denominator else 1.0


def purity(table: Contingency) -> float:
  """Share of images whose person is the most frequent one of their cluster.

  >>> purity(contingency([0, 0, 1, 1], [0, 0, 0, 1]))
  0.75
  """
  _, place = np.unique(table.clusters, return_inverse=True)
  largest = np.zeros(place.max() + 1, np.int64)
  np.maximum.at(largest, place, table.counts)
  return float(largest.sum() / table.counts.sum())


def _cells(
  people: np.ndarray, clusters: np.ndarray, counts: np.ndarray
) -> Contingency:
  names, i = np.unique(people, return_inverse=True)
  groups, j = np.unique(clusters, return_inverse=True)
  code, place = np.unique(i * len(groups) + j, return_inverse=True)
  found = np.zeros(len(code), np.int64)
  np.add.at(found, place, counts)
  return Contingency(
    names[code // len(groups)], groups[code % len(groups)], found
  )


def _pairs(table: Contingency) -> tuple[int, int, int, int]:
  """Pairs in a cell, of one person, in one cluster, and all."""
  a, b = table.sums
  n = int(table.counts.sum())
  # Σ_i C(a_i, 2) = Σ_ij n_ij (a_i - 1) / 2.
  both, same, together = (
    int((table.counts * (x - 1)).sum()) // 2 for x in (table.counts, a, b)
  )
  return both, same, together, n * (n - 1) // 2


def _score(precision: float, recall: float) -> Score:
  total = precision + recall
  f = 2 * precision * recall / total if total else 0.0
  return Score(precision, recall, f)
