"""The optimizer's step inside the backward loop over the classes.

Prototypes and optimizer state are read and written a block at a time, in the
memory where they lie.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
import optax

from facejax.head import (
  backward,
  blocks,
  collectives,
  narrow,
  plain_update,
  rowwise,
  selection,
  stages,
  storage,
)
from facejax.runtime import typing

# A block -> uint32 [size], random bits of each row.
Words: TypeAlias = Callable[[blocks.Block], typing.Array]
# (block, w) -> what a narrow gradient is given.
Prepare: TypeAlias = Callable[[blocks.Block, typing.Array], narrow.Ready]
# Arrays with class rows, sums over blocks, new rows not yet written, and where
# these belong.
_Carry: TypeAlias = tuple[
  list[typing.Array], backward.Totals, list[typing.Array], typing.Array
]


def update_blocks(
  state: plain_update.HeadState,
  totals: backward.Totals,
  *,
  gradient: Callable[..., backward.Gradient],
  chosen: selection.Selected,
  tx: optax.GradientTransformation,
  by_class: Any,
  words: Words,
  prepare: Prepare | None = None,
) -> tuple[backward.Totals, plain_update.HeadState]:
  """Gradient and update of the chosen rows; inside shard_map.

  Args:
    state: this shard's rows.
    totals: where the sums over blocks start.
    gradient: (block, w, *, exponentials, ready) -> the block's share.
    chosen: which rows to visit, and what the forward pass saved of them.
    tx: the optimizer; what it does to a row depends on that row alone.
    by_class: the tree of `rowwise.class_leaves`.
    words: for storage in bfloat16.
    prepare: for blocks that are bfloat16, see `facejax.head.narrow`.

  Returns:
    The sums, and the state after the step.
  """
  step = row_step(tx, state.optimizer, by_class)
  arrays = [state.prototypes, *rowwise.class_rows(state.optimizer, by_class)]
  halves = None
  # What is rounded when it is written is not what new prototypes are made of.
  if prepare and all(array.dtype == jnp.float32 for array in arrays):
    w, *rows = (chosen.walk.block(0).take(array) for array in arrays)
    halves = stages.split(step, w, rows, w)
  if prepare and halves:
    body = functools.partial(_body_at_once, gradient=gradient, halves=halves)
    arrays, totals = chosen.walk.loop_ahead(
      _take_and(prepare), body, (arrays, totals)
    )
  else:
    body = functools.partial(_body, gradient=gradient, step=step, words=words)
    arrays, totals = _wait(arrays, totals, body, chosen, prepare)
  prototypes, *rows = arrays
  optimizer = advance(tx, state.optimizer, by_class, (prototypes, *rows))
  return totals, plain_update.HeadState(
    prototypes, rowwise.with_class_rows(optimizer, by_class, rows)
  )


def _take_and(
  prepare: Prepare,
) -> Callable[[blocks.Block, Any], narrow.Ready]:
  """From the arrays in a loop's carry; what waits is of other rows."""
  return lambda block, carry: prepare(
    block, storage.load(block.take(carry[0][0]))
  )


def _body_at_once(
  block: blocks.Block,
  carry: tuple[list[typing.Array], backward.Totals],
  ready: narrow.Ready,
  *,
  gradient: Callable[..., backward.Gradient],
  halves: stages.Stages,
) -> tuple[list[typing.Array], backward.Totals]:
  """One turn: the optimizer's new rows are written, and read for the others."""
  (prototypes, *kept), totals = carry
  w, *rows = (block.take(array) for array in (prototypes, *kept))
  found = gradient(block, w, exponentials=None, ready=ready)
  d_w = collectives.sum_over_data(found.prototypes)
  # With SGD: v_j <- m v_j + dw_j + wd w_j ...
  new = halves.rows(d_w, rows, w)
  new = [block.keep_stale(*pair) for pair in zip(new, rows, strict=True)]
  kept = _put(kept, new, block.place)
  # ... and then w_j <- w_j - lr v_j.
  moved = halves.prototypes(d_w, [block.take(array) for array in kept], w)
  moved = block.keep_stale(moved, w)
  prototypes = blocks.put(prototypes, moved, block.place)
  return [prototypes, *kept], totals.add(found)


def _wait(
  arrays: list[typing.Array],
  totals: backward.Totals,
  body: Callable[..., _Carry],
  chosen: selection.Selected,
  prepare: Prepare | None,
) -> tuple[list[typing.Array], backward.Totals]:
  """The loop in which what a block becomes waits for the next turn.

  Written at once, new prototypes and new optimizer state would each need the
  old values of the other while both are overwritten, and XLA would copy all of
  them in every turn.
  """
  walk = chosen.walk
  # The first block waits with its old values: writing those changes nothing.
  start = walk.block(0)
  carry = arrays, totals, [start.take(array) for array in arrays], start.place
  if chosen.saved is not None:
    # Blocks whose e^z_ji the forward pass kept need no first matmul.
    with_saved = functools.partial(body, saved=chosen.saved)
    carry = walk.loop(with_saved, carry, last=chosen.saved_blocks)
  if prepare is None:
    carry = walk.loop(body, carry, first=chosen.saved_blocks)
  else:
    carry = walk.loop_ahead(_take_and(prepare), body, carry)
  # The last block still waits.
  arrays, totals, waiting, place = carry
  return _put(arrays, waiting, place), totals


def _body(
  block: blocks.Block,
  carry: _Carry,
  ready: narrow.Ready | None = None,
  *,
  gradient: Callable[..., backward.Gradient],
  step: Callable[..., list[typing.Array]],
  words: Words,
  saved: typing.Array | None = None,
) -> _Carry:
  """One turn: writes the block before, makes the new values of this one."""
  arrays, totals, waiting, place = carry
  # First of all in the turn: from here on nobody needs what is overwritten.
  arrays = _put(arrays, waiting, place)
  # W and the momentum of this block, the old values.
  old = [block.take(array) for array in arrays]
  w, *rows = map(storage.load, old)
  # dw_j = q_j - (q_j . w_j) w_j / ||w_j||^2, and this block's d(s u).
  exponentials = None if saved is None else block.take(saved)
  found = gradient(block, w, exponentials=exponentials, ready=ready)
  # Copies of the shard along "data" saw other examples of the batch.
  d_w = collectives.sum_over_data(found.prototypes)
  # With SGD: v_j <- m v_j + dw_j + wd w_j; w_j <- w_j - lr v_j.
  new = step(d_w, rows, w)
  # Rounded at random, so that E[stored] is the new value; float32 as it is.
  noise = words(block) if any(a.dtype == jnp.uint16 for a in arrays) else None
  waiting = [
    block.keep_stale(storage.store(value, like, noise, salt=salt), like)
    for salt, (value, like) in enumerate(zip(new, old, strict=True))
  ]
  return arrays, totals.add(found), waiting, block.place


def row_step(
  tx: optax.GradientTransformation, optimizer: optax.OptState, by_class: Any
) -> Callable[..., list[typing.Array]]:
  """(dw, rows of the optimizer's leaves, w) -> new w and new rows."""

  def step(
    d_w: typing.Array, rows: list[typing.Array], w: typing.Array
  ) -> list[typing.Array]:
    # Leaves without class rows stay what they were until the step is done:
    # every block must see the same step count.
    of_block = rowwise.with_class_rows(optimizer, by_class, rows)
    updates, after = tx.update(d_w, of_block, w)
    moved: Any = optax.apply_updates(w, updates)
    return [moved, *rowwise.class_rows(after, by_class)]

  return step


def advance(
  tx: optax.GradientTransformation,
  optimizer: optax.OptState,
  by_class: Any,
  arrays: Sequence[typing.Array],
) -> optax.OptState:
  """The optimizer state with its step counts moved on, once a step.

  What they become depends on no gradient (`rowwise.require`), so one row of
  zeros will do; of leaves with class rows the result is of no use.
  """
  one, *none = (jnp.zeros_like(storage.load(array[:1])) for array in arrays)
  _, after = tx.update(
    one, rowwise.with_class_rows(optimizer, by_class, none), one
  )
  return after


def _put(
  arrays: Sequence[typing.Array],
  rows: Sequence[typing.Array],
  place: typing.Array,
) -> list[typing.Array]:
  """Each array with the rows of the block at `place` replaced."""
  return [
    blocks.put(array, row, place)
    for array, row in zip(arrays, rows, strict=True)
  ]
