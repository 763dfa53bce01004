"""Vectors on the unit sphere."""

import jax
import jax.numpy as jnp

from facejax import typing

_EPSILON = 1e-12


def l2_normalize(x: typing.ArrayLike) -> typing.Array:
  """Scales vectors to unit length: x / max(||x||, 1e-12).

  Value and gradient of the zero vector are zero, not NaN.

  Args:
    x: vectors [..., dim].

  Returns:
    Unit vectors [..., dim].

  >>> [round(float(v), 6) for v in l2_normalize(jnp.array([3.0, 4.0]))]
  [0.6, 0.8]
  """
  x = jnp.asarray(x)
  square = jnp.sum(x * x, axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, _EPSILON**2))
