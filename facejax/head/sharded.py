"""The head with its prototypes split by class over the mesh axis "model".

Each device holds a block of classes and sees all embeddings of its row of the
mesh. Two numbers an example cross the devices: the partial sum of exponentials
and the cosine of the true class, which only its owner has. All collectives of
the project's losses are in this file.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from facejax import typing
from facejax.head import reference
from facejax.losses import geometry

P = jax.P

# exp() of the largest logit, summed over the classes, must fit float32
# (e^88), and that of the smallest must not vanish (e^-87).
_SAFE_EXPONENT = 80.0


def margin_softmax(
  prototypes: typing.Array,
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  margin: Callable[[typing.Array], typing.Array],
  scale: float,
  num_classes: int,
  mesh: jax.sharding.Mesh,
) -> reference.HeadOutput:
  """Same values and gradients as `reference.margin_softmax`, on a mesh.

  Loss = softplus(z - s phi(c_y)) with z the log-sum-exp over the other
  classes: exact, and without cancellation when the loss is tiny.

  Args:
    prototypes: [padded_classes, dim], sharded P("model"). Rows from
      `num_classes` on are padding and take no part.
    embeddings: [batch, dim], sharded P(("data", "model")).
    labels: int [batch], sharded like the embeddings.
    margin: phi, maps [batch] cosines to [batch].
    scale: s > 0.
    num_classes: the true number of classes.
    mesh: a mesh with axes "data" and "model".

  Returns:
    Values for each example, in the order of the batch.
  """
  body = functools.partial(
    _on_shard, margin=margin, scale=scale, num_classes=num_classes
  )
  return jax.shard_map(
    body,
    mesh=mesh,
    in_specs=(P("model"), P(("data", "model")), P(("data", "model"))),
    out_specs=P("data"),
  )(prototypes, embeddings, labels)


def _on_shard(prototypes, embeddings, labels, *, margin, scale, num_classes):
  embeddings = jax.lax.all_gather(embeddings, "model", tiled=True)
  labels = jax.lax.all_gather(labels, "model", tiled=True)
  cosine = jnp.matmul(
    geometry.l2_normalize(embeddings),
    geometry.l2_normalize(prototypes).T,
    precision=reference.PRECISION,
  )
  first = jax.lax.axis_index("model") * prototypes.shape[0]
  class_id = first + jnp.arange(prototypes.shape[0])
  # A label of another shard matches no column here.
  is_target = labels[:, None] == class_id[None, :]
  is_other = ~is_target & (class_id < num_classes)[None, :]
  nearest = jax.lax.pmax(
    jax.lax.stop_gradient(jnp.where(is_other, cosine, -jnp.inf).max(axis=1)),
    "model",
  )
  shift = _shift(nearest, scale, num_classes)
  exponentials = jnp.where(
    is_other, jnp.exp(scale * cosine - shift[:, None]), 0
  )
  # One all-reduce of [2, batch].
  partial = jnp.stack(
    [exponentials.sum(axis=1), jnp.where(is_target, cosine, 0).sum(axis=1)]
  )
  total, target_cosine = jax.lax.psum(partial, "model")
  # A single class has no others: the sum is zero and so is the loss.
  tiny = np.finfo(np.float32).tiny
  others = shift + jnp.log(jnp.maximum(total, tiny))
  return reference.HeadOutput(
    loss=jax.nn.softplus(others - scale * margin(target_cosine)),
    target_cosine=jax.lax.stop_gradient(target_cosine),
    correct=target_cosine >= nearest,
  )


def _shift(nearest, scale: float, num_classes: int) -> typing.Array:
  if fits_float32(scale, num_classes):
    return jnp.zeros_like(nearest)
  return jnp.where(jnp.isfinite(nearest), scale * nearest, 0)


def fits_float32(scale: float, num_classes: int) -> bool:
  """Whether the sum of e^(s c_j) needs no shift: |s c| <= s is known.

  >>> fits_float32(64.0, 1_000_000), fits_float32(128.0, 10)
  (True, False)
  """
  return scale + math.log(num_classes) < _SAFE_EXPONENT


def gather_units(embeddings: typing.Array) -> typing.Array:
  """Unit embeddings of all devices along "model"; inside shard_map."""
  embeddings = embeddings.astype(jnp.float32)
  return geometry.l2_normalize(
    jax.lax.all_gather(embeddings, "model", tiled=True)
  )


def to_shard(
  labels: typing.Array, *, rows: int, num_classes: int
) -> tuple[typing.Array, typing.Array]:
  """The labels of `gather_units`, counted from this shard's first class.

  Args:
    labels: int [batch], this device's.
    rows: rows of the shard.
    num_classes: the true number of classes, over all shards.

  Returns:
    int32 labels, outside [0, rows) where another shard owns the class, and
    the number of this shard's rows that are classes; the others are padding.
  """
  labels = jax.lax.all_gather(labels.astype(jnp.int32), "model", tiled=True)
  first = jax.lax.axis_index("model") * rows
  return labels - first, num_classes - first


def sum_over_data(gradient: typing.Array) -> typing.Array:
  """The sum over the copies of a shard; inside shard_map."""
  if jax.lax.axis_size("data") == 1:
    return gradient
  return jax.lax.psum(gradient, "data")


def specs(
  mesh: jax.sharding.Mesh,
) -> tuple[jax.sharding.PartitionSpec, jax.sharding.PartitionSpec]:
  """How a batch enters the shards and how its values leave them.

  An axis of one device is left out: XLA keeps a collective over it, and with
  it a copy of what it sums.
  """
  data = ("data",) if mesh.shape["data"] > 1 else ()
  return P((*data, "model")), P(data)


def combine(
  log_sum: typing.Array,
  target_cosine: typing.Array,
  nearest: typing.Array,
  *,
  margin: Callable[[typing.Array], typing.Array],
  scale: float,
  num_classes: int,
) -> reference.HeadOutput:
  """The loss, from what each shard knows; inside shard_map, differentiable.

  Args:
    log_sum: [batch], log-sum-exp over this shard's other classes, or -inf.
    target_cosine: [batch], 0 where another shard owns the class.
    nearest: [batch], the largest cosine of this shard's other classes.
    margin: phi, maps [batch] cosines to [batch].
    scale: s > 0.
    num_classes: the true number of classes.
  """
  nearest = jax.lax.pmax(jax.lax.stop_gradient(nearest), "model")
  shift = _shift(nearest, scale, num_classes)
  # One all-reduce of [2, batch].
  partial = jnp.stack([jnp.exp(log_sum - shift), target_cosine])
  total, target_cosine = jax.lax.psum(partial, "model")
  # A single class has no others: the sum is zero and so is the loss.
  others = shift + jnp.log(jnp.where(total > 0, total, 1))
  target = scale * margin(target_cosine)
  return reference.HeadOutput(
    loss=jnp.where(total > 0, jax.nn.softplus(others - target), 0),
    target_cosine=jax.lax.stop_gradient(target_cosine),
    correct=target_cosine >= nearest,
  )
