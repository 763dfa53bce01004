"""The forward pass of the head as one kernel for TPUs, and what kernels share.

A tile of classes is read once. Its logits go from the product to the
exponential to the sums without leaving the chip's fast memory (VMEM), where XLA
writes blocks of them to the slow one and reads them back. `kernel_update` is
the second pass.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from facejax.head import (
  chunked,
  kernel_tiles,
  logits,
  reference,
  shard_plan,
)
from facejax.runtime import typing

Carry = TypeVar("Carry")


def queries(
  plan: shard_plan.Plan, tiles: kernel_tiles.Tiles, batch: logits.ShardBatch
) -> typing.Array:
  """s u [tiles.batch, dim], in the type of the products; 0 past the batch."""
  narrow = plan.head.precision == "bfloat16"
  more = tiles.batch - batch.queries.shape[0]
  values = jnp.pad(batch.queries, ((0, more), (0, 0)))
  return values.astype(jnp.bfloat16) if narrow else values


def row(
  tiles: kernel_tiles.Tiles, values: typing.Array, rest: int
) -> typing.Array:
  """Values [batch] as [1, tiles.batch], with `rest` past the batch."""
  more = tiles.batch - values.shape[0]
  return jnp.pad(values, (0, more), constant_values=rest)[None]


def for_chunks(
  tiles: kernel_tiles.Tiles, body: Callable[[Any, Carry], Carry], carry: Carry
) -> Carry:
  """carry = body(slice of examples, carry), chunk by chunk; inside a kernel."""

  def step(index: typing.Array, carry: Carry) -> Carry:
    return body(pl.ds(index * tiles.chunk, tiles.chunk), carry)

  return jax.lax.fori_loop(0, tiles.batch // tiles.chunk, step, carry)


def unit_rows(
  rows: typing.Array, valid: typing.Array, w: typing.Array
) -> tuple[typing.Array, typing.Array, typing.Array]:
  """w / ||w|| [size, dim], 1 / ||w|| and what to add to logits [size, 1].

  That is 0, or -inf for rows that are no classes; past the end of the shard
  there may be anything in w.
  """
  counts = rows < valid
  w = jnp.where(counts, w, 0)
  inverse = logits.inverse_norms(w, keepdims=True)
  return w * inverse, inverse, jnp.where(counts, 0.0, -jnp.inf)


def product(
  plan: shard_plan.Plan,
  a: typing.Array,
  b: typing.Array,
  *,
  axes: tuple[int, int] = (1, 0),
) -> typing.Array:
  """`products.gradients`, with the axes that are summed over.

  So that the matrix unit turns its operand, not the vector unit before it.
  """
  precision: Any = reference.PRECISION
  if plan.head.precision == "bfloat16":
    a, b, precision = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16), None
  contracted = ((axes[0],), (axes[1],))
  return jax.lax.dot_general(
    a,
    b,
    (contracted, ((), ())),
    precision=precision,
    preferred_element_type=jnp.float32,
  )


def reduce(
  plan: shard_plan.Plan, prototypes: typing.Array, batch: logits.ShardBatch
) -> chunked.Sums:
  """`chunked.reduce` over all rows of this shard; inside shard_map.

  Args:
    plan: of a head with implementation "pallas".
    prototypes: [rows, dim] float32, this shard's.
    batch: see there.
  """
  rows, dim = prototypes.shape
  count = batch.queries.shape[0]
  tiles = kernel_tiles.make_tiles(plan, prototypes.shape, count)
  each = kernel_tiles.result((tiles.cores, 1, tiles.batch), prototypes)
  total, highest = kernel_tiles.call(
    functools.partial(_reduce_kernel, plan=plan, tiles=tiles),
    tiles,
    [each, each],
    in_specs=[
      kernel_tiles.NUMBERS,
      tiles.of_rows(dim),
      kernel_tiles.WHOLE,
      kernel_tiles.WHOLE,
    ],
    out_specs=[tiles.sums(1, tiles.batch)] * 2,
    name="head_forward",
  )(
    jnp.minimum(batch.valid, rows)[None],
    prototypes,
    queries(plan, tiles, batch),
    row(tiles, batch.labels, -1),
  )
  highest = highest.max(axis=(0, 1))[:count]
  # log sum e^z; -inf where there is no other class.
  return chunked.Sums(jnp.log(total.sum(axis=(0, 1))[:count]), highest, highest)


def _reduce_kernel(
  valid: Any,
  w: Any,
  queries: Any,
  labels: Any,
  total: Any,
  highest: Any,
  *,
  plan: shard_plan.Plan,
  tiles: kernel_tiles.Tiles,
) -> None:
  """Adds a tile's logits to the sums [1, batch]."""

  @pl.when(pl.program_id(1) == 0)
  def _() -> None:
    total[...] = jnp.zeros_like(total)
    highest[...] = jnp.full_like(highest, chunked.LOWEST)

  @pl.when(tiles.has_work())
  def _() -> None:
    rows = tiles.row_numbers()
    units, _, ignored = unit_rows(rows, valid[0], w[...])

    def add(at: Any, carry: None) -> None:
      # z_ji, and -inf where it does not count: e^-inf adds nothing.
      z = product(plan, units, queries[at, :], axes=(1, 1)) + ignored
      z = jnp.where(rows == labels[:, at], -jnp.inf, z)
      # |z_ji| <= s is known, so that the sum needs no running maximum.
      total[:, at] += jnp.exp(z).sum(axis=0, keepdims=True)
      found = z.max(axis=0, keepdims=True)
      highest[:, at] = jnp.maximum(highest[:, at], found)
      return carry

    for_chunks(tiles, add, None)
