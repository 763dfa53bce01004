"""Triplet loss with anchors split over devices and partners from everywhere.

Each device gathers the embeddings of the batch once and mines for its own
anchors, block by block. The backward pass mines again, so that no array of all
distances is kept; it ends with two matmuls a block, and the gradient of all
others goes back to their devices in one exchange.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from facejax.head import anchor_blocks
from facejax.losses import anchors, choices
from facejax.losses import mining as mining_lib
from facejax.losses import triplet as triplet_lib
from facejax.runtime import mesh as mesh_lib
from facejax.runtime import typing, unit_vectors

P = jax.P

# Bytes of [block, batch] in one array; a handful of them are held.
_CPU_BLOCK = 2**21
_BLOCK = 2**25


class Statistics(NamedTuple):
  """What mining found in a batch; scalars.

  Attributes:
    selected: number of triplets.
    active_share: share of them with a hinge above 0.
    without_positive: share of the identities that have a single example.
    positive_distance: mean d(a, p) over the triplets, 0 without any.
    negative_distance: mean d(a, n).
  """

  selected: typing.Array
  active_share: typing.Array
  without_positive: typing.Array
  positive_distance: typing.Array
  negative_distance: typing.Array


def block_size(*, batch: int, rows: int, platform: str) -> int:
  """Anchors a block: near 2 MiB of distances on a CPU, 32 MiB elsewhere.

  Args:
    batch: examples on all devices together.
    rows: anchors of one device.
    platform: "cpu", "gpu" or "tpu".

  >>> block_size(batch=1800, rows=1800, platform="cpu")
  291
  """
  room = _CPU_BLOCK if platform == "cpu" else _BLOCK
  return min(rows, max(8, room // (4 * batch)))


def triplet(
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  mesh: jax.sharding.Mesh,
  margin: float,
  mining: triplet_lib.Mining,
  distance: anchors.Distance = "squared",
  key: typing.PRNGKey | None = None,
  block_size: int | None = None,
) -> tuple[anchors.AnchorLoss, Statistics]:
  """Same values, choices and gradients as `losses.triplet`, in blocks.

  Args:
    embeddings: [batch, dim], of any length, sharded P(("data", "model")).
    labels: int [batch].
    mesh: a mesh with axes "data" and "model", whose size divides the batch.
    margin: not below 0, in the units of the distance.
    mining: the rule; see `losses.triplet.mine`.
    distance: "squared", "euclidean" or "angle".
    key: of the random rule, whose choice does not depend on the mesh.
    block_size: anchors a block; None for the rule of `block_size`.

  Returns:
    The hinges of each anchor [batch], in the order of the batch, NaN where its
    embedding is; and what was found, without gradient.

  Raises:
    ValueError: if the batch does not divide, an option is unknown, the margin
      is below 0, or the random rule has no key.
  """
  triplet_lib.check_rule(mining, key, margin=margin)
  choices.check("distance", distance, anchors.Distance)
  plan = anchor_blocks.AnchorPlan(
    mining=mining,
    margin=margin,
    distance=distance,
    size=_size(embeddings.shape[0], mesh, block_size),
  )
  # XLA keeps a collective over an axis of one device.
  axes = tuple(name for name in ("data", "model") if mesh.shape[name] > 1)
  units = unit_vectors.l2_normalize(
    embeddings.astype(jnp.promote_types(embeddings.dtype, jnp.float32))
  )
  people = mining_lib.identities(labels)

  def on_shard(
    units: typing.Array, people: mining_lib.Identities, key: Any
  ) -> mining_lib.Weights:
    # Anchors are this device's, partners those of all: the transpose of the
    # gather sums what partners get, and sends each device its own.
    first, everyone = jnp.int32(0), units
    if axes:
      first = jax.lax.axis_index(axes) * jnp.int32(units.shape[0])
      everyone = jax.lax.all_gather(units, axes, tiled=True)
    return anchor_blocks.mined(
      plan, units, everyone, anchor_blocks.AnchorBatch(people, first, key)
    )

  found = jax.shard_map(
    on_shard, mesh=mesh, in_specs=(P(axes), P(), P()), out_specs=P(axes)
  )(units, people, key)
  # Most rules select nothing there, and the loss of a net that has become NaN
  # would be 0.
  invalid = jnp.isnan(units).any(axis=1)
  loss = jnp.where(invalid, jnp.nan, found.loss)
  values = anchors.AnchorLoss(loss, found.terms, found.active)
  return values, jax.lax.stop_gradient(_statistics(found, people))


def _size(batch: int, mesh: jax.sharding.Mesh, size: int | None) -> int:
  """Anchors a block: as told, or by the rule."""
  mesh_lib.check_batch(batch, mesh)
  rows = batch // mesh.size
  if size is None:
    platform = mesh_lib.platform(mesh)
    return block_size(batch=batch, rows=rows, platform=platform)
  if size < 1:
    raise ValueError(f"block_size={size}: must be 1 or more")
  return min(size, rows)


def _statistics(
  found: mining_lib.Weights, people: mining_lib.Identities
) -> Statistics:
  """Sums over the anchors of all devices, as shares and means."""
  dtype = found.loss.dtype
  # Added up as floats: there may be more triplets than an int32 holds.
  selected = found.terms.astype(dtype).sum()
  each = 1 / jnp.maximum(selected, 1)
  return Statistics(
    selected=selected,
    active_share=found.active.astype(dtype).sum() * each,
    without_positive=people.without_positive(),
    positive_distance=found.positive_distance.sum() * each,
    negative_distance=found.negative_distance.sum() * each,
  )
