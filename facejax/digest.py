"""A 32-bit digest of an array that is the same on every mesh.

Storage flips bits now and then, and array formats do not always notice. A
digest taken on the device before an array is written, and again after it was
read back, does. Sums of integers do not depend on their order, so one device
and a thousand agree on it, whatever the sharding.
"""

import jax
import jax.numpy as jnp

from jax import lax


def _mix(x: jax.Array) -> jax.Array:
  """Bijection of uint32 that spreads every bit over all others; 0 -> 0.

  The finalizer of MurmurHash3.
  """
  x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
  return x ^ (x >> 16)


def _bits(array: jax.Array) -> jax.Array:
  """Bit patterns as uint32; 8-byte types get a last axis of two words."""
  if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
    array = jax.random.key_data(array)
  if array.dtype == jnp.bool_:
    return array.astype(jnp.uint32)
  width = min(array.dtype.itemsize, 4)
  words = lax.bitcast_convert_type(array, jnp.dtype(f"uint{8 * width}"))
  return words.astype(jnp.uint32)


def _element_index(shape: tuple[int, ...]) -> jax.Array:
  """Row-major index of every element, modulo 2^32."""
  index = jnp.zeros(shape, jnp.uint32)
  for axis, size in enumerate(shape):
    position = lax.broadcasted_iota(jnp.uint32, shape, axis)
    index = index * jnp.uint32(size % 2**32) + position
  return index


@jax.jit
def digest(array: jax.Array) -> jax.Array:
  """Digest of an array's values and of their places.

  ```
  digest = sum_i mix(bits_i * (mix(i) | 1))  mod 2^32
  ```

  with `i` the row-major index of an element and `bits_i` its bit pattern.
  The odd factor ties a value to its place and `mix` is a bijection, so a
  change of one element always changes the digest, and any other damage goes
  unnoticed once in 2^32. Elements whose bits are all zero add nothing: zero
  rows at the end of an array, which pad it to a multiple of the devices, leave
  its digest as it is. Elements 2^32 places apart share a factor, so that only
  an exchange of such two would be missed.

  The sum is fused with what it sums: no copy of the array is made.

  Args:
    array: any shape and sharding; boolean, integer, floating-point (complex
      numbers excepted) or typed PRNG keys.

  Returns:
    A uint32 scalar.

  >>> rows = jnp.arange(6.0).reshape(3, 2)
  >>> padded = jnp.concatenate([rows, jnp.zeros((5, 2))])
  >>> int(digest(rows)) == int(digest(padded))
  True
  >>> int(digest(rows)) == int(digest(rows[::-1]))
  False
  """
  bits = _bits(array)
  place = _mix(_element_index(bits.shape)) | jnp.uint32(1)
  return jnp.sum(_mix(bits * place), dtype=jnp.uint32)
