"""The backward pass of the head and the optimizer's step in one kernel.

A tile of prototypes and optimizer state is read, updated and written back in
the memory where it lies; its logits and their gradient stay on the chip.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.experimental import pallas as pl

from facejax.head import (
  backward,
  collectives,
  hoisting,
  kernel_tiles,
  kernels,
  plain_update,
  row_updates,
  rowwise,
  shard_plan,
)
from facejax.runtime import typing


def update(
  plan: shard_plan.Plan,
  state: plain_update.HeadState,
  forward: collectives.Forward,
  cotangents: backward.Cotangents,
  *,
  tx: optax.GradientTransformation,
  by_class: Any,
) -> tuple[backward.Totals, plain_update.HeadState]:
  """`in_place.update_blocks` over all rows of this shard; inside shard_map.

  Args:
    plan: of a head with implementation "pallas".
    state: this shard's rows, float32.
    forward: of this shard.
    cotangents: see there.
    tx: the optimizer; what it does to a row depends on that row alone.
    by_class: the tree of `rowwise.class_leaves`.

  Returns:
    The sums, of which `share` is not made, and the state after the step.

  Raises:
    ValueError: if the optimizer keeps anything else of a class than arrays
      shaped like the prototypes, or kernels have no room for the batch.
  """
  batch, w = forward.batch, state.prototypes
  count, dim = batch.queries.shape
  arrays = [w, *rowwise.class_rows(state.optimizer, by_class)]
  _check_arrays(arrays)
  tiles = kernel_tiles.make_tiles(plan, w.shape, count)
  _check_room(plan, tiles, dim=dim, arrays=len(arrays))
  numbers, step = _step(state.optimizer, tiles, arrays, tx, by_class)
  rows = tiles.of_rows(dim)
  # Where no other class counts no share does: e^(z - inf) = 0.
  none = forward.sums.others == -jnp.inf
  others = jnp.where(none, jnp.inf, forward.sums.others)
  *arrays, d_queries = kernel_tiles.call(
    functools.partial(_kernel, plan=plan, tiles=tiles, step=step),
    tiles,
    [
      *(kernel_tiles.result(array.shape, w) for array in arrays),
      kernel_tiles.result((tiles.cores, dim, tiles.batch), w),
    ],
    in_specs=[
      [kernel_tiles.NUMBERS] * (1 + len(numbers)),
      [rows] * len(arrays),
      [kernel_tiles.WHOLE] * 5,
    ],
    out_specs=[*[rows] * len(arrays), tiles.sums(dim, tiles.batch)],
    input_output_aliases=tiles.in_place(1 + len(numbers), len(arrays)),
    name="head_backward",
  )(
    [jnp.minimum(batch.valid, tiles.rows)[None], *(n[None] for n in numbers)],
    arrays,
    [
      kernels.queries(plan, tiles, batch),
      kernels.row(tiles, batch.labels, -1),
      *(
        kernels.row(tiles, values, 0)
        for values in (others, cotangents.others, cotangents.dot)
      ),
    ],
  )
  d_queries = d_queries.sum(axis=0)[:, :count].T
  totals = backward.Totals.zero(batch)._replace(queries=d_queries)
  optimizer = row_updates.advance(tx, state.optimizer, by_class, arrays)
  w, *rest = arrays
  return totals, plain_update.HeadState(
    w, rowwise.with_class_rows(optimizer, by_class, rest)
  )


def _step(
  optimizer: optax.OptState,
  tiles: kernel_tiles.Tiles,
  arrays: Sequence[typing.Array],
  tx: optax.GradientTransformation,
  by_class: Any,
) -> tuple[list[typing.Array], Callable[..., list[typing.Array]]]:
  """Numbers of this step, and (numbers, dw, w, *rows) -> new w and rows.

  Learning rates and the like are made outside the kernel, whose scalar unit
  knows no powers.
  """
  row_step = row_updates.row_step(tx, optimizer, by_class)

  def step(
    d_w: typing.Array, w: typing.Array, *rows: typing.Array
  ) -> list[typing.Array]:
    return row_step(d_w, list(rows), w)

  shape = tiles.size, arrays[0].shape[1]
  block = jax.ShapeDtypeStruct(shape, jnp.float32)
  return hoisting.hoist(step, [block] * (1 + len(arrays)))


def _kernel(
  numbers: Sequence[Any],
  old: Sequence[Any],
  examples: Sequence[Any],
  *results: Any,
  plan: shard_plan.Plan,
  tiles: kernel_tiles.Tiles,
  step: Callable[..., list[typing.Array]],
) -> None:
  """One tile: its gradient, its update, and its part of d(s u)."""
  valid, *numbers = numbers
  *new, d_queries = results

  @pl.when(pl.program_id(1) == 0)
  def _() -> None:
    d_queries[...] = jnp.zeros_like(d_queries)

  @pl.when(tiles.has_work())
  def _() -> None:
    w, *rows = (ref[...] for ref in old)
    d_w = _gradient(plan, tiles, valid[0], w, examples, d_queries)
    # With SGD: v_j <- m v_j + dw_j + wd w_j; w_j <- w_j - lr v_j.
    moved = step([number[0] for number in numbers], d_w, w, *rows)
    for ref, values in zip(new, moved, strict=True):
      ref[...] = values


def _gradient(
  plan: shard_plan.Plan,
  tiles: kernel_tiles.Tiles,
  valid: typing.Array,
  w: typing.Array,
  examples: Sequence[Any],
  d_queries: Any,
) -> typing.Array:
  """dw [size, dim] as of `backward.block_gradient`; adds to d(s u).T."""
  queries, labels, others, d_others, d_dot = examples
  rows = tiles.row_numbers()
  units, inverse, ignored = kernels.unit_rows(rows, valid, w)
  # Turned once a tile: to turn G, once a chunk, would be more.
  columns = units.astype(queries.dtype).T

  def add(
    at: Any, carry: tuple[typing.Array, typing.Array]
  ) -> tuple[typing.Array, typing.Array]:
    d_units, radial = carry
    z = kernels.product(plan, units, queries[at, :], axes=(1, 1))
    # G_ji = e^(z_ji - others_i) g_i for j != y_i, and h_i at j = y_i.
    g = jnp.exp(z + ignored - others[:, at]) * d_others[:, at]
    g = jnp.where(rows == labels[:, at], d_dot[:, at], g)
    # q_j . w_j / ||w_j|| = sum_i G_ji z_ji
    radial += (g * z).sum(axis=1, keepdims=True)
    d_units += kernels.product(plan, g, queries[at, :])
    d_queries[:, at] += kernels.product(plan, columns, g)
    return d_units, radial

  start = jnp.zeros_like(w), jnp.zeros_like(inverse)
  d_units, radial = kernels.for_chunks(tiles, add, start)
  # dw_j = (q_j - (q_j . w_j / ||w_j||) w_j / ||w_j||) / ||w_j||
  return (d_units - radial * units) * inverse


def _check_arrays(arrays: Sequence[typing.Array]) -> None:
  """Refuses an optimizer state that kernels cannot walk with the prototypes."""
  for array in arrays:
    if array.shape != arrays[0].shape or array.dtype != jnp.float32:
      raise ValueError(
        "implementation='pallas' needs an optimizer that keeps float32 arrays"
        f" shaped like the prototypes, not {array.dtype}{list(array.shape)}:"
        " use fused"
      )


def _check_room(
  plan: shard_plan.Plan, tiles: kernel_tiles.Tiles, *, dim: int, arrays: int
) -> None:
  """Refuses a batch that does not fit the chip's fast memory."""
  if not tiles.interpret and dim % kernel_tiles.LANES:
    raise ValueError(
      f"implementation='pallas' with {dim} numbers a prototype: on a TPU they"
      f" must be a multiple of {kernel_tiles.LANES}, or all prototypes would be"
      " copied at each step; use fused"
    )
  itemsize = 2 if plan.head.precision == "bfloat16" else 4
  needed = tiles.room(dim, arrays, itemsize)
  if not tiles.interpret and needed > tiles.vmem:
    kind = plan.head.mesh.devices.flat[0].device_kind
    raise ValueError(
      f"implementation='pallas' holds a batch of {tiles.batch} x {dim} in the"
      f" fast memory of the chip: {needed >> 20} MiB with all else, of"
      f" {tiles.vmem >> 20} MiB on {kind}; take a smaller batch or block_size,"
      " or use fused"
    )
