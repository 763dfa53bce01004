"""The optimizer's step inside the backward loop over the classes.

Prototypes and optimizer state are read and written a block at a time, in the
memory where they lie.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax.numpy as jnp
import optax

from facejax.head import (
  backward,
  blocks,
  collectives,
  narrow,
  one_behind,
  plain_update,
  row_updates,
  rowwise,
  selection,
  stages,
  storage,
)
from facejax.runtime import typing

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
  words: row_updates.Words,
  prepare: Prepare | None = None,
  at_once: bool = False,
) -> tuple[backward.Totals, plain_update.HeadState]:
  """Gradient and update of the chosen rows; inside shard_map.

  Args:
    state: this shard's rows.
    totals: where the sums over blocks start.
    gradient: (block, w, *, exponentials, ready) -> the block's share.
    chosen: which rows to visit, and what the forward pass saved of them.
    tx: the optimizer; what it does to a row depends on that row alone.
    by_class: the tree of `rowwise.class_leaves`.
    words: for storage that rounds.
    prepare: for blocks that are bfloat16, see `facejax.head.narrow`.
    at_once: consecutive rows are written in their own turn, where that can be.

  Returns:
    The sums, and the state after the step.
  """
  step = row_updates.row_step(tx, state.optimizer, by_class)
  arrays = [state.prototypes, *rowwise.class_rows(state.optimizer, by_class)]
  work = row_updates.Work(gradient, step, words, chosen)
  if prepare:
    work = work._replace(prepare=_take_and(prepare))
  if prepare or (at_once and chosen.walk.listed is None):
    work = work._replace(halves=_halves(work, arrays))
  if collectives.copies() > 1:
    arrays, totals = one_behind.update(work, arrays, totals)
  elif work.halves:
    body = functools.partial(_body_at_once, work=work, halves=work.halves)
    arrays, totals = work.loop(body, (arrays, totals))
  else:
    arrays, totals = _wait(work, arrays, totals)
  prototypes, *rows = arrays
  optimizer = row_updates.advance(
    tx, state.optimizer, by_class, (prototypes, *rows)
  )
  return totals, plain_update.HeadState(
    prototypes, rowwise.with_class_rows(optimizer, by_class, rows)
  )


def _halves(
  work: row_updates.Work, arrays: list[typing.Array]
) -> stages.Stages | None:
  """The step in two stages, where there are such and no row is rounded.

  What is rounded when it is written is not what new prototypes are made of.
  """
  if any(array.dtype != jnp.float32 for array in arrays):
    return None
  w, *rows = (work.chosen.walk.block(0).take(array) for array in arrays)
  return stages.split(work.step, w, rows, w)


def _take_and(prepare: Prepare) -> row_updates.Prepare:
  """From the arrays in a loop's carry; what waits is of other rows."""
  return lambda block, carry: prepare(block, storage.rows(block, carry[0][0]))


def _body_at_once(
  block: blocks.Block,
  carry: tuple[list[typing.Array], backward.Totals],
  *,
  work: row_updates.Work,
  halves: stages.Stages,
  saved: typing.Array | None = None,
  ready: narrow.Ready | None = None,
) -> tuple[list[typing.Array], backward.Totals]:
  """One turn: the optimizer's new rows are written, and read for the others."""
  arrays, totals = carry
  values = [block.take(array) for array in arrays]
  exponentials = None if saved is None else block.take(saved)
  found = work.gradient(
    block, values[0], exponentials=exponentials, ready=ready
  )
  arrays = row_updates.write_at_once(
    halves, block, found.prototypes, arrays, values
  )
  return arrays, totals.add(found)


def _wait(
  work: row_updates.Work, arrays: list[typing.Array], totals: backward.Totals
) -> tuple[list[typing.Array], backward.Totals]:
  """The loop in which what a block becomes waits for the next turn.

  Written at once, new prototypes and new optimizer state would each need the
  old values of the other while both are overwritten, and XLA would copy all of
  them in every turn.
  """
  # The first block waits with its old values: writing those changes nothing.
  start = work.chosen.walk.block(0)
  carry = arrays, totals, [start.take(array) for array in arrays], start.place
  carry = work.loop(functools.partial(_body, work=work), carry)
  # The last block still waits.
  arrays, totals, waiting, place = carry
  return row_updates.put(arrays, waiting, place), totals


def _body(
  block: blocks.Block,
  carry: _Carry,
  *,
  work: row_updates.Work,
  saved: typing.Array | None = None,
  ready: narrow.Ready | None = None,
) -> _Carry:
  """One turn: writes the block before, makes the new values of this one."""
  arrays, totals, waiting, place = carry
  # First of all in the turn: from here on nobody needs what is overwritten.
  arrays = row_updates.put(arrays, waiting, place)
  # W and the momentum of this block, the old values.
  old = [block.take(array) for array in arrays]
  values = [storage.rows(block, array) for array in arrays]
  exponentials = None if saved is None else block.take(saved)
  # dw_j = q_j - (q_j . w_j) w_j / ||w_j||^2, and this block's d(s u).
  found = work.gradient(
    block, values[0], exponentials=exponentials, ready=ready
  )
  waiting = row_updates.renewed(work, block, found.prototypes, old, values)
  return arrays, totals.add(found), waiting, block.place
