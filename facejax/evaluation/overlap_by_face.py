"""Who of the tested people is in a training set, found by faces, not by names.

People: the centre of each tested person's embeddings is compared with the
centres of all people of the training set. What their nearest stranger reaches is
told by the mean and the spread of each person's cosines with all of them, in
this very net and for sets of these sizes, see `bar`.
Images: the nearest images of the training set are near copies where their
pixels are, see `image_hashes`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from scipy import special

from facejax.vectors import image_hashes, nearest

# Images of the training set that are looked at for each tested image.
NEIGHBOURS = 8
# Bits that near copies may differ in: JPEG at quality 30, half the size and
# brightness by a third differ in less, other aligned faces in more than 40.
COPY_BITS = image_hashes.BITS // 10
# A tested person may have two names in the training set, not three.
_THIRD = 3
LEAST = 8
_ROWS = 1 << 16


class Vectors(NamedTuple):
  """Embeddings of a set, as they come: rows, whose people, vectors.

  Attributes:
    rows: which images, int [n].
    labels: their people, int [n]; -1 where that is not known.
    vectors: float32 [n, dim], of length 1.
  """

  rows: np.ndarray
  labels: np.ndarray
  vectors: np.ndarray


class Nearby(NamedTuple):
  """What of a training set is near to a test set.

  Attributes:
    people: the nearest person of each tested one, int [tested people].
    cosines: of the centres of the three nearest, [tested people, 3].
    deviations: how far these lie above the mean cosine of the tested
      person with all people, in standard deviations, [tested people, 3].
    images: the nearest images of each tested image, int [images, k].
    image_cosines: of these, [images, k].
  """

  people: np.ndarray
  cosines: np.ndarray
  deviations: np.ndarray
  images: np.ndarray
  image_cosines: np.ndarray


def check(tested: int, trained: int, expected: float) -> None:
  """Refuses sets and options that nothing can be told from.

  Args:
    tested: people of the test set.
    trained: people of the training set.
    expected: see `bar`.

  Raises:
    ValueError: if there is nobody to test, or no stranger to compare with.
  """
  if not tested or trained < LEAST:
    raise ValueError(
      f"{tested:,} people are tested and {trained:,} are in the training set;"
      f" needed are 1 and {LEAST}, each with a folder or a name of their own"
    )
  if not 0 < expected <= tested / 2:
    raise ValueError(
      f"{expected:g} strangers expected among {tested:,} people; choose more than"
      f" 0, at most {tested / 2:g}"
    )


def compared(
  tested: Vectors,
  trained: Iterable[Vectors],
  counts: tuple[int, int],
  *,
  neighbours: int = NEIGHBOURS,
  mesh: jax.sharding.Mesh | None = None,
) -> Nearby:
  """Compares a test set with a training set that comes block by block.

  Held are the tested vectors, one block, and a sum for each person of the
  training set (4 bytes a number: 4 GB for two million people of 512).

  Args:
    tested: the whole test set, rows in order.
    trained: the training set.
    counts: people of the test set and of the training set.
    neighbours: of each tested image.
    mesh: the devices; all of them if not given.
  """
  sums = np.zeros((counts[1], tested.vectors.shape[1]), np.float32)
  sizes = np.zeros(counts[1], np.int64)
  scores = np.full((len(tested.rows), neighbours), -np.inf, np.float32)
  images = np.full(scores.shape, -1, np.int64)
  for block in trained:
    known = block.labels >= 0
    np.add.at(sums, block.labels[known], block.vectors[known])
    sizes += np.bincount(block.labels[known], minlength=counts[1])
    search = nearest.Nearest(block.vectors, mesh=mesh)
    found = search(tested.vectors, min(neighbours, len(block.rows)))
    scores = np.concatenate([scores, found.scores], axis=1)
    images = np.concatenate([images, block.rows[found.rows]], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :neighbours]
    scores = np.take_along_axis(scores, order, axis=1)
    images = np.take_along_axis(images, order, axis=1)
  mine = np.zeros((counts[0], sums.shape[1]), np.float32)
  known = tested.labels >= 0
  np.add.at(mine, tested.labels[known], tested.vectors[known])
  own = np.bincount(tested.labels[known], minlength=counts[0])
  return Nearby(*_nearest((mine, own), (sums, sizes), mesh), images, scores)


def bar(deviations: np.ndarray, trained: int, expected: float = 0.5) -> float:
  """The deviations that so many strangers of all tested are expected to reach.

  The cosines of a person with strangers are taken as normal; the highest of n
  lies above z with the probability 1 - Φ(z)^n. How far real ones reach beside
  normal ones is told by the third nearest, a stranger even where a person has
  two names in the training set: by the ratio of their median to that of a normal
  law.

  Args:
    deviations: see `Nearby`.
    trained: people of the training set.
    expected: how many in the whole test set, in (0, half of the people].

  Returns:
    A number of standard deviations.

  >>> third = np.full((100, 3), special.ndtri(special.betaincinv(998, 3, 0.5)))
  >>> round(bar(third, 1000), 2)
  4.42
  """
  # The median of the third of n: Φ(z) has a beta law.
  place = special.betaincinv(trained + 1 - _THIRD, _THIRD, 0.5)
  stretch = float(np.median(deviations[:, -1]) / special.ndtri(place))
  share = expected / len(deviations)
  tail = -np.expm1(np.log1p(-share) / trained)
  return -float(special.ndtri(tail)) * stretch


def copies(
  near: Nearby,
  tested: Callable[[int], np.ndarray],
  trained: Callable[[int], np.ndarray],
  *,
  advance: Callable[[int], object] = lambda count: None,
) -> list[tuple[int, int, float, int]]:
  """Tested images with a near copy among their neighbours.

  Args:
    near: the neighbours.
    tested: reads an image of the test set, by its place there.
    trained: reads an image of the training set, by its row.
    advance: told how many more were looked at.

  Returns:
    The tested image, its copy that differs in the fewest bits, their cosine,
    and these bits.
  """
  mine = np.stack(
    [
      image_hashes.coefficients(tested(place))
      for place in range(len(near.images))
    ]
  )
  middle = np.median(mine, axis=0)
  out = []
  for place, rows in enumerate(near.images.tolist()):
    rows = [row for row in rows if row >= 0]
    theirs = [image_hashes.coefficients(trained(row)) for row in rows]
    own = image_hashes.hashes(mine[[place] * len(rows)], middle)
    bits = image_hashes.differing(
      own, image_hashes.hashes(np.stack(theirs), middle)
    )
    best = int(np.argmin(bits))
    if bits[best] <= COPY_BITS:
      score = float(near.image_cosines[place, best])
      out.append((place, rows[best], score, int(bits[best])))
    advance(1)
  return out


def _nearest(
  tested: tuple[np.ndarray, np.ndarray],
  trained: tuple[np.ndarray, np.ndarray],
  mesh: jax.sharding.Mesh | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The first three fields of `Nearby`, from sums of vectors and their numbers."""
  theirs, middle = _centres(*trained)
  centres, _ = _centres(*tested, middle)
  # People without images are nobody's neighbours.
  empty = np.flatnonzero(trained[1] == 0)
  search = nearest.Nearest(theirs, removed=empty, mesh=mesh)
  three = search(centres, _THIRD)
  count = len(theirs) - len(empty)
  theirs[empty] = 0
  mean = centres @ theirs.mean(axis=0) * (len(theirs) / count)
  moments = np.zeros((theirs.shape[1],) * 2)
  for start in range(0, len(theirs), _ROWS):
    block = theirs[start : start + _ROWS].astype(np.float64)
    moments += block.T @ block
  square = np.einsum("id,de,ie->i", centres, moments / count, centres)
  spread = np.sqrt(np.maximum(square - mean**2, np.finfo(np.float32).tiny))
  deviations = (three.scores - mean[:, None]) / spread[:, None]
  return three.rows[:, 0], three.scores, deviations


def _centres(
  sums: np.ndarray, sizes: Sequence[int] | np.ndarray, middle=None
) -> tuple[np.ndarray, np.ndarray]:
  """Means of length 1 seen from the middle of all people, and that middle.

  Many nets put all faces into a narrow cone; seen from its axis strangers lie
  far apart.
  """
  sizes = np.asarray(sizes)
  means = sums / np.maximum(sizes, 1)[:, None].astype(np.float32)
  if middle is None:
    middle = means[sizes > 0].mean(axis=0, dtype=np.float64)
  means = means - np.float32(middle)
  lengths = np.linalg.norm(means, axis=1, keepdims=True)
  means /= np.maximum(lengths, np.finfo(np.float32).tiny)
  return means, middle
