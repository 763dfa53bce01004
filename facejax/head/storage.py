"""How prototypes and their optimizer state are kept: float32 or bfloat16.

bfloat16 is written with stochastic rounding, the same on any number of
devices: a weight whose updates are smaller than half a unit in the last place
would never move if rounded to the nearest; rounded up with the probability of
what is cut off, it moves by the right amount on average.

bfloat16 is kept as its bits, uint16, from the train state to the checkpoint:
XLA's CPU backend has no bfloat16 of its own and would convert a whole matrix
for each block of it, and reading an array as another type copies it.
"""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

from facejax.runtime import hashing, typing

Storage: TypeAlias = Literal["float32", "bfloat16"]


def encode(x: typing.Array, dtype: Storage) -> typing.Array:
  """float32 values as they are kept, rounded to the nearest."""
  if dtype == "float32":
    return x
  return jax.lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16)


def load(leaf: typing.Array) -> typing.Array:
  """The values of what is kept, float32 where that is bits.

  >>> load(encode(jnp.array([1.5]), "bfloat16")).tolist()
  [1.5]
  """
  if leaf.dtype != jnp.uint16:
    return leaf
  # bfloat16 is the upper half of a float32.
  wide = leaf.astype(jnp.uint32) << 16
  return jax.lax.bitcast_convert_type(wide, jnp.float32)


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
    like: an array as it is kept, float32 or uint16.
    words: uint32 [rows], as of `row_words`; None will do for float32.
    salt: a number of its own for each array of the same rows.

  References:
    Gupta et al., Deep Learning with Limited Numerical Precision, 2015.
  """
  if like.dtype != jnp.uint16:
    return x.astype(like.dtype)
  assert words is not None
  # A word for each number: the row's, mixed with the column's and the array's.
  flat = x.reshape(x.shape[0], -1)
  columns = jnp.arange(flat.shape[1], dtype=jnp.uint32)
  columns = hashing.mix(columns + jnp.uint32((salt << 20) + 1))
  # The cut-off half of the bits, f, plus noise uniform in [0, 2^16), carries
  # into the rest with probability f / 2^16: E[load(store(x))] = x.
  noise = hashing.mix(words[:, None] ^ columns[None, :]) >> 16
  bits = jax.lax.bitcast_convert_type(flat, jnp.uint32) + noise
  return (bits >> 16).astype(jnp.uint16).reshape(x.shape)
