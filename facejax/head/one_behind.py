"""The update of blocks whose gradient is summed over copies of the shard.

With fewer shards than devices each copy along "data" sees its own examples, and
a block's gradient is their sum. Waited for in the block's own turn, the message
would stand between two products. So a block is updated in the turn after: its
sum is asked for first, and travels while the next block's products are made.

Rows that a last block shares with the one before it are old when it reads them;
they are stale there, and count for nothing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from facejax.head import (
  backward,
  blocks,
  collectives,
  narrow,
  row_updates,
  storage,
)
from facejax.runtime import typing


class _Before(NamedTuple):
  """The block of the turn before.

  Attributes:
    block: which rows.
    d_w: their gradient of this copy's examples alone.
  """

  block: blocks.Block
  d_w: typing.Array


class _Carry(NamedTuple):
  """What goes from turn to turn.

  Attributes:
    arrays: with class rows.
    totals: sums over blocks.
    waiting: new rows that are not yet written, of the block before `before`.
    place: where these belong.
    before: see there.
  """

  arrays: list[typing.Array]
  totals: backward.Totals
  waiting: list[typing.Array]
  place: typing.Array
  before: _Before


def update(
  work: row_updates.Work, arrays: list[typing.Array], totals: backward.Totals
) -> tuple[list[typing.Array], backward.Totals]:
  """All blocks of a walk; inside shard_map.

  Args:
    work: see there.
    arrays: prototypes and optimizer rows, as they are kept.
    totals: where the sums over blocks start.
  """
  start = work.chosen.walk.block(0)
  w = storage.rows(start, arrays[0])
  # A gradient that differs between the copies, as far as types go.
  before = _Before(start, jnp.zeros_like(w) + 0 * totals.share[0])
  # Writing old values changes nothing.
  waiting = [start.take(array) for array in arrays]
  carry = _Carry(arrays, totals, waiting, start.place, _nothing(before))
  # A single block has none before it whose sum could travel meanwhile.
  single = work.chosen.walk.count == 1

  def body(
    block: blocks.Block,
    carry: _Carry,
    saved: typing.Array | None = None,
    ready: narrow.Ready | None = None,
  ) -> _Carry:
    d_w = None
    if not single:
      # As soon as possible, for nothing in this turn's products needs it.
      d_w = collectives.sum_over_data(carry.before.d_w)
      carry = _write(carry)
    w = storage.rows(block, carry.arrays[0])
    exponentials = None if saved is None else block.take(saved)
    found = work.gradient(block, w, exponentials=exponentials, ready=ready)
    if d_w is not None:
      carry = _renew(work, carry, d_w)
    return carry._replace(
      totals=carry.totals.add(found), before=_Before(block, found.prototypes)
    )

  carry = work.loop(body, carry)
  return _finish(work, carry), carry.totals


def _finish(work: row_updates.Work, carry: _Carry) -> list[typing.Array]:
  """The arrays with the last two blocks: one to be written, one to be summed.

  Two turns of a loop, the second without a block of its own: written outside a
  loop, new rows of each array would be made while those of another are written,
  and XLA would copy both.
  """
  d_w = collectives.sum_over_data(carry.before.d_w)

  def turn(_: typing.Array, carry: _Carry) -> _Carry:
    carry = _renew(work, _write(carry), d_w)
    return carry._replace(before=_nothing(carry.before))

  return jax.lax.fori_loop(0, 2, turn, carry).arrays


def _nothing(before: _Before) -> _Before:
  """The same, of rows of which none is fresh: nothing comes of them."""
  block = before.block
  return before._replace(
    block=block._replace(fresh=jnp.zeros_like(block.fresh))
  )


def _write(carry: _Carry) -> _Carry:
  """Writes what waits; first, so that nobody needs what is overwritten."""
  arrays = row_updates.put(carry.arrays, carry.waiting, carry.place)
  return carry._replace(arrays=arrays)


def _renew(work: row_updates.Work, carry: _Carry, d_w: typing.Array) -> _Carry:
  """What the block before becomes, of its gradient over all copies."""
  block = carry.before.block
  old = [block.take(array) for array in carry.arrays]
  values = [storage.rows(block, array) for array in carry.arrays]
  waiting = row_updates.renewed(work, block, d_w, old, values)
  return carry._replace(waiting=waiting, place=block.place)
