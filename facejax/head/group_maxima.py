"""The largest cosine of every few consecutive classes, for each example.

Two bytes for a group and an example: a top_k of each block would cost more than
its product.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from facejax.head import blocks, chunked, logits, shard_plan
from facejax.runtime import typing

# Groups of a shard, more or less, and most classes a group: about as many groups
# are listed whatever their width, so that wide ones cost products, and narrow
# ones memory.
_GROUPS = 12_000
_WIDEST = 64
# A cosine, of which c / _REACH is in [-1, 1], is kept as 1 + floor((c / _REACH + 1)
# _STEPS), and 0 stands for no class.
_STEPS = 32_766
# Of a cosine; more than a product and a division round.
_ROUNDING = 2e-6
# Beyond s: products of float8 round both factors by up to 2^-4.
_REACH = 1.13
_TINY = 1e-12


class Maxima(NamedTuple):
  """The groups of a shard.

  Attributes:
    codes: uint16 [groups, batch].
    highest: [batch], the largest logit of all, `chunked.LOWEST` if none.
    lengths: [batch], s _REACH.
    width: classes a group.
    walk: that they were found on; its blocks hold whole groups.
  """

  codes: typing.Array
  highest: typing.Array
  lengths: typing.Array
  width: int
  walk: blocks.Walk

  def bounds(self, block: blocks.Block) -> tuple[typing.Array, typing.Array]:
    """Numbers [size, batch] below and above the largest logits; -inf if none.

    They are 4e-5 s apart.

    Args:
      block: of groups, not of rows.
    """
    taken = block.take(self.codes)
    codes = taken.astype(self.lengths.dtype)
    low = (codes - 1) * (1 / _STEPS) - (1 + _ROUNDING)
    high = codes * (1 / _STEPS) - (1 - _ROUNDING)
    return (
      jnp.where(taken == 0, -jnp.inf, low * self.lengths[None, :]),
      jnp.where(taken == 0, -jnp.inf, high * self.lengths[None, :]),
    )

  def above(self, line: typing.Array) -> typing.Array:
    """Whether a group may pass a line [batch] for some example, [groups]."""
    # As a code, of which the comparison with two bytes costs least.
    cosine = line / jnp.maximum(self.lengths, _TINY)
    least = jnp.floor((cosine + 1 - _ROUNDING) * _STEPS)
    least = jnp.clip(least, 1, 2 * _STEPS + 1).astype(jnp.uint16)
    return (self.codes >= least[None, :]).any(axis=1)

  def rows(self, groups: typing.Array) -> typing.Array:
    """The rows int32 [n width] of groups [n]; -1 for none.

    The last block starts early: rows that the one before it has are none.
    """
    size = self.walk.size
    # Number of the block, and of the group within it.
    block, within = jnp.divmod(groups, size // self.width)
    start = jnp.minimum(block * size, self.walk.rows - size)
    first = start + within * self.width
    rows = first[:, None] + jnp.arange(self.width, dtype=jnp.int32)[None, :]
    fresh = (groups >= 0)[:, None] & (rows >= (block * size)[:, None])
    return jnp.where(fresh, rows, -1).reshape(-1)


def group_width(rows: int, size: int) -> int:
  """Classes a group, such that blocks of `size` hold whole ones.

  >>> [group_width(rows, 4096) for rows in (10_000, 102_400, 10**6)]
  [4, 8, 64]
  >>> group_width(10**6, 50)
  2
  """
  wanted = 2 ** max(2, math.floor(math.log2(max(rows / _GROUPS, 1))))
  return math.gcd(min(wanted, _WIDEST), size)


def find(
  plan: shard_plan.Plan,
  batch: logits.ShardBatch,
  rows: int,
  logits_of: Callable[[blocks.Block], typing.Array],
) -> Maxima:
  """One pass over all classes of a shard; inside shard_map.

  Args:
    plan: see there.
    batch: see there.
    rows: of the shard.
    logits_of: block -> z_j [size, batch] within [-s, s], -inf where they do not
      count.
  """
  walk = blocks.Walk(rows, plan.size)
  width = group_width(rows, plan.size)
  groups = plan.size // width
  lengths = _REACH * batch.lengths
  per_length = 1 / jnp.maximum(lengths, _TINY)

  def body(
    block: blocks.Block, carry: tuple[typing.Array, ...]
  ) -> tuple[typing.Array, ...]:
    codes, highest, index = carry
    z = logits_of(block)
    top = z.reshape(groups, width, -1).max(axis=1)
    code = 1 + jnp.floor((top * per_length[None, :] + 1) * _STEPS)
    code = jnp.where(top > -jnp.inf, jnp.clip(code, 1, 2 * _STEPS + 1), 0)
    codes = jax.lax.dynamic_update_slice_in_dim(
      codes, code.astype(jnp.uint16), index * groups, 0
    )
    return codes, jnp.maximum(highest, top.max(axis=0)), index + 1

  # Zeros that differ between the shards, as far as types go.
  varying = 0 * batch.lengths
  codes = jnp.zeros((walk.count * groups, 1), jnp.uint16)
  codes = codes + varying.astype(jnp.uint16)[None, :]
  start = codes, varying + chunked.LOWEST, jnp.int32(0)
  codes, highest, _ = walk.loop(body, start)
  return Maxima(codes, highest, lengths, width, walk)
