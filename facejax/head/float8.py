"""Rows of float8, a power of two for each quarter of a row, as their bits.

A row of dim numbers is dim + 4 bytes: their codes, float8_e4m3fn, then a scale
for each quarter of the row, so that number c is code c times its quarter's scale.
A power of two can change without what was exact being rounded once more; four
bytes more keep rows at whole words of memory. The largest code of a quarter is in
[2^7, 2^8); down to 2^-13 of it all codes have their fraction of three bits, and
below that they are equally far apart.

References:
  Micikevicius et al., FP8 Formats for Deep Learning, 2022.
  Rouhani et al., OCP Microscaling Formats (MX) Specification, 2023.
"""

import jax
import jax.numpy as jnp

from facejax.runtime import typing

SCALES = 4  # a row, a byte each
NEAREST = 2**19  # noise that rounds to the nearest

# float32: bits of its fraction, bias of its exponent. Codes keep 3 of 23 bits.
_FRACTION, _BIAS = 23, 127
_CUT = _FRACTION - 3
# float8_e4m3fn: its bias, and the code of its largest number, 448.
_NARROW_BIAS, _TOP = 7, 0x7E
# A scale byte b with which codes are read through float16, whose bias is larger by
# 8, is 2^(b - 127); the same quarter is divided by 2^(b - 127 - 8).
_UP = 2 * _BIAS + 8
# The scales of numbers that float32 has room for: between no number and infinity.
_LEAST, _MOST, _INFINITE = 9, 254, 255


def pack(x: typing.Array, noise: typing.ArrayLike) -> typing.Array:
  """float32 [..., dim] as uint8 [..., dim + 4]; the inverse of `unpack`.

  Args:
    x: the numbers, less than 2^127 in size; a quarter with one that is not finite
      comes back so.
    noise: uint32, broadcasts to x: uniform in [0, 2^20) for
      E[unpack(pack(x))] = x, or `NEAREST`.
  """
  scales = _scales(x)
  # The largest of each quarter comes to [2^7, 2^8); nothing is rounded here.
  down = jnp.where(scales > 0, _power(_UP - scales.astype(jnp.uint32)), 0)
  y = x * _spread(down, x.shape[-1])
  bits = jax.lax.bitcast_convert_type(y, jnp.uint32)
  sign, size = (bits >> 24) & 0x80, bits & 0x7FFFFFFF
  # Codes are as far apart below 2^-6 as from there to 2^-5: add 2^-6, and take its
  # code away afterwards.
  least = (_BIAS + 1 - _NARROW_BIAS) << _FRACTION
  is_small = size < least
  lifted = jnp.abs(y) + jnp.float32(2.0 ** (1 - _NARROW_BIAS))
  lifted = jax.lax.bitcast_convert_type(lifted, jnp.uint32)
  # What is cut off, f, carries with probability f / 2^20.
  code = (jnp.where(is_small, lifted, size) + jnp.uint32(noise)) >> _CUT
  first = (_BIAS - _NARROW_BIAS) << 3
  code = code - jnp.where(is_small, jnp.uint32(first + 8), jnp.uint32(first))
  code = jnp.minimum(code, _TOP) | sign
  return jnp.concatenate([code.astype(jnp.uint8), scales], axis=-1)


def unpack(row: typing.Array) -> typing.Array:
  """uint8 [..., dim + 4] as float32 [..., dim]; exact.

  >>> unpack(pack(jnp.array([1.0, -0.75, 0.0, 3e-9, 1.0]), NEAREST)).tolist()
  [1.0, -0.75, 0.0, 3.026798367500305e-09, 1.0]
  """
  dim = row.shape[-1] - SCALES
  code, scales = row[..., :dim].astype(jnp.uint16), row[..., dim:]
  # The same sign, exponent and fraction as float16: 2^-8 times the number.
  half = (code & 0x80) << 8 | (code & 0x7F) << 7
  half = jax.lax.bitcast_convert_type(half, jnp.float16)
  scale = _power(scales.astype(jnp.uint32))
  return half.astype(jnp.float32) * _spread(scale, dim)


def _scales(x: typing.Array) -> typing.Array:
  """The scale bytes [..., 4] of x [..., dim]."""
  dim = x.shape[-1]
  width = _width(dim)
  # Zeros change no maximum.
  x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, SCALES * width - dim)])
  quarters = jnp.abs(x).reshape(*x.shape[:-1], SCALES, width)
  largest = quarters.max(axis=-1)
  bits = jax.lax.bitcast_convert_type(largest, jnp.uint32)
  scales = jnp.clip((bits >> _FRACTION) + 1, _LEAST, _MOST)
  scales = jnp.where(largest > 0, scales, 0)
  return jnp.where(jnp.isfinite(largest), scales, _INFINITE).astype(jnp.uint8)


def _spread(values: typing.Array, dim: int) -> typing.Array:
  """Values [..., 4] of the quarters, for each number [..., dim]."""
  return jnp.repeat(values, _width(dim), axis=-1)[..., :dim]


def _width(dim: int) -> int:
  """Numbers a quarter; the last may have fewer."""
  return -(-dim // SCALES)


def _power(biased: typing.Array) -> typing.Array:
  """2^(biased - 127), from the bits of float32; 0 of 0, infinite of 255."""
  return jax.lax.bitcast_convert_type(biased << _FRACTION, jnp.float32)
