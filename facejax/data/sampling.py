"""Batches that hold several images of each identity, for losses within them."""

import functools
import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)

# What a random generator is for; with the seed, its key.
_DEAL, _PLACES, _IMAGES, _NEGATIVES = range(4)


class Sampler:
  """P places of K images and N random negatives a batch, a function of step.

  Each identity with K images or more has a place of its own in the cycle of
  places. A batch holds the next P of them, each with the next K images of its
  identity's own cycle. Both cycles are shuffled anew whenever the batches
  permit, and the P places of a batch, like the K images of a place, always
  differ: every place is visited before any is visited again, and at each
  identity every image is seen before any is seen again.

  Identities with 2 to K - 1 images share places. They are shuffled and dealt
  out once, to places of about 2 K images each, whose cycle keeps the images of
  an identity together. The K images of a visit then come from several
  identities; the first and the last may be cut short, even to one image. If
  all such identities together have fewer than K images, they get no place.

  The N random negatives are drawn from all images of those identities that
  have no other image in the batch; identities without a place, such as those
  with a single image, occur only among them. No image is twice in a batch, and
  every batch is in an order of its own.

  Attributes:
    batch_size: P K + N.
    num_images: the length of labels.
    num_places: places in the cycle; every one is visited once in
      num_places / P steps.

  References:
    Schroff et al., *FaceNet: A Unified Embedding for Face Recognition and
    Clustering*, 2015, section 3.2.
  """

  def __init__(
    self,
    labels: npt.ArrayLike,
    *,
    identities: int,
    images: int,
    negatives: int = 0,
    seed: int,
  ):
    """Sorts the images by place.

    Takes the memory of about four int32 arrays like `labels`, two of which are
    kept: `labels` itself and the sorted images.

    Args:
      labels: identity of each image, [num_images], ints from 0.
      identities: P, at least 1.
      images: K, at least 2.
      negatives: N, at least 0.
      seed: in [0, 2^32).

    Raises:
      ValueError: if an argument is out of range, or the images do not suffice.
    """
    _check(identities, images, negatives, seed)
    self._labels = _checked_labels(labels)
    self._identities, self._images = identities, images
    self._negatives, self._seed = negatives, seed
    self.batch_size = identities * images + negatives
    self.num_images = len(self._labels)
    counts = np.bincount(self._labels)
    ranked, place = self._deal(counts)
    sizes = np.bincount(place, weights=counts[ranked]).astype(np.int64)
    self.num_places = len(sizes)
    self._check_places(counts, sizes)
    self._starts = np.r_[0, np.cumsum(sizes)]
    rank = np.full(len(counts), len(ranked), np.int32)
    rank[ranked] = np.arange(len(ranked), dtype=np.int32)
    order = np.argsort(rank[self._labels], kind="stable")
    # Identities without a place come last.
    self._order = order[: self._starts[-1]].astype(
      np.min_scalar_type(len(self._labels))
    )
    self._place_order = self._cached_places()

  def __getstate__(self) -> dict[str, Any]:
    return {k: v for k, v in vars(self).items() if k != "_place_order"}

  def __setstate__(self, state: dict[str, Any]) -> None:
    vars(self).update(state)
    self._place_order = self._cached_places()

  def batch(self, step: int) -> np.ndarray:
    """Returns the images of a step, int64 [batch_size], indices of labels.

    >>> labels = np.array([0, 0, 0, 1, 1, 2])
    >>> sampler = Sampler(labels, identities=2, images=2, negatives=1, seed=0)
    >>> sorted(labels[sampler.batch(7)].tolist())
    [0, 0, 1, 1, 2]
    """
    turn = step * self._identities
    places = window(self.num_places, self._identities, step, self._place_order)
    visits = (turn + np.arange(self._identities)) // self.num_places
    chosen = np.concatenate(
      [
        self._visit(int(place), int(visit))
        for place, visit in zip(places, visits, strict=True)
      ]
    )
    rng = self._rng(_NEGATIVES, step)
    chosen = np.r_[chosen, self._draw(chosen, rng)]
    return rng.permutation(chosen)

  def _rng(self, *key: int) -> np.random.Generator:
    return np.random.default_rng([self._seed, *key])

  def _deal(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the identities that have a place, and the place of each."""
    images = self._images
    large = np.flatnonzero(counts >= images)
    small = np.flatnonzero((counts >= 2) & (counts < images))
    small = self._rng(_DEAL).permutation(small)
    begin = np.cumsum(counts[small]) - counts[small]
    total = int(counts[small].sum())
    # Begins in one stretch of 2 K: at least K + 2 images, as none has K.
    shared = max(total // (2 * images), int(total >= images))
    if not shared:
      return large, np.arange(len(large))
    place = len(large) + np.minimum(begin // (2 * images), shared - 1)
    return np.r_[large, small], np.r_[: len(large), place]

  def _check_places(self, counts: np.ndarray, sizes: np.ndarray) -> None:
    large = int((counts >= self._images).sum())
    small = int(((counts >= 2) & (counts < self._images)).sum())
    single = int((counts == 1).sum())
    found = (
      f"{large:,} identities have {self._images} images or more,"
      f" {small:,} with fewer, but at least 2, share {len(sizes) - large:,}"
      f" places, and {single:,} have one image"
    )
    if len(sizes) < self._identities:
      raise ValueError(
        f"identities={self._identities} with images={self._images} needs"
        f" {self._identities} places of {self._images} images, but there are"
        f" {len(sizes):,}: {found}; lower identities or images"
      )
    largest = np.partition(sizes, len(sizes) - self._identities)
    spare = len(self._labels) - int(largest[-self._identities :].sum())
    if spare < self._negatives:
      raise ValueError(
        f"negatives={self._negatives} needs as many images of identities that"
        f" are not in the batch, but of {len(self._labels):,} images only"
        f" {spare:,} may be left: {found}; lower negatives or identities"
      )
    logger.info("batches by identity: %s", found)

  def _cached_places(self) -> Callable[[int], np.ndarray]:
    """Returns the order of places by lap, which for millions is worth keeping."""

    @functools.lru_cache(maxsize=4)
    def shuffled(lap: int) -> np.ndarray:
      return self._rng(_PLACES, lap).permutation(self.num_places)

    return shuffled

  def _visit(self, place: int, visit: int) -> np.ndarray:
    """Returns the K images that a place shows at its visit, counted from 0."""
    images = self._order[self._starts[place] : self._starts[place + 1]]

    def shuffled(lap: int) -> np.ndarray:
      rng = self._rng(_IMAGES, place, lap)
      order = rng.permutation(len(images))
      names, person = np.unique(self._labels[images], return_inverse=True)
      turn = rng.permutation(len(names))[person[order]]
      return order[np.argsort(turn, kind="stable")]

    return images[window(len(images), self._images, visit, shuffled)]

  def _draw(self, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the N random negatives of a batch."""
    held = np.unique(self._labels[chosen])
    drawn = np.zeros(0, np.int64)
    tries = 2 * self._negatives
    while len(drawn) < self._negatives:
      more = rng.integers(len(self._labels), size=tries)
      drawn = np.r_[drawn, more[~np.isin(self._labels[more], held)]]
      _, first = np.unique(drawn, return_index=True)
      drawn = drawn[np.sort(first)]
      tries *= 2
    return drawn[: self._negatives]


def window(
  size: int, count: int, turn: int, shuffled: Callable[[int], np.ndarray]
) -> np.ndarray:
  """The `count` items of a turn of an endless cycle through `size` items.

  The items of a turn differ, and so do items m size … (m + 1) size - 1 of the
  sequence of all turns, for every m, although a turn may end one lap and begin
  the next.

  Args:
    size: how many items there are.
    count: items a turn, at most `size`.
    turn: counted from 0.
    shuffled: permutation of range(size), by the number of the lap.

  Returns:
    int [count].

  >>> [window(5, 2, turn, lambda lap: np.arange(5)).tolist() for turn in (1, 2)]
  [[2, 3], [4, 0]]
  """
  start = turn * count
  if size < 2 * count:
    # Any `count` in a row on a circle differ. After `size / gcd` turns a lap
    # and a turn end together, and a new circle may begin.
    circle = shuffled(turn // (size // math.gcd(size, count)))
    return circle[(start + np.arange(count)) % size]

  def lap_order(lap: int) -> np.ndarray:
    order = np.array(shuffled(lap))
    carried = lap * size % count  # items that the turn has from the lap before
    if carried:
      # They wait until that turn is over. This leaves the end of the lap as it
      # is, so that the next lap need not know about it.
      head = order[:count]
      waits = np.isin(head, shuffled(lap - 1)[-carried:])
      order[:count] = head[np.argsort(waits, kind="stable")]
    return order

  lap, begin = divmod(start, size)
  items = lap_order(lap)[begin : begin + count]
  if len(items) < count:
    items = np.r_[items, lap_order(lap + 1)[: count - len(items)]]
  return items


def _check(identities: int, images: int, negatives: int, seed: int) -> None:
  for name, value, least, why in (
    ("identities", identities, 1, ""),
    ("images", images, 2, ": one image has no positive"),
    ("negatives", negatives, 0, ""),
  ):
    if value < least:
      raise ValueError(f"{name}={value} must be at least {least}{why}")
  if not 0 <= seed < 2**32:
    raise ValueError(f"seed={seed} must lie in [0, 2^32)")


def _checked_labels(labels: npt.ArrayLike) -> np.ndarray:
  labels = np.asarray(labels)
  if labels.ndim != 1 or not labels.size:
    raise ValueError(f"labels of shape {labels.shape}: must be [num_images]")
  if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
    raise ValueError(
      f"labels are {labels.dtype} from {labels.min()}; they must be ints from 0"
    )
  return labels
