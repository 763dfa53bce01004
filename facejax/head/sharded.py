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
  # |s c| <= s, so no shift is needed while sums of e^(+-s) are safe.
  if scale + math.log(num_classes) < _SAFE_EXPONENT:
    return jnp.zeros_like(nearest)
  return jnp.where(jnp.isfinite(nearest), scale * nearest, 0)
