"""What a shard's classes say about a batch, found block by block.

Nothing of size [batch, classes] exists, forward or backward: a block of logits
is made, reduced to a few numbers an example, and made again for the gradient.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from facejax import typing
from facejax.head import blocks, reference, sharded

# Squares of norms below this count as zero.
_TINY = 1e-24


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


class Batch(NamedTuple):
  """The examples, as one shard sees them.

  Attributes:
    units: [batch, dim] float32, unit embeddings.
    labels: int32 [batch], the target's row; outside [0, rows) where another
      shard owns it.
    valid: int32, how many rows are classes; later ones are padding.
  """

  units: typing.Array
  labels: typing.Array
  valid: typing.Array


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


def of_shard(plan: Plan, prototypes: typing.Array, batch: Batch) -> Statistics:
  """Reduces a shard's logits to three numbers an example.

  Args:
    plan: see there.
    prototypes: [rows, dim], this shard's.
    batch: see there.
  """
  return _differentiable(plan, prototypes, *batch)


def _reduce(plan: Plan, prototypes, units, labels, valid) -> Statistics:
  batch = Batch(units, labels, valid)

  def body(block, carry):
    total, highest = carry
    w = block.take(prototypes)
    z = _logits(w, _inverse_norms(w), units, plan.scale)
    counts, is_target = _masks(block, batch)
    z = jnp.where(counts & ~is_target, z, -jnp.inf)
    new_highest = jnp.maximum(highest, z.max(axis=0))
    if not plan.running:
      return total + jnp.exp(z).sum(axis=0), new_highest
    total = total * jnp.exp(highest - new_highest)
    total = total + jnp.exp(z - new_highest[None, :]).sum(axis=0)
    return total, new_highest

  nothing = jnp.zeros_like(units[:, 0])
  total, highest = blocks.loop(
    body,
    # Finite and below any logit, so that differences of it are numbers.
    (nothing, nothing - 2 * plan.scale),
    rows=prototypes.shape[0],
    size=plan.size,
  )
  return Statistics(
    log_sum=jnp.log(total) + (highest if plan.running else 0.0),
    target_cosine=_target_cosine(prototypes, batch),
    nearest=highest / plan.scale,
  )


def _forward(plan, prototypes, *batch):
  output = _differentiable(plan, prototypes, *batch)
  return output, (prototypes, Batch(*batch), output.log_sum)


def _backward(plan, residuals, cotangents):
  prototypes, batch, log_sum = residuals

  def body(block, carry):
    d_prototypes, d_units = carry
    d_block, d_partial = block_gradient(
      plan, block, block.take(prototypes), batch, log_sum, cotangents
    )
    d_block = block.keep_stale(d_block, block.take(d_prototypes))
    return block.put(d_prototypes, d_block), d_units + d_partial

  start = jnp.zeros_like(prototypes), jnp.zeros_like(batch.units)
  gradients = blocks.loop(body, start, rows=prototypes.shape[0], size=plan.size)
  return *gradients, None, None


_differentiable = jax.custom_vjp(_reduce, nondiff_argnums=(0,))
_differentiable.defvjp(_forward, _backward)


def block_gradient(
  plan: Plan,
  block: blocks.Block,
  w: typing.Array,
  batch: Batch,
  log_sum: typing.Array,
  cotangents: Statistics,
) -> tuple[typing.Array, typing.Array]:
  r"""Pulls the cotangents of `of_shard` back to one block of prototypes.

  With g the cotangent of log_sum, h that of the target cosine, and 0 for rows
  that do not count:

  .. math::
    G_{ji} = \begin{cases}
      h_i & j = y_i \\
      s\,e^{s c_{ji} - \mathrm{logsum}_i} g_i & \text{else}
    \end{cases} \qquad
    q_j = \sum_i \frac{G_{ji} u_i}{\lVert w_j \rVert} \qquad
    \mathrm{d}w_j = q_j - (q_j \cdot \hat w_j) \hat w_j

  Args:
    plan: see there.
    block: which rows.
    w: [size, dim], the prototypes of these rows.
    batch: see there.
    log_sum: [batch], as returned by `of_shard`.
    cotangents: of the statistics.

  Returns:
    The gradient [size, dim] of w, summed over "data", and the block's part
    [batch, dim] of the gradient of the units.
  """
  inverse = _inverse_norms(w)
  z = _logits(w, inverse, batch.units, plan.scale)
  # Not finite where log_sum is -inf, but then no column below is chosen.
  share = jnp.exp(z - log_sum[None, :])
  share = share * (plan.scale * cotangents.log_sum)[None, :]
  counts, is_target = _masks(block, batch)
  g = jnp.where(is_target, cotangents.target_cosine[None, :], share)
  # One factor of 1 / ||w|| serves both products.
  g = jnp.where(counts, g * inverse[:, None], 0)
  d_units = jnp.matmul(g.T, w, precision=reference.PRECISION)
  q = jnp.matmul(g, batch.units, precision=reference.PRECISION)
  radial = (q * w).sum(axis=1) * inverse * inverse
  return sharded.sum_over_data(q - radial[:, None] * w), d_units


def _logits(w, inverse, units, scale):
  """s c [size, batch]; norm and scale multiply the product, not w."""
  product = jnp.matmul(w, units.T, precision=reference.PRECISION)
  return product * (scale * inverse)[:, None]


def _inverse_norms(w):
  """1 / ||w|| [size]; 0 for a zero row, whose gradient is then 0 too."""
  square = (w * w).sum(axis=1)
  return jnp.where(square > _TINY, jax.lax.rsqrt(jnp.maximum(square, _TINY)), 0)


def _masks(block, batch):
  """Rows that count [size, 1], and where row and target meet."""
  counts = block.fresh & (block.rows < batch.valid)
  return counts[:, None], block.rows[:, None] == batch.labels[None, :]


def _target_cosine(prototypes, batch):
  rows = prototypes.shape[0]
  w = prototypes[jnp.clip(batch.labels, 0, rows - 1)]
  cosine = (w * batch.units).sum(axis=1) * _inverse_norms(w)
  is_mine = (batch.labels >= 0) & (batch.labels < rows)
  return jnp.where(is_mine, cosine, 0)
