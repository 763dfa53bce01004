"""Triplet losses: an anchor nearer to a positive than to a negative.

From a matrix of distances to a selection of triplets (`mine`, without
gradient) to the hinges of those triplets (`hinge`). `triplet` does all three,
with arrays of up to batch^3 elements: the specification of `mining`, which
goes without them.
"""

from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from facejax.losses import anchors, choices
from facejax.runtime import hashing, ranges, typing

Mining: TypeAlias = Literal[
  "all", "hard", "semi_hard", "semi_hard_hardest", "tensorflow", "random"
]


# After all numbers of `shuffled`.
LAST = np.uint32(2**32 - 1)


class Triplets(NamedTuple):
  """Indices into the batch; the four shapes broadcast to that of `kept`.

  Attributes:
    anchor: int, first axis of the length of the batch, or [triplets].
    positive: int, an example of the same identity.
    negative: int, an example of another.
    kept: bool; the entry of a triplet that is not selected is false.
  """

  anchor: typing.Array
  positive: typing.Array
  negative: typing.Array
  kept: typing.Array


def triplet(
  embeddings: typing.ArrayLike,
  labels: typing.ArrayLike,
  *,
  margin: float = 0.2,
  mining: Mining = "semi_hard_hardest",
  distance: anchors.Distance = "squared",
  key: typing.PRNGKey | None = None,
) -> anchors.AnchorLoss:
  r"""Triplet loss of a batch, on embeddings scaled to unit length.

  .. math::
    \sum_{(a,p,n)} \bigl[d(a, p) - d(a, n) + \alpha\bigr]_+

  Args:
    embeddings: [batch, dim].
    labels: int [batch].
    margin: alpha >= 0, in the units of the distance.
    mining: which triplets; see `mine`.
    distance: "squared" as in FaceNet, "euclidean", or "angle" (radians).
    key: of the random rule.

  Returns:
    The hinges of each anchor, [batch]; `anchors.mean` averages them.

  Raises:
    ValueError: if there is no such mining or distance, or no key.

  References:
    Schroff et al., FaceNet: A Unified Embedding for Face Recognition and
      Clustering, 2015, Eq. 3.
    Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face
      Recognition, 2019, Eq. 7 (the angle).

  >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
  >>> values = triplet(x, jnp.array([0, 0, 1]), mining="all")
  >>> [round(v, 4) for v in values.loss.tolist()], values.terms.tolist()
  ([1.4, 1.8, 0.0], [1, 1, 0])
  """
  matrix = anchors.distances(embeddings, kind=distance)
  selected = mine(matrix, labels, mining=mining, margin=margin, key=key)
  return hinge(matrix, selected, margin=margin)


def hinge(
  distances: typing.Array, triplets: Triplets, *, margin: float
) -> anchors.AnchorLoss:
  """The hinges [d(a, p) - d(a, n) + margin]_+ of given triplets.

  Args:
    distances: [batch, batch], of `anchors.distances`.
    triplets: from `mine` or `explicit`.
    margin: in the units of the distances.

  Returns:
    Sums by anchor, [batch].
  Raises:
    ValueError: if margin is below 0.

  """
  ranges.check_numbers(ranges.NOT_NEGATIVE, margin=margin)
  anchor, positive, negative, kept = triplets
  gap = distances[anchor, positive] - distances[anchor, negative] + margin
  values = jnp.where(kept, jax.nn.relu(gap), 0)

  def by_anchor(x):
    rows = x.reshape(anchor.size, -1).sum(axis=1)
    return jax.ops.segment_sum(rows, anchor.ravel(), len(distances))

  return anchors.AnchorLoss(
    by_anchor(values),
    by_anchor(kept.astype(jnp.int32)),
    by_anchor((values > 0).astype(jnp.int32)),
  )


def explicit(triplets: typing.ArrayLike) -> Triplets:
  """Triplets chosen by the caller.

  Args:
    triplets: int [triplets, 3]; anchor, positive and negative.

  Raises:
    ValueError: if the shape is another.

  >>> explicit(jnp.array([[0, 1, 2]])).kept.tolist()
  [True]
  """
  table = jnp.asarray(triplets)
  if table.ndim != 2 or table.shape[1] != 3:
    raise ValueError(
      f"triplets of shape {table.shape}: must be [triplets, 3], the indices "
      "of anchor, positive and negative"
    )
  anchor, positive, negative = table.T
  return Triplets(anchor, positive, negative, jnp.ones(len(table), bool))


def mine(
  distances: typing.Array,
  labels: typing.ArrayLike,
  *,
  mining: Mining,
  margin: float,
  key: typing.PRNGKey | None = None,
) -> Triplets:
  """Selects triplets of a batch; no gradient passes through the choice.

  - "all": every triplet, [batch, batch, batch].
  - "hard": of each anchor the farthest positive and the nearest negative,
    [batch].
  - "semi_hard": every triplet with d(a, p) < d(a, n) < d(a, p) + margin,
    [batch, batch, batch].
  - "semi_hard_hardest": for each pair of anchor and positive the nearest of
    those negatives; no triplet where there is none, [batch, batch].
  - "tensorflow": for each pair the nearest negative that is farther than the
    positive; where there is none, the farthest negative, [batch, batch].
  - "random": for each pair one of the negatives with d(a, n) < d(a, p) +
    margin, all of them equally likely, [batch, batch].

  Of equally far examples the first is taken. An anchor without a positive, or
  without a negative, has no triplets.

  Args:
    distances: [batch, batch].
    labels: int [batch].
    mining: see above.
    margin: of the semi-hard rules and the random one.
    key: of the random rule.

  Raises:
    ValueError: if there is no such mining, no key for the random rule, or
      margin is below 0.

  References:
    Schroff et al., FaceNet, 2015, Sec. 3.2 (semi_hard_hardest).
    Hermans et al., In Defense of the Triplet Loss for Person
      Re-Identification, 2017 (all, hard).
    Sandberg, facenet (public code), 2016 (random; there of each two positives
      only the first is an anchor).
  """
  check_rule(mining, key, margin=margin)
  far = jax.lax.stop_gradient(distances)
  positive, negative = anchors.pairs(labels)
  anchor = jnp.arange(len(far))
  if mining == "hard":
    farthest = jnp.where(positive, far, -jnp.inf).argmax(axis=1)
    nearest = jnp.where(negative, far, jnp.inf).argmin(axis=1)
    kept = positive.any(axis=1) & negative.any(axis=1)
    return Triplets(anchor, farthest, nearest, kept)

  # The axes: anchor, positive, negative.
  kept = positive[:, :, None] & negative[:, None, :]
  paired = kept.any(axis=2)
  if mining not in ("all", "random"):
    kept &= far[:, :, None] < far[:, None, :]
  if mining in ("semi_hard", "semi_hard_hardest", "random"):
    kept &= far[:, None, :] < far[:, :, None] + margin
  if mining in ("all", "semi_hard"):
    each = (anchor[:, None, None], anchor[None, :, None], anchor[None, None, :])
    return Triplets(*each, kept)
  found = kept.any(axis=2)
  if mining == "random":
    assert key is not None
    drawn = shuffled(key, anchor[:, None], anchor[None, :], count=len(far))
    first = jnp.where(kept, drawn, LAST).argmin(axis=2)
    return Triplets(anchor[:, None], anchor[None, :], first, found)
  nearest = jnp.where(kept, far[:, None, :], jnp.inf).argmin(axis=2)
  if mining == "tensorflow":
    farthest = jnp.where(negative, far, -jnp.inf).argmax(axis=1)
    nearest = jnp.where(found, nearest, farthest[:, None])
    found = paired
  return Triplets(anchor[:, None], anchor[None, :], nearest, found)


def shuffled(
  key: typing.PRNGKey,
  anchor: typing.Array,
  positive: typing.Array,
  *,
  count: int,
) -> typing.Array:
  """A random order of the batch for each pair of anchor and positive.

  Args:
    key: of the batch.
    anchor: int, number in the batch; broadcasts with `positive`.
    positive: int, likewise.
    count: examples in the batch.

  Returns:
    uint32 [..., count], the lowest first, below 2^31. What (key, anchor,
    positive) decide, wherever and with whichever others it is computed.
  """
  numbers = (x.astype(jnp.uint32) for x in (anchor, positive))
  pair = jax.random.bits(key, dtype=jnp.uint32)
  for number in numbers:
    pair = hashing.mix(pair ^ number)
  each = hashing.mix(jnp.arange(1, count + 1, dtype=jnp.uint32))
  each = each.reshape((1,) * pair.ndim + (count,))
  return hashing.mix(pair[..., None] ^ each) >> 1


def check_rule(
  mining: Mining, key: typing.PRNGKey | None, *, margin: float
) -> None:
  """Refuses an unknown rule, the random one without a key, a margin below 0.

  Raises:
    ValueError: if it is one of them.
  """
  choices.check("mining", mining, Mining)
  ranges.check_numbers(ranges.NOT_NEGATIVE, margin=margin)
  if mining == "random" and key is None:
    raise ValueError("mining='random' draws negatives: pass a `key`")
