"""What the loops over blocks do to rows: the optimizer's step, and writing.

Which of the loops there is, and when a block's turn comes, is for `in_place`
and `one_behind` to say.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import optax

from facejax.head import (
  backward,
  blocks,
  narrow,
  rowwise,
  selection,
  stages,
  storage,
)
from facejax.runtime import typing

# A block -> uint32 [size], random bits of each row.
Words: TypeAlias = Callable[[blocks.Block], typing.Array]
# (block, the loop's carry) -> what a narrow gradient is given.
Prepare: TypeAlias = Callable[[blocks.Block, Any], narrow.Ready]


class Work(NamedTuple):
  """What every turn of a loop needs.

  Attributes:
    gradient: (block, w, *, exponentials, ready) -> the block's share.
    step: of `row_step`.
    words: for storage that rounds.
    chosen: which rows to visit, and what the forward pass saved of them.
    prepare: for blocks that are bfloat16, see `facejax.head.narrow`.
    halves: of `step`, where rows are written at once.
  """

  gradient: Callable[..., backward.Gradient]
  step: Callable[..., list[typing.Array]]
  words: Words
  chosen: selection.Selected
  prepare: Prepare | None = None
  halves: stages.Stages | None = None

  def loop(self, body: Callable[..., Any], carry: Any) -> Any:
    """body(block, carry) for all blocks, with what is saved or prepared."""
    walk, saved = self.chosen.walk, self.chosen.saved
    if saved is not None:
      # Blocks whose e^z_ji the forward pass kept need no first matmul.
      def with_saved(block: blocks.Block, carry: Any) -> Any:
        return body(block, carry, saved=saved)

      carry = walk.loop(with_saved, carry, last=self.chosen.saved_blocks)
    if self.prepare is None:
      return walk.loop(body, carry, first=self.chosen.saved_blocks)

    def with_ready(block: blocks.Block, carry: Any, ready: narrow.Ready) -> Any:
      return body(block, carry, ready=ready)

    return walk.loop_ahead(self.prepare, with_ready, carry)


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


def renewed(
  work: Work,
  block: blocks.Block,
  d_w: typing.Array,
  old: Sequence[typing.Array],
  values: Sequence[typing.Array],
) -> list[typing.Array]:
  """What the rows of a block become, as they are kept.

  Args:
    work: see there.
    block: which rows.
    d_w: their gradient, of all examples.
    old: prototypes and optimizer rows, as they are kept.
    values: the same, as float32.
  """
  w, *rows = values
  # With SGD: v_j <- m v_j + dw_j + wd w_j; w_j <- w_j - lr v_j.
  new = work.step(d_w, rows, w)
  # Rounded at random, so that E[stored] is the new value; float32 as it is.
  rounds = any(storage.bits_of(array) for array in old)
  noise = work.words(block) if rounds else None
  return [
    block.keep_stale(storage.store(value, like, noise, salt=salt), like)
    for salt, (value, like) in enumerate(zip(new, old, strict=True))
  ]


def write_at_once(
  halves: stages.Stages,
  block: blocks.Block,
  d_w: typing.Array,
  arrays: Sequence[typing.Array],
  values: Sequence[typing.Array],
) -> list[typing.Array]:
  """The arrays with a block's new rows: the optimizer's, then those of them.

  Args:
    halves: of the optimizer's step.
    block: which rows.
    d_w: their gradient, of all examples.
    arrays: prototypes and optimizer rows, float32.
    values: the rows of the block.
  """
  (prototypes, *kept), (w, *rows) = arrays, values
  # With SGD: v_j <- m v_j + dw_j + wd w_j ...
  new = halves.rows(d_w, rows, w)
  new = [block.keep_stale(*pair) for pair in zip(new, rows, strict=True)]
  kept = put(kept, new, block.place)
  # ... and then w_j <- w_j - lr v_j.
  moved = halves.prototypes(d_w, [block.take(array) for array in kept], w)
  moved = block.keep_stale(moved, w)
  return [blocks.put(prototypes, moved, block.place), *kept]


def put(
  arrays: Sequence[typing.Array],
  rows: Sequence[typing.Array],
  place: typing.Array,
) -> list[typing.Array]:
  """Each array with the rows of the block at `place` replaced."""
  return [
    blocks.put(array, row, place)
    for array, row in zip(arrays, rows, strict=True)
  ]
