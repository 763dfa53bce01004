"""Cutting a shard's classes into blocks: their size and the loop over them."""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from facejax import typing

Carry = TypeVar("Carry")

_CPU_CACHE = 3e6  # bytes; a share of a core's cache
_GPU_LOGITS = 2**28  # bytes


def block_size(
  *, batch: int, dim: int, rows: int, platform: str | None = None
) -> int:
  """Classes a block, a power of two unless there are fewer rows.

  The memory of the head beside prototypes and optimizer state is a few arrays
  [block, batch] and [block, dim]. The rule, by platform:
    cpu: near 3 MB / (4 (dim + batch)), within 512 to 4096, so that a block
      stays in the cache from one matmul to the next (the optimum is flat).
    gpu: the largest with 4 batch block <= 256 MiB, 8192 or more: small blocks
      leave the device idle between kernels.
    tpu: 16384 while 4 batch block <= 64 MiB, else 8192.

  Args:
    batch: examples that one device compares with its classes.
    dim: size of the embeddings.
    rows: classes of one device.
    platform: "cpu", "gpu" or "tpu"; None asks JAX.

  >>> block_size(batch=256, dim=512, rows=10**6, platform="cpu")
  1024
  >>> block_size(batch=1024, dim=512, rows=10**6, platform="gpu")
  65536
  """
  platform = platform or jax.default_backend()
  if platform == "cpu":
    size = 2 ** round(math.log2(_CPU_CACHE / (4 * (dim + batch))))
    size = min(max(size, 512), 4096)
  elif platform == "tpu":
    size = 16384 if batch <= 1024 else 8192
  else:
    size = max(8192, 2 ** math.floor(math.log2(_GPU_LOGITS / (4 * batch))))
  return min(size, rows)


class Block(NamedTuple):
  """Consecutive rows of a shard.

  The last block of a shard whose rows the size does not divide starts early
  enough to be whole; the rows that it shares with the block before are not
  fresh, and must neither count twice nor change twice.

  Attributes:
    start: first row, int32.
    rows: [size], row numbers within the shard.
    fresh: bool [size].
  """

  start: typing.Array
  rows: typing.Array
  fresh: typing.Array

  def take(self, leaf: typing.Array) -> typing.Array:
    """The rows of this block out of `leaf` [rows, ...]."""
    size = self.rows.shape[0]
    return jax.lax.dynamic_slice_in_dim(leaf, self.start, size)

  def put(self, leaf: typing.Array, value: typing.Array) -> typing.Array:
    """`leaf` [rows, ...] with the rows of this block replaced."""
    return jax.lax.dynamic_update_slice_in_dim(
      leaf, value.astype(leaf.dtype), self.start, 0
    )

  def keep_stale(self, new: typing.Array, old: typing.Array) -> typing.Array:
    """`new` [size, ...] where fresh, else `old`."""
    fresh = self.fresh.reshape((-1,) + (1,) * (new.ndim - 1))
    return jnp.where(fresh, new, old)


def block_at(index: typing.ArrayLike, *, rows: int, size: int) -> Block:
  """Block number `index` of a shard with `rows` classes."""
  nominal = jnp.asarray(index, jnp.int32) * size
  start = jnp.minimum(nominal, rows - size)
  ids = start + jnp.arange(size, dtype=jnp.int32)
  return Block(start=start, rows=ids, fresh=ids >= nominal)


def count(*, rows: int, size: int) -> int:
  """Blocks of `size` classes that cover `rows`."""
  return -(-rows // size)


def loop(
  body: Callable[[Block, Carry], Carry], carry: Carry, *, rows: int, size: int
) -> Carry:
  """carry = body(block, carry) for each block of a shard in turn.

  A fori_loop: as xs and ys of a scan the prototypes would be held twice.
  """

  def step(index, carry):
    return body(block_at(index, rows=rows, size=size), carry)

  return jax.lax.fori_loop(0, count(rows=rows, size=size), step, carry)
