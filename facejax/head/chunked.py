"""Exact margin softmax, block by block over the classes.

The target is one cosine an example, so the margin is applied to [batch] numbers
in ordinary differentiable code; the other classes are one log-sum-exp, whose
blocks `statistics` makes and `sharded` sums over the devices.
"""

from collections.abc import Callable

import jax

from facejax import typing
from facejax.head import blocks, reference, sharded, statistics

P = jax.P


def margin_softmax(
  prototypes: typing.Array,
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  margin: Callable[[typing.Array], typing.Array],
  scale: float,
  num_classes: int,
  mesh: jax.sharding.Mesh,
  block_size: int | None = None,
) -> reference.HeadOutput:
  """Same values and gradients as `reference.margin_softmax`, in blocks.

  Args:
    prototypes: [padded_classes, dim], sharded P("model"). Rows from
      `num_classes` on are padding and take no part.
    embeddings: [batch, dim], sharded P(("data", "model")).
    labels: int [batch], sharded like the embeddings.
    margin: phi, maps [batch] cosines to [batch].
    scale: s > 0.
    num_classes: the true number of classes.
    mesh: a mesh with axes "data" and "model".
    block_size: classes a block; None for the rule of `blocks.block_size`.

  Returns:
    Values for each example, in the order of the batch.
  """
  plan = make_plan(
    prototypes.shape,
    embeddings.shape[0],
    scale=scale,
    num_classes=num_classes,
    mesh=mesh,
    block_size=block_size,
  )

  def on_shard(prototypes, embeddings, labels):
    batch = statistics.Batch(
      sharded.gather_units(embeddings),
      *sharded.to_shard(
        labels, rows=prototypes.shape[0], num_classes=num_classes
      ),
    )
    return sharded.combine(
      *statistics.of_shard(plan, prototypes, batch),
      margin=margin,
      scale=scale,
      num_classes=num_classes,
    )

  batch, values = sharded.specs(mesh)
  return jax.shard_map(
    on_shard,
    mesh=mesh,
    in_specs=(P("model"), batch, batch),
    out_specs=values,
  )(prototypes, embeddings, labels)


def make_plan(
  shape: tuple[int, ...],
  batch: int,
  *,
  scale: float,
  num_classes: int,
  mesh: jax.sharding.Mesh,
  block_size: int | None,
) -> statistics.Plan:
  """The plan of one shard, from prototypes of `shape` and a global batch."""
  rows = shape[0] // mesh.shape["model"]
  if block_size is not None and block_size < 1:
    raise ValueError(f"block_size={block_size}: must be 1 or more, or None")
  size = block_size or blocks.block_size(
    batch=batch // mesh.shape["data"],
    dim=shape[1],
    rows=rows,
    platform=mesh.devices.flat[0].platform,
  )
  running = not sharded.fits_float32(scale, num_classes)
  return statistics.Plan(scale=scale, size=min(size, rows), running=running)
