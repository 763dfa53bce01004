"""Blocks of logits on a GPU: what leaves the chip is bfloat16.

There XLA makes a kernel of each product and of each pass over a block, and
every block [size, batch] between two of them goes out to the memory and in
again, which takes longer than the products. So the last step of the product's
own kernel makes e^z of its sums, and rounds that: bfloat16 reaches as far as
float32 does, and e^z is then off by up to 2^-9 of itself. (z itself, up to 64,
would be off by 0.1.) Sums over classes and examples are float32.

The same values as of `chunked` and `backward`, up to that rounding, where |z|
is bounded. XLA takes into a product's kernel what is done to each number, with
factors of a row or a column that the loop's turn was given; hence `Ready`. The
targets' entries, one an example, are written over the block afterwards.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from facejax.head import blocks, logits, products, shard_plan
from facejax.runtime import typing


class Ready(NamedTuple):
  """What a block's turn is given, see `blocks.Walk.loop_ahead`.

  Attributes:
    w: [size, dim] bfloat16, the prototypes.
    codes: the same for the logits, where they are of float8.
    inverse: [size], 1 / ||w_j||.
    factor: [size], the same, but 0 in rows that do not count.
  """

  w: typing.Array
  codes: products.Operand | None
  inverse: typing.Array
  factor: typing.Array

  @property
  def operand(self) -> products.Operand:
    """For the logits; no second array where it is w, for loops would copy it."""
    return self.codes or products.Operand(self.w)


def prepare(
  plan: shard_plan.Plan,
  block: blocks.Block,
  w: typing.Array,
  batch: logits.ShardBatch,
) -> Ready:
  """One pass over the prototypes [size, dim] of a block makes all of it."""
  inverse = logits.inverse_norms(w)
  factor = jnp.where(logits.counted(block, batch), inverse, 0)
  is_float8 = plan.head.precision == "float8"
  codes = products.operand(plan.head, w) if is_float8 else None
  return Ready(w.astype(jnp.bfloat16), codes, inverse, factor)


def exponentials(
  plan: shard_plan.Plan,
  block: blocks.Block,
  ready: Ready,
  batch: logits.ShardBatch,
) -> typing.Array:
  """e^z_ji of other classes, float32 of bfloat16 [size, batch]; 0 for j = y_i.

  |z| <= s is known, and s is small enough that no e^z leaves float32. Rows that
  do not count are 0 too.
  """
  # e^z_ji = exp(w_j . s_i u_i / ||w_j||), in the product's kernel
  dots = products.logits(ready.operand, batch.operand)
  e = jnp.exp(dots * ready.inverse[:, None])
  e = _with_targets(e, block.find(batch.labels), 0).astype(e.dtype)
  # In the passes that follow.
  return jnp.where(logits.counted(block, batch)[:, None], e, 0)


def add(
  total: typing.Array, highest: typing.Array, e: typing.Array
) -> tuple[typing.Array, typing.Array]:
  """Takes a block's e^z [size, batch] into sum and largest z, [batch]."""
  # z = log e^z, off by up to 2^-9; -inf of no class at all.
  return total + e.sum(axis=0), jnp.maximum(highest, jnp.log(e.max(axis=0)))


def gradient(
  plan: shard_plan.Plan,
  block: blocks.Block,
  w: typing.Array,
  ready: Ready,
  *,
  batch: logits.ShardBatch,
  others: typing.Array,
  d_others: typing.Array,
  d_dot: typing.Array,
) -> tuple[typing.Array, typing.Array]:
  """dw_j [size, dim] and d(s_i u_i) [batch, dim] of a block.

  Args:
    plan: see there.
    block: which rows.
    w: [size, dim] float32, the prototypes of these rows.
    ready: of `prepare`, of the same.
    batch: see there.
    others: [batch], `chunked.Sums.others` of this shard.
    d_others: [batch], g, the gradient with respect to them.
    d_dot: [batch], h, the gradient with respect to the target's s n_y c_y.
  """
  # z_ji - others_i, 0 at most: no class has more than all together. (But the
  # target may, whose entry is written over.)
  dots = products.logits(ready.operand, batch.operand)
  dots = dots * ready.inverse[:, None] - others[None, :]
  share = jnp.exp(jnp.minimum(dots, 0))
  # G_ji / ||w_j|| = e^(z_ji - others_i) g_i / ||w_j|| for both products, and
  # h_i / ||w_j|| where j = y_i.
  place = block.find(batch.labels)
  each = _with_targets(
    share * d_others[None, :] * ready.factor[:, None],
    place,
    d_dot * ready.factor.at[place].get(mode="fill", fill_value=0),
  )
  # q_j = sum_i G_ji s_i u_i / ||w_j||: float32 sums, which are then rounded.
  q = products.gradients(plan.head, each, batch.queries).astype(jnp.bfloat16)
  q = jax.lax.optimization_barrier(q).astype(w.dtype)
  # dw_j = q_j - (q_j . w_j / ||w_j||) w_j / ||w_j||
  radial = -(q * ready.w.astype(w.dtype)).sum(axis=1) * ready.inverse
  d_w = q + (radial * ready.inverse)[:, None] * w
  # d(s_i u_i) = sum_j G_ji w_j / ||w_j||, over this block.
  return d_w, products.gradients(plan.head, each.T, ready.w)


def _with_targets(
  values: typing.Array, place: typing.Array, own: typing.ArrayLike | int
) -> typing.Array:
  """`values` [size, batch] as bfloat16, with `own` at `place` of each column.

  Args:
    values: float32, the end of a product's kernel.
    place: int32 [batch], of `Block.find`.
    own: [batch] or one number.
  """
  # Else the passes that follow make the block from the product's float32 sums.
  narrow = jax.lax.optimization_barrier(values.astype(jnp.bfloat16))
  columns = jnp.arange(place.shape[0], dtype=jnp.int32)
  return narrow.at[place, columns].set(
    jnp.asarray(own, jnp.bfloat16), mode="drop", unique_indices=True
  )
