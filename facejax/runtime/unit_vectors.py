"""Vectors on the unit sphere."""

import jax
import jax.numpy as jnp

from facejax.runtime import typing

_EPSILON = 1e-12


def l2_normalize(x: typing.ArrayLike) -> typing.Array:
  """Scales vectors to unit length: x / ||x||, or 0 if ||x|| <= 1e-12.

  The gradient of such a zero vector is zero too, not NaN and not huge.

  Args:
    x: vectors [..., dim].

  Returns:
    Unit vectors [..., dim].

  >>> [round(float(v), 6) for v in l2_normalize(jnp.array([3.0, 4.0]))]
  [0.6, 0.8]
  """
  x = jnp.asarray(x)
  square = jnp.sum(x * x, axis=-1, keepdims=True)
  tiny = square <= _EPSILON**2
  # Both branches of `where` must be finite, or their gradient is NaN.
  inverse = jax.lax.rsqrt(jnp.where(tiny, 1, square))
  return x * jnp.where(tiny, 0, inverse)
