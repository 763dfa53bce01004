"""How prototypes and their optimizer state are kept: float32, bfloat16, float8.

Whatever is narrower than float32 is written with stochastic rounding, the same on
any number of devices: a weight whose updates are smaller than half a unit in the
last place would never move if rounded to the nearest; rounded up with the
probability of what is cut off, it moves by the right amount on average.

It is kept as its bits from the train state to the checkpoint: bfloat16 as uint16,
float8 as uint8 with the scales of each row behind it (see `float8`). XLA's CPU
backend has no such types of its own and would convert a whole matrix for each block
of it, and reading an array as another type copies it.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp

from facejax.head import blocks, float8
from facejax.runtime import hashing, typing

Storage: TypeAlias = Literal["float32", "bfloat16", "float8"]

# Types of bits, which are numbers only once they are loaded.
_BITS: dict[Any, str] = {
  jnp.dtype(jnp.uint16): "bfloat16",
  jnp.dtype(jnp.uint8): "float8",
}
_BYTES = {"float32": 4, "bfloat16": 2, "float8": 1}


def bits_of(leaf: typing.Array) -> str | None:
  """What an array holds the bits of, or None if it holds numbers."""
  return _BITS.get(leaf.dtype)


def shape(leaf: typing.Array) -> tuple[int, ...]:
  """The shape [rows, (k,) dim] of what is kept, once it is loaded."""
  *outer, dim = leaf.shape
  return (*outer, dim - float8.SCALES * (bits_of(leaf) == "float8"))


def row_bytes(numbers: int, dtype: Storage) -> int:
  """Bytes of a row of so many numbers.

  >>> row_bytes(512, "float8"), row_bytes(512, "float32")
  (516, 2048)
  """
  return numbers * _BYTES[dtype] + float8.SCALES * (dtype == "float8")


def check_optimizer(name: str, dtype: Storage) -> None:
  """Refuses an optimizer whose state is not for so few bits.

  Args:
    name: "sgd", "lion", "adagrad" or "adamw".
    dtype: how its state is to be kept.

  Raises:
    ValueError: for sums of squares in float8.
  """
  if dtype == "float8" and name in ("adagrad", "adamw"):
    raise ValueError(
      f"optimizer_storage=float8 with {name}, which divides by sums of squares:"
      " with three bits of fraction small ones would become 0; use bfloat16, or"
      " sgd or lion for the head"
    )


def encode(x: typing.Array, dtype: Storage) -> typing.Array:
  """float32 values as they are kept, rounded to the nearest."""
  if dtype == "float32":
    return x
  if dtype == "float8":
    return float8.pack(x.astype(jnp.float32), float8.NEAREST)
  return jax.lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16)


def load(leaf: typing.Array) -> typing.Array:
  """The values of what is kept, float32 where that is bits.

  >>> load(encode(jnp.array([1.5]), "bfloat16")).tolist()
  [1.5]
  """
  kept = bits_of(leaf)
  if kept is None:
    return leaf
  if kept == "float8":
    return float8.unpack(leaf[..., : float8.CODES], leaf[..., float8.CODES :])
  # bfloat16 is the upper half of a float32.
  wide = leaf.astype(jnp.uint32) << 16
  return jax.lax.bitcast_convert_type(wide, jnp.float32)


def rows(block: blocks.Block, leaf: typing.Array) -> typing.Array:
  """`load` of a block's rows."""
  return _taken(leaf, block.take)


def some(leaf: typing.Array, numbers: typing.Array) -> typing.Array:
  """`load` of the rows of these numbers [n]."""
  return _taken(
    leaf, lambda leaf, *columns: blocks.gather(leaf, numbers, *columns)
  )


def _taken(
  leaf: typing.Array, take: Callable[..., typing.Array]
) -> typing.Array:
  """`load` of what take(leaf, columns) takes."""
  if bits_of(leaf) != "float8":
    return load(take(leaf))
  # Both parts by themselves: of rows that are taken and then cut in two, a CPU
  # works on single numbers, in five times the time.
  codes = take(leaf, slice(None, float8.CODES))
  return float8.unpack(codes, take(leaf, slice(float8.CODES, None)))


def row_words(key: typing.PRNGKey, class_ids: typing.Array) -> typing.Array:
  """Random uint32 [rows] that (key, class id) decide."""
  keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, class_ids)
  return jax.vmap(lambda key: jax.random.bits(key, dtype=jnp.uint32))(keys)


def store(
  x: typing.Array, like: typing.Array, words: typing.Array | None, *, salt: int
) -> typing.Array:
  """The inverse of `load`, into the type of `like`; E[load(store(x))] = x.

  Args:
    x: float32 [rows, ...], finite.
    like: an array as it is kept, float32 or bits.
    words: uint32 [rows], as of `row_words`; None will do for float32.
    salt: a number of its own for each array of the same rows.

  References:
    Gupta et al., Deep Learning with Limited Numerical Precision, 2015.
  """
  kept = bits_of(like)
  if kept is None:
    return x.astype(like.dtype)
  assert words is not None
  # A word for each number: the row's, mixed with the column's and the array's.
  flat = x.reshape(x.shape[0], -1)
  columns = jnp.arange(flat.shape[1], dtype=jnp.uint32)
  columns = hashing.mix(columns + jnp.uint32((salt << 20) + 1))
  noise = hashing.mix(words[:, None] ^ columns[None, :]).reshape(x.shape)
  if kept == "float8":
    return float8.pack(x, noise >> 12)
  # The cut-off half of the bits, f, plus noise uniform in [0, 2^16), carries
  # into the rest with probability f / 2^16: E[load(store(x))] = x.
  bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + (noise >> 16)
  return (bits >> 16).astype(jnp.uint16)
