"""Exact margin softmax, block by block over the classes.

Nothing of size [batch, classes] exists, forward or backward: a block of logits
is made, reduced to a few numbers an example and made again for the gradient.
The target is one cosine an example, so margins are applied outside, to [batch].
The functions below see one shard; what crosses devices is in `sharded`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from facejax import typing
from facejax.head import blocks, reference, sharded

P = jax.P

_EPSILON = 1e-12


class Plan(NamedTuple):
  """How a shard is worked through; static.

  Attributes:
    scale: s > 0.
    size: classes a block.
    running: keep a running maximum, where sums of e^(s c) would overflow.
  """

  scale: float
  size: int
  running: bool


class Statistics(NamedTuple):
  """What the classes of a shard say about each example, all [batch] float32.

  Attributes:
    log_sum: log of the sum of e^(s c_j) over classes other than the target;
      -inf where there is none.
    target_cosine: c_y, or 0 where another shard owns the class.
    nearest: the largest c_j over the others, -2 where there is none; carries
      no gradient.
  """

  log_sum: typing.Array
  target_cosine: typing.Array
  nearest: typing.Array


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
    units = sharded.gather_units(embeddings)
    labels, valid = sharded.to_shard(
      labels, rows=prototypes.shape[0], num_classes=num_classes
    )
    return sharded.combine(
      *statistics(plan, prototypes, units, labels, valid),
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
) -> Plan:
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
  return Plan(scale=scale, size=min(size, rows), running=running)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def statistics(
  plan: Plan,
  prototypes: typing.Array,
  units: typing.Array,
  labels: typing.Array,
  valid: typing.Array,
) -> Statistics:
  """Reduces a shard's logits to three numbers an example.

  Args:
    plan: see there.
    prototypes: [rows, dim], this shard's.
    units: [batch, dim], unit embeddings.
    labels: int32 [batch], row of the target; outside [0, rows) where another
      shard owns it.
    valid: int32, rows from here on are padding.
  """

  def body(block, carry):
    total, highest = carry
    w = block.take(prototypes)
    z = logits(w, inverse_norms(w), units, scale=plan.scale)
    counts = block.fresh & (block.rows < valid)
    is_other = counts[:, None] & (block.rows[:, None] != labels[None, :])
    z = jnp.where(is_other, z, -jnp.inf)
    new_highest = jnp.maximum(highest, z.max(axis=0))
    if not plan.running:
      return total + jnp.exp(z).sum(axis=0), new_highest
    total = total * jnp.exp(highest - new_highest)
    total = total + jnp.exp(z - new_highest[None, :]).sum(axis=0)
    return total, new_highest

  nothing = jnp.zeros_like(units[:, 0])
  total, highest = blocks.loop(
    body,
    (nothing, nothing - 2 * plan.scale),
    rows=prototypes.shape[0],
    size=plan.size,
  )
  return Statistics(
    log_sum=jnp.log(total) + (highest if plan.running else 0.0),
    target_cosine=_target_cosine(prototypes, units, labels),
    nearest=highest / plan.scale,
  )


def _forward(plan, prototypes, units, labels, valid):
  output = statistics(plan, prototypes, units, labels, valid)
  return output, (prototypes, units, labels, valid, output.log_sum)


def _backward(plan, residuals, cotangents):
  prototypes, units, labels, valid, log_sum = residuals
  gradient = functools.partial(
    block_gradient, plan, units, labels, valid, log_sum, cotangents
  )

  def body(block, carry):
    d_prototypes, d_units = carry
    d_block, d_partial = gradient(block, block.take(prototypes))
    d_block = block.keep_stale(d_block, block.take(d_prototypes))
    return block.put(d_prototypes, d_block), d_units + d_partial

  start = jnp.zeros_like(prototypes), jnp.zeros_like(units)
  d_prototypes, d_units = blocks.loop(
    body, start, rows=prototypes.shape[0], size=plan.size
  )
  return d_prototypes, d_units, None, None


statistics.defvjp(_forward, _backward)


def block_gradient(
  plan: Plan,
  units: typing.Array,
  labels: typing.Array,
  valid: typing.Array,
  log_sum: typing.Array,
  cotangents: Statistics,
  block: blocks.Block,
  w: typing.Array,
) -> tuple[typing.Array, typing.Array]:
  """Pulls the cotangents of `statistics` back to one block.

  With g the cotangent of log_sum, h that of the target cosine and w_j = row j:

  .. math::
    G_{ji} = s e^{s c_{ji} - \\mathrm{log\\_sum}_i} g_i \\;(j \\ne y_i)
    \\quad\\text{or}\\quad h_i \\;(j = y_i), \\qquad
    q_j = \\sum_i G_{ji} u_i / \\lVert w_j \\rVert, \\qquad
    dw_j = q_j - (q_j \\cdot \\hat w_j) \\hat w_j

  Returns:
    [size, dim] gradient of the block's prototypes, zero where not fresh,
    summed over "data"; and its part [batch, dim] of the gradient of `units`.
  """
  inverse = inverse_norms(w)
  z = logits(w, inverse, units, scale=plan.scale)
  # No sum is below its smallest possible term: true but for the -inf of an
  # empty one, which would make inf * 0 of masked rows.
  share = jnp.exp(z - jnp.maximum(log_sum, -plan.scale)[None, :])
  share = share * (plan.scale * cotangents.log_sum)[None, :]
  is_target = block.rows[:, None] == labels[None, :]
  g = jnp.where(is_target, cotangents.target_cosine[None, :], share)
  counts = block.fresh & (block.rows < valid)
  g = jnp.where(counts[:, None], g * inverse[:, None], 0)
  d_units = jnp.matmul(g.T, w, precision=reference.PRECISION)
  q = jnp.matmul(g, units, precision=reference.PRECISION)
  radial = (q * w).sum(axis=1) * inverse * inverse
  d_w = sharded.sum_over_data(q - radial[:, None] * w)
  return d_w, d_units


def logits(
  w: typing.Array,
  inverse: typing.Array,
  units: typing.Array,
  *,
  scale: float,
) -> typing.Array:
  """s c [size, batch]: norm and scale multiply the product, not w."""
  product = jnp.matmul(w, units.T, precision=reference.PRECISION)
  return product * (scale * inverse)[:, None]


def inverse_norms(w: typing.Array) -> typing.Array:
  """1 / ||w_j|| [size]; 0 for a zero row, whose gradient is then 0 too."""
  square = (w * w).sum(axis=1)
  tiny = _EPSILON**2
  return jnp.where(square > tiny, jax.lax.rsqrt(jnp.maximum(square, tiny)), 0)


def _target_cosine(prototypes, units, labels):
  rows = prototypes.shape[0]
  mine = (labels >= 0) & (labels < rows)
  w = prototypes[jnp.clip(labels, 0, rows - 1)]
  cosine = (w * units).sum(axis=1) * inverse_norms(w)
  return jnp.where(mine, cosine, 0)
