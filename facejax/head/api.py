"""Entry point of the head: prototypes and the loss over them."""

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp

from facejax import typing
from facejax.head import chunked, reference, sharded

Implementation: TypeAlias = Literal["sharded", "chunked", "dense"]

# Classes whose random rows are drawn at once: bounds the extra memory.
_INIT_BLOCK = 65_536


def padded_classes(num_classes: int, shards: int) -> int:
  """Rows of the prototype matrix: num_classes, rounded up to the shards.

  >>> padded_classes(1183, 8)
  1184
  """
  return -(-num_classes // shards) * shards


def init_prototypes(
  key: typing.PRNGKey,
  *,
  num_classes: int,
  dim: int,
  mesh: jax.sharding.Mesh,
) -> typing.Array:
  """Prototypes N(0, 0.01^2), row j drawn from (key, class id j) alone.

  So the start does not depend on the mesh. Each device draws its own rows, in
  blocks: no more than the result itself is ever held.

  Args:
    key: of the run.
    num_classes: the true number of classes.
    dim: size of the embeddings.
    mesh: with axis "model".

  Returns:
    [padded_classes(num_classes, mesh.shape["model"]), dim] float32, sharded
    P("model"); rows beyond num_classes are zero and stay so in training.
  """
  rows = padded_classes(num_classes, mesh.shape["model"])

  def row(class_id):
    value = 0.01 * jax.random.normal(jax.random.fold_in(key, class_id), (dim,))
    return jnp.where(class_id < num_classes, value, 0)

  def on_shard(class_ids):
    block = min(class_ids.shape[0], _INIT_BLOCK)
    return jax.lax.map(row, class_ids, batch_size=block)

  spec = jax.P("model")
  draw = jax.shard_map(on_shard, mesh=mesh, in_specs=spec, out_specs=spec)
  return draw(jnp.arange(rows))


def head_loss(
  prototypes: typing.Array,
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  margin: Callable[[typing.Array], typing.Array],
  scale: float,
  num_classes: int,
  mesh: jax.sharding.Mesh,
  implementation: Implementation = "sharded",
) -> reference.HeadOutput:
  """Margin softmax loss of a batch, computed in float32.

  Args:
    prototypes: [rows, dim], rows >= num_classes, sharded by class.
    embeddings: [batch, dim].
    labels: int [batch].
    margin: phi, from `losses.margins` with its parameters bound.
    scale: s > 0.
    num_classes: the true number of classes.
    mesh: with axes "data" and "model".
    implementation: "sharded" writes out the logits of each device's own
      classes; "chunked" makes them block by block and again in the backward
      pass, so that memory beside the prototypes and their gradient does not
      grow with the classes; "dense" writes all logits out on every device and
      is the specification. All are exact.

  Returns:
    Loss, target cosine and hit for each example.

  Raises:
    ValueError: if the implementation is unknown or there are fewer rows than
      classes.
  """
  if prototypes.shape[0] < num_classes:
    raise ValueError(
      f"prototypes have {prototypes.shape[0]} rows, fewer than"
      f" num_classes={num_classes}"
    )
  embeddings = embeddings.astype(jnp.float32)
  if implementation == "dense":
    return reference.margin_softmax(
      prototypes[:num_classes], embeddings, labels, margin=margin, scale=scale
    )
  if implementation not in get_args(Implementation):
    raise ValueError(
      f"implementation={implementation!r}: choose one of"
      f" {get_args(Implementation)}"
    )
  module = chunked if implementation == "chunked" else sharded
  return module.margin_softmax(
    prototypes,
    embeddings,
    labels,
    margin=margin,
    scale=scale,
    num_classes=num_classes,
    mesh=mesh,
  )
