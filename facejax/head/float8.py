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

SCALES = 4  # a row, a byte each: the exponent of float32, 0 where all is 0
CODES = -SCALES  # where the codes of a row end
NEAREST = 2**19  # noise that rounds to the nearest

# float32: bits of its fraction, bias of its exponent. Codes keep 3 of 23 bits.
_FRACTION, _BIAS = 23, 127
_CUT = _FRACTION - 3
# float8_e4m3fn: its bias, the code of its largest number, 448, and the exponent that
# the largest number of a quarter is brought to.
_NARROW_BIAS, _TOP, _LARGEST = 7, 0x7E, 7
_INFINITE = 255  # the exponent of what is not finite


def pack(x: typing.Array, noise: typing.ArrayLike | int) -> typing.Array:
  """float32 [..., dim] as uint8 [..., dim + 4]; the inverse of `unpack`.

  Args:
    x: the numbers; a quarter with one that is not finite comes back so.
    noise: uint32, broadcasts to x: uniform in [0, 2^20) for
      E[unpack(pack(x))] = x, or `NEAREST`.
  """
  scales = _scales(x)
  # The largest of each quarter comes to [2^7, 2^8); nothing is rounded here.
  down = _power(jnp.uint32(2 * _BIAS) - scales.astype(jnp.uint32))
  y = _times(x, jnp.where(scales > 0, down, 0))
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
  code = (jnp.minimum(code, _TOP) | sign).astype(jnp.uint8)
  return jnp.concatenate([code, scales], axis=-1)


def unpack(codes: typing.Array, scales: typing.Array) -> typing.Array:
  """uint8 [..., dim] and [..., 4], the parts of rows, as float32; exact.

  >>> row = pack(jnp.array([1.0, -0.75, 0.0, 3e-9, 1.0]), NEAREST)
  >>> unpack(row[:CODES], row[CODES:]).tolist()
  [1.0, -0.75, 0.0, 3.026798367500305e-09, 1.0]
  """
  # By the compiler's own conversion: shifts into float16 or float32 take a CPU
  # five to ten times as long.
  values = jax.lax.bitcast_convert_type(codes, jnp.float8_e4m3fn)
  return _times(values.astype(jnp.float32), _power(scales.astype(jnp.uint32)))


def codes(x: typing.Array) -> tuple[typing.Array, typing.Array]:
  """x [rows, dim] as float8_e4m3fn, and a power of two for each row.

  Rounded to the nearest, for products; the largest of a row comes to
  [2^7, 2^8). Rows of `unpack` lose only what is below 2^-13 of it.

  >>> numbers, scales = codes(jnp.array([[1.0, -0.3]]))
  >>> (numbers.astype(jnp.float32) * scales[:, None]).tolist()
  [[1.0, -0.3125]]
  """
  x = x.astype(jnp.float32)
  scales = _exponents(jnp.abs(x).max(axis=-1)).astype(jnp.uint32)
  down = jnp.where(scales > 0, _power(jnp.uint32(2 * _BIAS) - scales), 0)
  return (x * down[:, None]).astype(jnp.float8_e4m3fn), _power(scales)


def _scales(x: typing.Array) -> typing.Array:
  """The scale bytes [..., 4] of x [..., dim]."""
  return _exponents(jnp.abs(_quarters(x)).max(axis=-1))


def _exponents(largest: typing.Array) -> typing.Array:
  """Of the power of two that divides `largest` into [2^7, 2^8), as a byte."""
  bits = jax.lax.bitcast_convert_type(largest, jnp.uint32)
  # 2^e with e 7 less than the exponent of the largest, within float32.
  scales = jnp.maximum(bits >> _FRACTION, _LARGEST + 1) - _LARGEST
  scales = jnp.where(largest > 0, scales, 0)
  return jnp.where(jnp.isfinite(largest), scales, _INFINITE).astype(jnp.uint8)


def _times(x: typing.Array, factors: typing.Array) -> typing.Array:
  """x [..., dim], each quarter times its factor of [..., 4]."""
  product = _quarters(x) * factors[..., None]
  return product.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]]


def _quarters(x: typing.Array) -> typing.Array:
  """x [..., dim] as [..., 4, dim / 4]; zeros fill the last one up."""
  dim = x.shape[-1]
  width = -(-dim // SCALES)
  if dim % SCALES:
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, SCALES * width - dim)])
  return x.reshape(*x.shape[:-1], SCALES, width)


def _power(biased: typing.Array) -> typing.Array:
  """2^(biased - 127), from the bits of float32; 0 of 0, infinite of 255."""
  return jax.lax.bitcast_convert_type(biased << _FRACTION, jnp.float32)
