"""The products of a block, of operands as `Options.precision` says.

Sums are float32. With "float8" the operands of the logits are rounded to
float8_e4m3fn, each row times a power of two of its own that brings its largest
number to [2^7, 2^8). The products of the gradient are bfloat16's: a class with a
thousandth of the largest share counts there, and three bits would lose it.

References:
  Micikevicius et al., FP8 Formats for Deep Learning, 2022.
"""

from typing import NamedTuple

import jax.numpy as jnp

from facejax.head import float8, options, reference
from facejax.runtime import typing


class Operand(NamedTuple):
  """A factor of the logits.

  Attributes:
    numbers: [rows, dim], of the type that is multiplied.
    scales: [rows], by which the product is multiplied yet; None for 1.
  """

  numbers: typing.Array
  scales: typing.Array | None = None


def operand(head: options.Options, x: typing.Array) -> Operand:
  """Rows [rows, dim] as the product of the logits takes them."""
  if head.precision == "float8":
    return Operand(*float8.codes(x))
  return Operand(x.astype(jnp.bfloat16) if head.narrow_operands else x)


def logits(w: Operand, queries: Operand) -> typing.Array:
  """w @ queries.T: [size, dim] and [batch, dim] give [size, batch]."""
  dots = _product(w.numbers, queries.numbers.T)
  if w.scales is None or queries.scales is None:
    return dots
  return dots * w.scales[:, None] * queries.scales[None, :]


def gradients(
  head: options.Options, a: typing.Array, b: typing.Array
) -> typing.Array:
  """a @ b, for the gradients of both factors."""
  if head.narrow_operands:
    return _product(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16))
  return _product(a, b)


def _product(a: typing.Array, b: typing.Array) -> typing.Array:
  if a.dtype.itemsize < 4:
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)
  return jnp.matmul(a, b, precision=reference.PRECISION)
