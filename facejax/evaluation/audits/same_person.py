"""One person under two names: centres as near as the halves of one person.

Candidates are the nearest centres, exactly, over all devices; each is scored by
the log-likelihood ratio of `two_covariance`, which knows how much a centre of few
images may lie beside the truth. Two people are a pair where each is the other's
best.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from facejax.evaluation.audits import embedded_set
from facejax.metrics import fault_thresholds, two_covariance
from facejax.vectors import nearest

_CANDIDATES = 32
_BLOCK = 4096
# People cut in halves to see how near these are.
_HALVED = 20_000


class People(NamedTuple):
  """Centres of people, ready to be compared.

  Attributes:
    model: of embeddings at length 1.
    space: where these are of length 1.
    numbers: int [n], which people have images.
    means: float64 [n, dim], their means in the model's space.
    counts: float64 [n], of how many images.
    units: float32 [n, dim], the directions of the means.
    halves: the same for two random halves of each: sums and counts.
  """

  model: two_covariance.TwoCovariance
  space: two_covariance.TwoCovariance
  numbers: np.ndarray
  means: np.ndarray
  counts: np.ndarray
  units: np.ndarray
  halves: tuple[tuple[np.ndarray, np.ndarray], ...]

  def placed(self, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Means in the space of the model."""
    return _placed(self.model, sums, counts)


class Pairs(NamedTuple):
  """People who are each other's best, best first.

  Attributes:
    first: int [pairs].
    second: int [pairs], higher.
    scores: log-likelihood ratios, [pairs].
  """

  first: np.ndarray
  second: np.ndarray
  scores: np.ndarray


def people(
  images: embedded_set.EmbeddedSet, weights: np.ndarray, *, seed: int
) -> People:
  """Goes over the images, twice."""
  space = images.space(weights)
  half = np.random.default_rng(seed).random(len(images)) < 0.5
  one = images.moments(space, np.where(half, weights, 0.0))
  other = images.moments(space, np.where(half, 0.0, weights))
  whole = two_covariance.Moments(
    *(a + b for a, b in zip(one, other, strict=True))
  )
  model = two_covariance.fit(whole)
  there = np.flatnonzero(whole.counts > 0.5)
  sums, counts = whole.sums[there], whole.counts[there]
  return People(
    model,
    space,
    there,
    _placed(model, sums, counts),
    counts,
    embedded_set.units(sums),
    tuple((part.sums[there], part.counts[there]) for part in (one, other)),
  )


def _placed(
  model: two_covariance.TwoCovariance, sums: np.ndarray, counts: np.ndarray
) -> np.ndarray:
  return (sums / counts[:, None] - model.mean) @ model.matrix


def pairs(known: People, search: nearest.Nearest) -> Pairs:
  """All pairs of people who are each other's best."""
  count = len(known.numbers)
  every = np.arange(count)
  best, scores = _best(
    known, search, known.units, known.means, known.counts, every
  )
  mutual = (best[best] == every) & (every < best)
  order = np.argsort(-scores[mutual], kind="stable")
  first = every[mutual][order]
  return Pairs(
    known.numbers[first],
    known.numbers[best[first]],
    scores[mutual][order],
  )


def _best(
  known: People,
  search: nearest.Nearest,
  units: np.ndarray,
  means: np.ndarray,
  counts: np.ndarray,
  own: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """The best other person for each of some sets of images, and the score."""
  k = min(_CANDIDATES + 1, len(known.numbers))
  best, score = [], []
  for start in range(0, len(units), _BLOCK):
    rows = slice(start, start + _BLOCK)
    found = search(units[rows], k).rows
    size = len(found)
    ratio = two_covariance.log_likelihood_ratio(
      known.model,
      (np.repeat(means[rows], k, axis=0), np.repeat(counts[rows], k)),
      (known.means[found.ravel()], known.counts[found.ravel()]),
    ).reshape(size, k)
    ratio[found == own[rows, None]] = -np.inf
    top = ratio.argmax(axis=1)
    best.append(found[np.arange(size), top])
    score.append(ratio[np.arange(size), top])
  return np.concatenate(best), np.concatenate(score)


def made(known: People, search: nearest.Nearest, *, seed: int) -> np.ndarray:
  """Scores of the halves of people that are each other's best."""
  (one, n), (other, m) = known.halves
  able = np.flatnonzero((n > 1.5) & (m > 1.5))
  if len(able) > _HALVED:
    able = np.random.default_rng(seed).choice(able, _HALVED, replace=False)
  if not len(able):
    return np.empty(0)
  sets = [(one[able], n[able]), (other[able], m[able])]
  means = [known.placed(*each) for each in sets]
  ratio = two_covariance.log_likelihood_ratio(
    known.model, (means[0], n[able]), (means[1], m[able])
  )
  kept = np.ones(len(able), bool)
  for (sums, counts), mean in zip(sets, means, strict=True):
    beside = _best(known, search, embedded_set.units(sums), mean, counts, able)[
      1
    ]
    kept &= ratio > beside
  return ratio[kept]


def merged(
  found: Pairs, threshold: fault_thresholds.FaultThreshold, people: int
) -> np.ndarray:
  """Who each person is, by the pairs that reach a threshold, int32 [people].

  A group is called by the lowest of its numbers.
  """
  use = found.scores >= threshold.score
  edges = np.ones(use.sum(), bool), (found.first[use], found.second[use])
  graph = sparse.coo_array(edges, shape=(people, people))
  which = csgraph.connected_components(graph, directed=False)[1]
  _, first = np.unique(which, return_index=True)
  return first[which].astype(np.int32)
