"""Triplets of one device's anchors, mined in blocks, and their gradient."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from facejax.head import blocks
from facejax.losses import anchors
from facejax.losses import mining as mining_lib
from facejax.losses import triplet as triplet_lib
from facejax.runtime import typing


@dataclasses.dataclass(frozen=True)
class AnchorPlan:
  """What is known before the arrays are."""

  mining: triplet_lib.Mining
  margin: float
  distance: anchors.Distance
  size: int


class AnchorBatch(NamedTuple):
  """What the blocks of a device share beside embeddings.

  Attributes:
    people: of the whole batch.
    first: number of this device's first anchor.
    key: of the random rule.
  """

  people: mining_lib.Identities
  first: typing.Array
  key: Any


# Unit vectors of a device and of all, and what its blocks share.
_Residuals: TypeAlias = tuple[typing.Array, typing.Array, AnchorBatch]


def _mine(
  plan: AnchorPlan,
  block: blocks.Block,
  units: typing.Array,
  everyone: typing.Array,
  batch: AnchorBatch,
) -> tuple[mining_lib.Weights, Callable[..., tuple[typing.Array]]]:
  """What is selected for the anchors of a block; from d distances to d cosines.

  Args:
    plan: see there.
    block: which anchors of this device.
    units: [size, dim], their unit vectors.
    everyone: [batch, dim], those of all devices.
    batch: see there.
  """
  # c_ij = u_i . u_j, [size, batch], and d_ij of it.
  cosines = jnp.matmul(units, everyone.T, precision=jax.lax.Precision.HIGHEST)
  distances, pull = jax.vjp(
    functools.partial(anchors.distance, kind=plan.distance), cosines
  )
  # The rule picks pairs; the hinges' sum over them has the derivative `weights`
  # by each distance.
  found = mining_lib.weigh(
    distances,
    batch.first + block.rows,
    batch.people,
    mining=plan.mining,
    margin=plan.margin,
    key=batch.key,
  )
  return found, pull


def _reduce(
  plan: AnchorPlan,
  units: typing.Array,
  everyone: typing.Array,
  batch: AnchorBatch,
) -> mining_lib.Weights:
  """`mining.Weights` of all anchors, without the weights."""
  walk = blocks.Walk(units.shape[0], plan.size)

  def body(
    block: blocks.Block, totals: mining_lib.Weights
  ) -> mining_lib.Weights:
    found, _ = _mine(plan, block, block.take(units), everyone, batch)
    # [size, batch] ends here; what stays is a few numbers an anchor.
    found = found._replace(weights=None)
    return jax.tree.map(
      lambda total, new: blocks.put(total, new, block.place), totals, found
    )

  start = mining_lib.nothing(units)._replace(weights=None)
  return walk.loop(body, start)


def _forward(
  plan: AnchorPlan,
  units: typing.Array,
  everyone: typing.Array,
  batch: AnchorBatch,
) -> tuple[mining_lib.Weights, _Residuals]:
  """`_reduce`, and its arguments, from which `_backward` mines again."""
  return _reduce(plan, units, everyone, batch), (units, everyone, batch)


def _backward(
  plan: AnchorPlan, residuals: _Residuals, d_output: mining_lib.Weights
) -> tuple[typing.Array, typing.Array, None]:
  """The gradient of the device's anchors, and of all embeddings as partners."""
  units, everyone, batch = residuals
  walk = blocks.Walk(units.shape[0], plan.size)
  high = jax.lax.Precision.HIGHEST

  def body(
    block: blocks.Block, carry: tuple[typing.Array, typing.Array]
  ) -> tuple[typing.Array, typing.Array]:
    d_units, d_everyone = carry
    own = block.take(units)
    found, pull = _mine(plan, block, own, everyone, batch)
    d_loss = block.take(d_output.loss)
    # Anchors that another block has had must not count twice for partners.
    d_loss = block.keep_stale(d_loss, jnp.zeros_like(d_loss))
    # With T the total: dT/dc_ij = dT/dL_i dL_i/dd_ij dd_ij/dc_ij.
    (d_cosines,) = pull(found.weights * d_loss[:, None])
    # du_i = sum_j dc_ij u_j, of an anchor once and for all ...
    d_own = jnp.matmul(d_cosines, everyone, precision=high)
    d_own = block.keep_stale(d_own, block.take(d_units))
    d_units = blocks.put(d_units, d_own, block.place)
    # ... and du_j += sum_i dc_ij u_i, of its partners, block by block.
    d_everyone += jnp.matmul(d_cosines.T, own, precision=high)
    return d_units, d_everyone

  start = jnp.zeros_like(units), jnp.zeros_like(everyone)
  return *walk.loop(body, start), None


mined = jax.custom_vjp(_reduce, nondiff_argnums=(0,))
mined.defvjp(_forward, _backward)
