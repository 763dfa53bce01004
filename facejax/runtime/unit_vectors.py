"""Vectors on the unit sphere."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from facejax.runtime import typing

_EPSILON = 1e-12
# 2^-30: well above that.
_SHORTEST = 30


def l2_normalize(x: typing.ArrayLike) -> typing.Array:
  """Scales vectors to unit length: x / ||x||, or 0 if ||x|| <= 1e-12.

  The gradient of such a zero vector is zero too, not NaN and not huge. Vectors
  may be as long as their type allows: where squares, or the cubes that the
  gradient holds, would leave it, they are scaled by a power of two before.

  Args:
    x: vectors [..., dim].

  Returns:
    Unit vectors [..., dim].

  >>> [round(float(v), 6) for v in l2_normalize(jnp.array([3.0, 4.0]))]
  [0.6, 0.8]
  """
  x = jnp.asarray(x)
  x = x * _moderating(x)
  square = jnp.sum(x * x, axis=-1, keepdims=True)
  tiny = square <= _EPSILON**2
  # Both branches of `where` must be finite, or their gradient is NaN.
  inverse = jax.lax.rsqrt(jnp.where(tiny, 1, square))
  return x * jnp.where(tiny, 0, inverse)


def _moderating(x: typing.Array) -> typing.Array:
  """A power of two for each vector [..., 1] that makes it moderately long.

  It is 1 up to entries of 2^30 in float32 (2^329 in float64), so that what is
  usual is not changed, not even by rounding. It carries no gradient: x / ||x||
  does not depend on it.
  """
  # Cubes of lengths up to 2^far, times what stands beside them, are finite.
  far = jnp.finfo(x.dtype).maxexp // 3 - 12
  if far < 0:  # float16, which has no room to scale in
    return jnp.ones_like(x[..., :1])
  farther = 2 * far + _SHORTEST
  largest = jnp.abs(jax.lax.stop_gradient(x)).max(axis=-1, keepdims=True)
  # What begins at 2^far, or 2^farther, comes to begin at 2^-_SHORTEST.
  down, further_down = (
    jnp.asarray(2.0 ** -(start + _SHORTEST), x.dtype)
    for start in (far, farther)
  )
  scale = jnp.where(largest > 2.0**far, down, jnp.ones_like(largest))
  return jnp.where(largest > 2.0**farther, further_down, scale)


def largest_entries(
  vectors: np.ndarray,
  *,
  what: str = "embeddings",
  name: Callable[[int], str] = "number {}".format,
) -> np.ndarray:
  """The largest entry of each vector [n, dim], [n]; refuses useless vectors.

  Args:
    vectors: float32 or float64.
    what: for the message, what they are.
    name: for the message, what vector number k belongs to.

  Raises:
    ValueError: if one is zero or not finite; names the first.
  """
  largest = np.abs(vectors).max(axis=1, initial=0)
  bad = np.flatnonzero(~(np.isfinite(largest) & (largest > 0)))
  if bad.size:
    raise ValueError(
      f"{bad.size} of {len(vectors)} {what} are zero vectors or not finite, the"
      f" first is {name(int(bad[0]))}"
    )
  return largest


def unit(
  vectors: np.ndarray,
  *,
  what: str = "embeddings",
  name: Callable[[int], str] = "number {}".format,
) -> np.ndarray:
  """Brings vectors [n, dim] to length 1, or refuses them.

  Lengths are computed in float64; vectors of any finite length will do.

  Args:
    vectors: float32, or float64 which stays so.
    what: for the message, what they are.
    name: for the message, what vector number k belongs to.

  Raises:
    ValueError: if one is zero or not finite; names the first.

  >>> unit(np.array([[3.0, 4.0], [0.0, 1e300]])).tolist()
  [[0.6, 0.8], [0.0, 1.0]]
  """
  largest = largest_entries(vectors, what=what, name=name)
  # Squares of 1e200 would be infinite. A power of two changes no digit.
  scaled = np.ldexp(vectors, -np.frexp(largest)[1][:, None])
  squares = np.einsum("nd,nd->n", scaled, scaled, dtype=np.float64)
  return (scaled / np.sqrt(squares)[:, None]).astype(vectors.dtype)


def similarity(a: Any, b: Any) -> float:
  """The cosine between two embeddings, in [-1, 1].

    cos = a · b / (‖a‖ ‖b‖)

  Args:
    a: [dim].
    b: [dim].

  Raises:
    ValueError: if their shapes differ, or one is zero or not finite.

  >>> similarity([1.0, 0.0], [0.6, 0.8])
  0.6
  """
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  if a.ndim != 1 or a.shape != b.shape:
    raise ValueError(
      f"embeddings have shapes {a.shape} and {b.shape}; both must be (dim,)"
    )
  first, second = unit(np.stack([a, b]))
  return float(np.clip(first @ second, -1, 1))
