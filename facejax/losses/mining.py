"""Triplet mining for some anchors of a batch, without an array of triplets.

Once triplets are selected their loss is a weighted sum of distances: each
active hinge adds 1 to the weight of d(a, p) and takes 1 from that of d(a, n).
The weights are the gradient, and are found by walking the positives of all
anchors side by side. `triplet` is the specification.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from facejax.losses import choices, triplet
from facejax.runtime import typing


class Identities(NamedTuple):
  """A batch sorted by identity; int32 [batch] each.

  Attributes:
    labels: of each example.
    order: the examples, those of one identity side by side.
    first: place in `order` where the identity of an example begins.
    size: how many examples its identity has, itself included.
  """

  labels: typing.Array
  order: typing.Array
  first: typing.Array
  size: typing.Array

  def without_positive(self) -> typing.Array:
    """The share of identities that have a single example, []."""
    places = jnp.arange(self.order.shape[0])
    leads = self.first[self.order] == places
    return (self.size == 1).sum() / leads.sum()


class Weights(NamedTuple):
  """The selected triplets of some anchors, summed by anchor.

  Attributes:
    loss: [block], the hinges.
    weights: [block, batch], the derivative of the loss by each distance: a
      whole number.
    terms: int32 [block], how many triplets.
    active: int32 [block], how many of their hinges are above 0.
    positive_distance: [block], d(a, p) summed over the triplets.
    negative_distance: [block], d(a, n) summed over the triplets.
  """

  loss: typing.Array
  weights: typing.Array
  terms: typing.Array
  active: typing.Array
  positive_distance: typing.Array
  negative_distance: typing.Array


def identities(labels: typing.ArrayLike) -> Identities:
  """Sorts a batch by identity.

  Args:
    labels: int [batch]; below 0 where nobody knows who it is, see
      `choices.people`.

  Raises:
    ValueError: if labels are no whole numbers.

  >>> found = identities(jnp.array([7, 5, 7]))
  >>> found.order.tolist(), found.first.tolist(), found.size.tolist()
  ([1, 0, 2], [1, 0, 1], [2, 1, 2])
  >>> found.without_positive().item()
  0.5
  """
  labels = choices.people(labels)
  order = jnp.argsort(labels, stable=True).astype(jnp.int32)
  ordered = labels[order]
  first = jnp.searchsorted(ordered, labels, side="left")
  last = jnp.searchsorted(ordered, labels, side="right")
  size = (last - first).astype(jnp.int32)
  return Identities(labels, order, first.astype(jnp.int32), size)


def nothing(distances: typing.Array) -> Weights:
  """The sums of no triplets, for distances [block, batch]."""
  zero = jnp.zeros_like(distances[:, 0])
  none = zero.astype(jnp.int32)
  return Weights(zero, jnp.zeros_like(distances), none, none, zero, zero)


def weigh(
  distances: typing.Array,
  anchors: typing.Array,
  batch: Identities,
  *,
  mining: triplet.Mining,
  margin: float,
  key: typing.PRNGKey | None = None,
) -> Weights:
  """Mines triplets of some anchors with the whole batch; see `triplet.mine`.

  Takes as many passes over the distances as the largest identity among the
  anchors has examples ("hard": one); no pass sorts.

  Args:
    distances: [block, batch], from the anchors.
    anchors: int32 [block], their numbers in the batch.
    batch: of `identities`.
    mining: the rule.
    margin: not below 0, in the units of the distances.
    key: of the random rule; of the batch, not of the block.

  Raises:
    ValueError: if there is no such mining, no key for the random rule, or
      margin is below 0.

  >>> people = identities(jnp.array([0, 0, 1]))
  >>> far = jnp.array([[0.0, 2.0, 0.8]])
  >>> found = weigh(far, jnp.array([0]), people, mining="all", margin=0.25)
  >>> [round(v, 4) for v in found.loss.tolist()], found.weights.tolist()
  ([1.45], [[0.0, 1.0, -1.0]])
  """
  triplet.check_rule(mining, key, margin=margin)
  alike = batch.labels[anchors][:, None] == batch.labels[None, :]
  others = jnp.where(alike, jnp.inf, distances)
  total = nothing(distances)
  everyone = jnp.arange(distances.shape[1], dtype=jnp.int32)
  if mining == "hard":
    mates = alike & (anchors[:, None] != everyone[None, :])
    farthest = jnp.where(mates, distances, -jnp.inf).argmax(axis=1)
    found = mates.any(axis=1) & ~alike.all(axis=1)
    nearest = others.argmin(axis=1)
    return _add_one(total, distances, farthest, nearest, found, margin)

  fallback = None
  if mining == "tensorflow":
    fallback = jnp.where(alike, -jnp.inf, distances).argmax(axis=1)
  first, size = batch.first[anchors], batch.size[anchors]

  def step(number, total):
    positive = batch.order[first + jnp.minimum(number, size - 1)]
    paired = (number < size) & (positive != anchors)
    kept = _candidates(distances, others, positive, mining, margin)
    kept &= paired[:, None]
    if mining in ("all", "semi_hard"):
      return _add_all(total, distances, others, positive, kept, margin)
    found = kept.any(axis=1)
    if mining == "random":
      assert key is not None
      drawn = triplet.shuffled(key, anchors, positive, count=everyone.size)
      negative = _first_lowest(jnp.where(kept, drawn, triplet.LAST))
    else:
      negative = _first_lowest(jnp.where(kept, others, jnp.inf))
    if fallback is not None:
      negative = jnp.where(found, negative, fallback)
      found = paired & ~alike.all(axis=1)
    return _add_one(total, distances, positive, negative, found, margin)

  return jax.lax.fori_loop(0, size.max(), step, total)


def _candidates(distances, others, positive, mining, margin):
  """Which negatives the rule takes, or chooses from, beside each positive."""
  near = jnp.take_along_axis(distances, positive[:, None], axis=1)
  # A NaN is a candidate of no rule but "all", as the specification has it.
  kept = others != jnp.inf
  if mining not in ("all", "random"):
    kept &= near < others
  if mining not in ("all", "tensorflow"):
    kept &= others < near + margin
  return kept


def _add_all(total, distances, others, positive, kept, margin):
  """With the triplets of one positive and all negatives kept, [block, batch]."""
  rows = jnp.arange(positive.size)
  near = distances[rows, positive]
  gap = near[:, None] - others + margin
  active = kept & (gap > 0)
  terms, count = (x.sum(axis=1, dtype=jnp.int32) for x in (kept, active))
  weights = total.weights - active
  return Weights(
    loss=total.loss + jnp.where(kept, jax.nn.relu(gap), 0).sum(axis=1),
    weights=weights + _at(positive, count, like=weights),
    terms=total.terms + terms,
    active=total.active + count,
    positive_distance=total.positive_distance + terms * near,
    negative_distance=total.negative_distance
    + jnp.where(kept, others, 0).sum(axis=1),
  )


def _add_one(total, distances, positive, negative, found, margin):
  """With one triplet of each anchor, where found [block]."""
  rows = jnp.arange(positive.size)
  near, far = distances[rows, positive], distances[rows, negative]
  gap = near - far + margin
  active = found & (gap > 0)
  weights = total.weights + _at(positive, active, like=total.weights)
  return Weights(
    loss=total.loss + jnp.where(found, jax.nn.relu(gap), 0),
    weights=weights - _at(negative, active, like=weights),
    terms=total.terms + found,
    active=total.active + active,
    positive_distance=total.positive_distance + jnp.where(found, near, 0),
    negative_distance=total.negative_distance + jnp.where(found, far, 0),
  )


def _at(places, values, *, like):
  """[block, batch] with one value in each row, and zeros.

  In a loop XLA's CPU backend copies what is scattered into, and fuses this.
  """
  everywhere = jnp.arange(like.shape[1], dtype=places.dtype)
  hit = places[:, None] == everywhere[None, :]
  return jnp.where(hit, values.astype(like.dtype)[:, None], 0)


def _first_lowest(x):
  """argmin along the last axis, of what holds no NaN; the first if equal.

  In two passes that a CPU runs with vectors, a sixth of the time of argmin.
  """
  lowest = x.min(axis=1, keepdims=True)
  places = jnp.arange(x.shape[1], dtype=jnp.int32)[None, :]
  return jnp.where(x == lowest, places, x.shape[1] - 1).min(axis=1)
