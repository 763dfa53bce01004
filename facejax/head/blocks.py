"""Walking a shard's classes in blocks: their size, their rows, the loop."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from facejax.runtime import typing

Carry = TypeVar("Carry")

_CPU_CACHE = 3e6  # bytes; a share of a core's cache
_GPU_LOGITS = 2**28  # bytes, of float32
_GPU_NARROW = 2**26  # of bfloat16
_TPU_BLOCK = 2**25  # bytes


def block_size(
  *,
  batch: int,
  dim: int,
  rows: int,
  platform: str,
  narrow: bool = False,
) -> int:
  """Classes a block, a power of two unless there are fewer rows.

  The memory of the head beside prototypes and optimizer state is a few arrays
  [block, batch] and [block, dim]. The rule, by platform:
    cpu: near 3 MB / (4 (dim + batch)), within 512 to 4096, so that a block
      stays in the cache from one matmul to the next (the optimum is flat).
    gpu: the largest with 4 batch block <= 256 MiB, 8192 or more: small blocks
      leave the device idle between kernels. With blocks of bfloat16 the largest
      with 2 batch block <= 64 MiB: by the compiled program each block costs a
      few megabytes of its own, so that a million classes move 40, 38.6, 37.7,
      38.8 and 38.8 GB a step in blocks of 8192, 16384, ... 131072 (of the
      larger ones the last, which starts early, repeats more rows). Powers of
      two: of other sizes XLA may leave the update in one kernel more. Blocks of
      8192 might stay in an H100's cache of 50 MB: that is to be measured.
    tpu: the largest with 4 block max(batch, dim) <= 32 MiB, 512 or more: by
      the compiler's cycles, larger ones leave the chip's own memory.

  Args:
    batch: examples that one device compares with its classes.
    dim: size of the embeddings.
    rows: classes of one device.
    platform: "cpu", "gpu" or "tpu", of the devices that will run it.
    narrow: whether a GPU's blocks are bfloat16, see `facejax.head.narrow`.

  >>> block_size(batch=256, dim=512, rows=10**6, platform="cpu")
  1024
  >>> block_size(batch=1024, dim=512, rows=10**6, platform="gpu")
  65536
  """
  if platform == "cpu":
    # The power of two nearest to a block of w and of logits in the cache.
    size = 2 ** round(math.log2(_CPU_CACHE / (4 * (dim + batch))))
    size = min(max(size, 512), 4096)
  elif platform == "tpu":
    widest = 4 * max(batch, dim)
    size = max(512, 2 ** math.floor(math.log2(_TPU_BLOCK / widest)))
  else:
    room = _GPU_NARROW / 2 if narrow else _GPU_LOGITS / 4
    size = max(8192, 2 ** math.floor(math.log2(room / batch)))
  return min(size, rows)


class Block(NamedTuple):
  """Some rows of a shard.

  Rows that are not fresh fill the block up: they belong to another block or to
  none, and must neither count twice nor change twice.

  Attributes:
    rows: int32 [size], row numbers within the shard.
    fresh: bool [size].
    start: int32, the first of consecutive rows; None where `rows` is a list.
  """

  rows: typing.Array
  fresh: typing.Array
  start: typing.Array | None

  @property
  def place(self) -> typing.Array:
    """What `put` needs to know of the block."""
    if self.start is not None:
      return self.start
    # Past the end, where nothing is written.
    return jnp.where(self.fresh, self.rows, jnp.iinfo(jnp.int32).max)

  def take(
    self, leaf: typing.Array, columns: slice = slice(None)
  ) -> typing.Array:
    """The rows of this block out of `leaf` [rows, ...], of some columns."""
    if self.start is None:
      # A gather; consecutive rows, below, are a slice and cost less.
      return gather(leaf, self.rows, columns)
    size = self.rows.shape[0]
    if columns == slice(None):
      return jax.lax.dynamic_slice_in_dim(leaf, self.start, size)
    first, last, _ = columns.indices(leaf.shape[-1])
    start = [self.start] + [0] * (leaf.ndim - 2) + [first]
    sizes = (size, *leaf.shape[1:-1], last - first)
    return jax.lax.dynamic_slice(leaf, start, sizes)

  def find(self, rows: typing.Array) -> typing.Array:
    """Where in the block `rows` [n] are fresh, int32 [n]; else its size."""
    size = self.rows.shape[0]
    if self.start is None:
      # A list has no order: each row is compared with all of it.
      same = (self.rows[:, None] == rows[None, :]) & self.fresh[:, None]
      numbers = jnp.arange(size, dtype=jnp.int32)
      return jnp.where(same, numbers[:, None], size).min(axis=0)
    place = rows - self.start
    fresh = self.fresh.at[place].get(mode="fill", fill_value=False)
    return jnp.where(fresh & (place >= 0), place, size)

  def keep_stale(self, new: typing.Array, old: typing.Array) -> typing.Array:
    """`new` [size, ...] where fresh, else `old`."""
    fresh = self.fresh.reshape((-1,) + (1,) * (new.ndim - 1))
    return jnp.where(fresh, new, old)


def gather(
  leaf: typing.Array, rows: typing.Array, columns: slice = slice(None)
) -> typing.Array:
  """Rows [n] of `leaf` [rows, ...], the nearest where there is none.

  Of some columns in one gather: cut out of whole rows of bytes they would make a
  TPU copy all of `leaf`.
  """
  if columns == slice(None):
    return leaf.at[rows].get(mode="clip")
  first, last, _ = columns.indices(leaf.shape[-1])
  numbers = jax.lax.GatherDimensionNumbers(
    offset_dims=tuple(range(1, leaf.ndim)),
    collapsed_slice_dims=(0,),
    start_index_map=(0, leaf.ndim - 1),
  )
  return jax.lax.gather(
    leaf,
    jnp.stack([rows, jnp.full_like(rows, first)], axis=1),
    numbers,
    (1, *leaf.shape[1:-1], last - first),
    mode=jax.lax.GatherScatterMode.CLIP,
  )


def put(
  leaf: typing.Array, value: typing.Array, place: typing.Array
) -> typing.Array:
  """`leaf` [rows, ...] with the rows of the block at `place` replaced.

  Consecutive rows are all written: stale ones must hold their old values.
  """
  if place.ndim == 0:
    return jax.lax.dynamic_update_slice_in_dim(leaf, value, place, 0)
  # Rows that are unique may be written in any order, or at once.
  return leaf.at[place].set(value, mode="drop", unique_indices=True)


@dataclasses.dataclass(frozen=True)
class Walk:
  """An order in which blocks cover rows of a shard.

  Attributes:
    rows: rows of the shard.
    size: rows a block; `listed` holds a multiple of it.
    listed: int32 [n], the rows to visit, each once, with -1 for none; None
      visits all.
    only_if: bool, a scalar; where it is false no row is fresh. None is true.
    turns: int32, a scalar, of how many blocks `loop` visits the first; for a
      list whose length is known at the run alone. None visits all.
  """

  rows: int
  size: int
  listed: typing.Array | None = None
  only_if: typing.Array | None = None
  turns: typing.Array | None = None

  @property
  def count(self) -> int:
    """How many blocks."""
    length = self.rows if self.listed is None else self.listed.shape[0]
    return -(-length // self.size)

  def block(self, index: typing.ArrayLike | int) -> Block:
    """Block number `index`.

    The last of consecutive blocks starts early enough to be whole.
    """
    nominal = jnp.asarray(index, jnp.int32) * self.size
    block = self._block(nominal)
    if self.only_if is None:
      return block
    return block._replace(fresh=block.fresh & self.only_if)

  def _block(self, nominal: typing.Array) -> Block:
    if self.listed is not None:
      # Row 0 stands in for none: some row must be read, and is thrown away.
      rows = jax.lax.dynamic_slice_in_dim(self.listed, nominal, self.size)
      return Block(rows=jnp.maximum(rows, 0), fresh=rows >= 0, start=None)
    # The last block too has the static size that the loop is compiled for; the
    # rows that the one before it has had are stale.
    start = jnp.minimum(nominal, self.rows - self.size)
    rows = start + jnp.arange(self.size, dtype=jnp.int32)
    return Block(rows=rows, fresh=rows >= nominal, start=start)

  def loop(
    self,
    body: Callable[[Block, Carry], Carry],
    carry: Carry,
    *,
    first: int = 0,
    last: int | typing.Array | None = None,
  ) -> Carry:
    """carry = body(block, carry) for blocks first <= index < last in turn.

    A fori_loop: as xs and ys of a scan the prototypes would be held twice.
    """
    if last is None:
      last = self.count if self.turns is None else self.turns

    def step(index: typing.Array, carry: Carry) -> Carry:
      return body(self.block(index), carry)

    return jax.lax.fori_loop(first, last, step, carry)

  def loop_ahead(
    self,
    prepare: Callable[[Block, Carry], Any],
    body: Callable[[Block, Carry, Any], Carry],
    carry: Carry,
  ) -> Carry:
    """`loop` over all blocks, with body(block, carry, prepare(block, carry)).

    What is prepared waits in the loop's carry since the end of the turn before.
    It must not depend on what the body does to other blocks' rows.
    """

    def ahead(index: typing.ArrayLike | int, carry: Carry) -> Any:
      # Once nobody reads what was ready, the next takes its place in memory.
      index, _ = jax.lax.optimization_barrier((index, carry))
      return prepare(self.block(index), carry)

    def step(
      index: typing.Array, state: tuple[Carry, Any]
    ) -> tuple[Carry, Any]:
      carry, ready = state
      carry = body(self.block(index), carry, ready)
      return carry, ahead(index + 1, carry)

    start = carry, ahead(0, carry)
    return jax.lax.fori_loop(0, self.count, step, start)[0]


def walk_listed(
  rows: int,
  size: int,
  listed: typing.Array,
  count: typing.Array | None = None,
) -> Walk:
  """The walk over `listed` [n], or its first `count`, filled up to blocks."""
  size = min(size, listed.shape[0])
  missing = -listed.shape[0] % size
  padding = jnp.full((missing,), -1, jnp.int32)
  turns = None if count is None else -(-count // size)
  listed = jnp.concatenate([listed, padding])
  return Walk(rows, size, listed, turns=turns)
