"""Every example of a batch as the anchor of pairs with the others.

What triplet and pairwise losses share: cosines, distances, which pairs show
one identity, and what they return. Embeddings are scaled to unit length in
here; a zero vector has the cosine 0 with everything.

Partners may come from batches before this one as well, `Past`: they stand
behind those of the batch, as further columns, and carry no gradient.
"""

from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from facejax.losses import choices
from facejax.runtime import typing, unit_vectors

Distance: TypeAlias = Literal["squared", "euclidean", "angle"]
Over: TypeAlias = Literal["all", "active"]


class AnchorLoss(NamedTuple):
  """The terms of a loss, gathered by the example that they start from.

  Sums, so that anchors spread over devices or taken in blocks add up.

  Attributes:
    loss: [batch], sum of the terms of this anchor; 0 if it has none.
    terms: int [batch], how many there are.
    active: int [batch], how many of them are above 0.
  """

  loss: typing.Array
  terms: typing.Array
  active: typing.Array


class Past(NamedTuple):
  """Embeddings of earlier batches, as partners of the anchors of this one.

  Attributes:
    embeddings: [size, dim], of any length.
    labels: int [size]; below 0 where nobody knows who it is.
    held: bool [size], which rows hold an embedding.
  """

  embeddings: typing.Array
  labels: typing.Array
  held: typing.Array


def mean(values: AnchorLoss, *, over: Over = "all") -> typing.Array:
  """The mean over all terms of a batch, [], or 0 if there are none.

  Args:
    values: what a loss returned.
    over: all terms, or the active ones alone: as the batch is learned, the
      mean over all fades, that over the active ones does not.

  Raises:
    ValueError: if `over` is neither.

  >>> two = jnp.array([2, 0]), jnp.array([1, 0])
  >>> float(mean(AnchorLoss(jnp.array([3.0, 0.0]), *two)))
  1.5
  """
  choices.check("over", over, Over)
  terms = values.terms if over == "all" else values.active
  # Added up as floats: there are batch^3 triplets, more than an int32 holds.
  total = terms.astype(values.loss.dtype).sum()
  return values.loss.sum() / jnp.maximum(total, 1)


def one_term(value: typing.Array, kept: typing.Array) -> AnchorLoss:
  """Losses [batch] of one term an anchor; none where not `kept`."""
  value = jnp.where(kept, value, 0)
  return AnchorLoss(
    value, kept.astype(jnp.int32), (value > 0).astype(jnp.int32)
  )


def log_sum_exp(
  logits: typing.Array, where: typing.Array, *, axis: int = -1
) -> typing.Array:
  """Over an axis; very negative, but finite, where nothing is kept.

  >>> float(log_sum_exp(jnp.zeros(4), jnp.array([True, False, False, False])))
  0.0
  """
  # Half of it, so that the sum of two such values is finite too.
  nothing = jnp.finfo(logits.dtype).min / 2
  return jax.nn.logsumexp(jnp.where(where, logits, nothing), axis=axis)


def cosines(
  embeddings: typing.ArrayLike, past: Past | None = None
) -> typing.Array:
  """Cosines of all pairs, in float32 at least.

  Args:
    embeddings: [batch, dim], of any length.
    past: further partners; None for those of the batch alone.

  Returns:
    [batch, batch], or [batch, batch + size] with a past.

  >>> cosines(jnp.array([[2.0, 0.0], [0.0, 1.0]])).tolist()
  [[1.0, 0.0], [0.0, 1.0]]
  """
  units = _units(embeddings)
  partners = units
  if past is not None:
    held = jax.lax.stop_gradient(_units(past.embeddings))
    partners = jnp.concatenate([units, held.astype(units.dtype)])
  return jnp.matmul(units, partners.T, precision=jax.lax.Precision.HIGHEST)


def _units(embeddings: typing.ArrayLike) -> typing.Array:
  x = jnp.asarray(embeddings)
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  return unit_vectors.l2_normalize(x)


def distance(cosine: typing.Array, *, kind: Distance) -> typing.Array:
  r"""The distance of unit vectors from their cosine c.

  .. math::
    \text{squared: } 2 - 2c, \qquad \text{euclidean: } \sqrt{2 - 2c}, \qquad
    \text{angle: } \arccos c

  The slopes of the last two are infinite where the vectors coincide (that of
  the angle also where they are opposite). Nearer than rounding can tell, the
  distance is taken for 0 (or pi) and has no gradient.

  Args:
    cosine: any shape; a rounding error outside of [-1, 1] is clipped.
    kind: see above; angles are in radians.

  Returns:
    Distances of the same shape.

  Raises:
    ValueError: if there is no such kind.

  >>> float(distance(jnp.array(-1.0), kind="euclidean"))
  2.0
  """
  choices.check("distance", kind, Distance)
  if kind == "squared":
    return jnp.maximum(2 - 2 * cosine, 0)
  # Equal vectors of 1024 dimensions come out up to 8 eps off.
  tiny = 32 * jnp.finfo(cosine.dtype).eps
  # Both branches of `where` must be finite, or their gradient is NaN.
  if kind == "euclidean":
    apart = 1 - cosine > tiny
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, 2 - 2 * cosine, 1)), 0)
  inside = 1 - jnp.abs(cosine) > tiny
  ends = jnp.where(cosine > 0, 0, jnp.pi).astype(cosine.dtype)
  return jnp.where(inside, jnp.arccos(jnp.where(inside, cosine, 0)), ends)


def distances(
  embeddings: typing.ArrayLike, *, kind: Distance = "squared"
) -> typing.Array:
  """Distances of all pairs, [batch, batch]; see `cosines` and `distance`.

  >>> distances(jnp.array([[2.0, 0.0], [0.0, 1.0]])).tolist()
  [[0.0, 2.0], [2.0, 0.0]]
  """
  return distance(cosines(embeddings), kind=kind)


def pairs(
  labels: typing.ArrayLike, past: Past | None = None
) -> tuple[typing.Array, typing.Array]:
  """Which examples are positives and which negatives of each anchor.

  Args:
    labels: int [batch]; below 0 where nobody knows who it is, see
      `choices.people`.
    past: further partners; None for those of the batch alone.

  Returns:
    Two bool [batch, batch], of the same identity and of another; an example
    is neither to itself. With a past [batch, batch + size]; a row that holds
    nothing is neither to anybody.

  Raises:
    ValueError: if labels are no whole numbers.

  >>> [mask.sum().item() for mask in pairs(jnp.array([5, 5, 7]))]
  [2, 4]
  """
  labels = choices.labels(labels)
  batch = len(labels)
  others = jnp.ones(batch, bool)
  if past is not None:
    labels = jnp.concatenate([labels, past.labels.astype(labels.dtype)])
    others = jnp.concatenate([others, past.held])
  # Strangers are people apart, those of the past too.
  labels = choices.people(labels)
  same = labels[:batch, None] == labels[None, :]
  others = others[None, :] & ~jnp.eye(batch, len(labels), dtype=bool)
  return same & others, ~same & others
