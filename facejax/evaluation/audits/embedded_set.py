"""Embeddings of a set with their labels, gone over block by block."""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np

from facejax.metrics import two_covariance

_BLOCK = 65_536
# Of a suspect: where a person has nobody else, it still says who they are.
LEAST = 1e-4


@dataclasses.dataclass(frozen=True, eq=False)
class EmbeddedSet:
  """Embeddings and what people call them.

  Attributes:
    vectors: float32 [images, dim], of length 1; an array mapped from a file is
      read block by block.
    labels: int32 [images], the person of each.
    people: how many there are.
    mesh: the devices that neighbours are sought on; None for all.
  """

  vectors: np.ndarray
  labels: np.ndarray
  people: int
  mesh: jax.sharding.Mesh | None = None

  def __len__(self) -> int:
    return len(self.labels)

  def relabelled(self, groups: np.ndarray) -> "EmbeddedSet":
    """The same, where person p is now groups[p]."""
    return dataclasses.replace(self, labels=groups[self.labels])

  def blocks(self) -> Iterator[slice]:
    """Yields what is looked at at once."""
    for start in range(0, len(self), _BLOCK):
      yield slice(start, min(start + _BLOCK, len(self)))

  def space(self, weights: np.ndarray) -> two_covariance.TwoCovariance:
    """The model of the embeddings themselves.

    Args:
      weights: of the images, [images].
    """
    return two_covariance.fit(self._moments(None, weights))

  def moments(
    self, space: two_covariance.TwoCovariance, weights: np.ndarray
  ) -> two_covariance.PersonMoments:
    """Sums of the embeddings at length 1 in a space."""
    return self._moments(space, weights)

  def _moments(
    self, space: two_covariance.TwoCovariance | None, weights: np.ndarray
  ) -> two_covariance.PersonMoments:
    dim = self.vectors.shape[1]
    found = two_covariance.PersonMoments(
      np.zeros(self.people),
      np.zeros((self.people, dim)),
      np.zeros((dim, dim)),
    )
    for block in self.blocks():
      vectors = self.vectors[block]
      if space is not None:
        vectors = space.unit(vectors)
      more = two_covariance.moments(
        vectors, self.labels[block], weights[block], self.people
      )
      for sums, part in zip(found, more, strict=True):
        sums += part
    return found


def units(sums: np.ndarray) -> np.ndarray:
  """Sums of embeddings as directions, float32 at length 1."""
  length = np.linalg.norm(sums, axis=1, keepdims=True)
  return (sums / np.maximum(length, 1e-30)).astype(np.float32)
