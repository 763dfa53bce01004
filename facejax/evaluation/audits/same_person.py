"""One person under two names: centres as near as the halves of one person.

Candidates are the nearest centres, exactly, over all devices; each is scored by
the log-likelihood ratio of `two_covariance`, which knows how much a centre of few
images may lie beside the truth. Two people are a pair where each is the other's
best.
"""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from facejax.evaluation.audits import embedded_set
from facejax.metrics import fault_thresholds, two_covariance
from facejax.vectors import nearest

_CANDIDATES = 32
_BLOCK = 4096
# PeopleCentres cut in two to see how near their halves are: of those with images enough
# a quarter, but never more than half.
_CUTTABLE, _FEWEST_CUT, _MOST_CUT = 4, 50, 20_000


class PeopleCentres(NamedTuple):
  """Centres of people, ready to be compared.

  Attributes:
    model: of embeddings at length 1.
    space: where these are of length 1.
    numbers: int [n], which people have images.
    means: float64 [n, dim], their means in the model's space.
    counts: float64 [n], of how many images.
    units: float32 [n, dim], the directions of the means.
  """

  model: two_covariance.TwoCovariance
  space: two_covariance.TwoCovariance
  numbers: np.ndarray
  means: np.ndarray
  counts: np.ndarray
  units: np.ndarray

  def placed(self, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Means in the space of the model."""
    return _placed(self.model, sums, counts)


class Pairs(NamedTuple):
  """PeopleCentres who are each other's best, best first.

  Attributes:
    first: int [pairs].
    second: int [pairs], higher.
    scores: log-likelihood ratios, [pairs].
  """

  first: np.ndarray
  second: np.ndarray
  scores: np.ndarray

  def among(self, groups: np.ndarray) -> "Pairs":
    """Those of one group each."""
    use = groups[self.first] == groups[self.second]
    return Pairs(*(column[use] for column in self))


NO_PAIRS = Pairs(np.empty(0, int), np.empty(0, int), np.empty(0))


def people(
  images: embedded_set.EmbeddedSet, weights: np.ndarray
) -> PeopleCentres:
  """Goes over the images, twice."""
  space = images.space(weights)
  whole = images.moments(space, weights)
  model = two_covariance.fit(whole)
  there = np.flatnonzero(whole.counts > 0.5)
  sums, counts = whole.sums[there], whole.counts[there]
  return PeopleCentres(
    model,
    space,
    there,
    _placed(model, sums, counts),
    counts,
    embedded_set.units(sums),
  )


def _placed(
  model: two_covariance.TwoCovariance, sums: np.ndarray, counts: np.ndarray
) -> np.ndarray:
  return (sums / counts[:, None] - model.mean) @ model.matrix


def pairs(known: PeopleCentres, *, mesh: jax.sharding.Mesh | None) -> Pairs:
  """All pairs of people who are each other's best."""
  count = len(known.numbers)
  if count < 2:
    return NO_PAIRS
  every = np.arange(count)
  best, scores = _best(known, mesh)
  mutual = (best[best] == every) & (every < best)
  order = np.argsort(-scores[mutual], kind="stable")
  first = every[mutual][order]
  return Pairs(
    known.numbers[first],
    known.numbers[best[first]],
    scores[mutual][order],
  )


def _best(
  known: PeopleCentres, mesh: jax.sharding.Mesh | None
) -> tuple[np.ndarray, np.ndarray]:
  """The best other person for each, and the score."""
  search = nearest.Nearest(known.units, mesh=mesh)
  count = len(known.units)
  k = min(_CANDIDATES + 1, count)
  best, score = [], []
  for start in range(0, count, _BLOCK):
    rows = np.arange(start, min(start + _BLOCK, count))
    found = search(known.units[rows], k).rows
    ratio = two_covariance.log_likelihood_ratio(
      known.model,
      (np.repeat(known.means[rows], k, axis=0), known.counts[rows].repeat(k)),
      (known.means[found.ravel()], known.counts[found.ravel()]),
    ).reshape(len(rows), k)
    ratio[found == rows[:, None]] = -np.inf
    top = ratio.argmax(axis=1)
    best.append(np.take_along_axis(found, top[:, None], axis=1)[:, 0])
    score.append(ratio.max(axis=1))
  return np.concatenate(best), np.concatenate(score)


def made(
  images: embedded_set.EmbeddedSet, weights: np.ndarray, *, seed: int
) -> np.ndarray:
  """Scores of people who are cut in two on purpose.

  All is done as with people under two names: the model takes the halves for two
  people, or it would know that they are one.

  Args:
    images: the set.
    weights: of the images.
    seed: who is cut, and how.
  """
  rng = np.random.default_rng(seed)
  sizes = np.bincount(
    images.labels, weights=weights >= 0.5, minlength=images.people
  )
  able = rng.permutation(np.flatnonzero(sizes >= _CUTTABLE))
  wanted = np.clip(len(able) // 4, _FEWEST_CUT, _MOST_CUT)
  chosen = np.sort(able[: min(int(wanted), len(able) // 2)])
  number = np.full(images.people, -1)
  number[chosen] = images.people + np.arange(len(chosen))
  other = (number[images.labels] >= 0) & (rng.random(len(images)) < 0.5)
  cut = dataclasses.replace(
    images,
    labels=np.where(other, number[images.labels], images.labels),
    people=images.people + len(chosen),
  )
  found = pairs(people(cut, weights), mesh=images.mesh)
  # Of a cut person the first is the old number, as it is lower.
  old = np.minimum(found.first, images.people - 1)
  return found.scores[number[old] == found.second]


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
