"""Margins: from the cosine of the true class to its target logit (without s).

Every function here maps `target_cosine` [...] to phi(target_cosine) [...], so
that logits are s phi(cos theta_y) for the true class y and s cos theta_j for
all others. The classification head applies it once to a vector of the batch's
size and never looks inside.
"""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

from facejax.losses import angles, choices
from facejax.runtime import ranges, typing

Gradient: TypeAlias = Literal["exact", "detached"]
Guard: TypeAlias = Literal["fallback", "easy", "none", "clip"]

# theta stays this far from 0 and pi under guard="clip".
_ANGLE_EPSILON = 1e-4


def nsl(target_cosine: typing.ArrayLike) -> typing.Array:
  """Normalised softmax loss: no margin, phi(c) = c.

  Args:
    target_cosine: cos theta_y, any shape.

  Returns:
    phi, of the same shape.

  References:
    Wang et al., NormFace: L2 Hypersphere Embedding for Face Verification,
      2017.

  >>> float(nsl(0.5))
  0.5
  """
  return angles.as_float(target_cosine)


def cosface(
  target_cosine: typing.ArrayLike, *, margin: float | typing.Array
) -> typing.Array:
  """Large margin cosine loss (CosFace, AM-Softmax): phi(c) = c - m.

  Args:
    target_cosine: cos theta_y, any shape.
    margin: m >= 0, a difference of cosines; a number, or of the same shape.

  Returns:
    phi, of the same shape.

  Raises:
    ValueError: if a number is outside its range.

  References:
    Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition,
      2018, Eq. 4.
    Wang et al., Additive Margin Softmax for Face Verification, 2018.

  >>> round(float(cosface(0.5, margin=0.35)), 6)
  0.15
  """
  ranges.check_numbers(ranges.NOT_NEGATIVE, margin=margin)
  return angles.as_float(target_cosine) - margin


def arcface(
  target_cosine: typing.ArrayLike,
  *,
  margin: float | typing.Array,
  guard: Guard = "fallback",
  gradient: Gradient = "exact",
) -> typing.Array:
  """Additive angular margin loss: phi(cos theta) = cos(theta + m).

  cos(theta + m) rises again once theta + m exceeds pi. The guard says what
  replaces it there:
    fallback: c - m sin(pi - m) where theta + m > pi (discontinuous at the
      switch, monotone on both sides).
    easy: c where c <= 0, so the margin acts on acute angles only.
    none: cos(theta + m) everywhere.
    clip: theta + m is kept within [1e-4, pi - 1e-4].

  Args:
    target_cosine: cos theta_y, any shape; values outside [-1, 1] are clipped.
    margin: m in radians, 0 <= m < pi; a number, or of the same shape.
    guard: see above.
    gradient: "exact" is the derivative of this formula, sin(theta + m) /
      sin(theta); "detached" takes that of phi(c) = c, as several public
      trainers do.

  Returns:
    phi, of the same shape.

  Raises:
    ValueError: if guard or gradient is not one of the above, or a number is
      outside its range.

  References:
    Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face
      Recognition, 2019, Eq. 3.

  >>> round(float(arcface(0.5, margin=0.5)), 6)
  0.023597
  """
  ranges.check_numbers(ranges.ANGLE, margin=margin)
  choices.check("guard", guard, Guard)
  cosine = angles.as_float(target_cosine)
  # One unit in the last place inside the interval, so that sin theta > 0 and
  # its derivative -c / sin theta is finite; the clip stops the gradient at
  # exactly +-1 only in the angle, the fallback keeps its own.
  edge = 1 - jnp.finfo(cosine.dtype).eps
  inside = jnp.clip(cosine, -edge, edge)
  sine = jnp.sqrt(1 - inside * inside)
  phi = inside * jnp.cos(margin) - sine * jnp.sin(margin)
  if guard == "fallback":
    shifted = cosine - margin * jnp.sin(margin)
    phi = jnp.where(cosine > -jnp.cos(margin), phi, shifted)
  elif guard == "easy":
    phi = jnp.where(cosine > 0, phi, cosine)
  elif guard == "clip":
    last = jnp.cos(jnp.pi - _ANGLE_EPSILON)
    phi = jnp.where(
      cosine > jnp.cos(jnp.pi - _ANGLE_EPSILON - margin), phi, last
    )
  return with_gradient(phi, cosine, gradient)


def combined(
  target_cosine: typing.ArrayLike,
  *,
  m1: float,
  m2: float,
  m3: float,
  gradient: Gradient = "exact",
) -> typing.Array:
  """Combined margin: phi(cos theta) = cos(m1 theta + m2) - m3.

  Without a guard, as published: it rises again once m1 theta + m2 exceeds pi.
  All three margins act together; a widespread trainer takes (m1, m2, m3) with
  m3 > 0 for CosFace and drops the other two.

  Args:
    target_cosine: cos theta_y, any shape; values outside [-1, 1] are clipped.
    m1: factor of the angle, above 0 (SphereFace).
    m2: added to the angle, radians, 0 <= m2 < pi (ArcFace).
    m3: taken off the cosine, m3 >= 0 (CosFace).
    gradient: "exact" is the derivative of this formula,
      m1 sin(m1 theta + m2) / sin(theta); "detached" that of phi(c) = c.

  Returns:
    phi, of the same shape.

  Raises:
    ValueError: if gradient is not one of the above, or a number is outside its
      range.

  References:
    Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face
      Recognition, 2019, Eq. 4.

  >>> round(float(combined(0.5, m1=1.0, m2=0.3, m3=0.2)), 6)
  0.02174
  """
  ranges.check_numbers(ranges.POSITIVE, m1=m1)
  ranges.check_numbers(ranges.ANGLE, m2=m2)
  ranges.check_numbers(ranges.NOT_NEGATIVE, m3=m3)
  cosine = angles.as_float(target_cosine)
  phi = jnp.cos(m1 * angles.angle(cosine) + m2) - m3
  return with_gradient(phi, cosine, gradient)


def with_gradient(
  phi: typing.Array, cosine: typing.Array, gradient: Gradient
) -> typing.Array:
  """phi, with its own gradient or that of the plain cosine.

  Raises:
    ValueError: if gradient is neither "exact" nor "detached".
  """
  choices.check("gradient", gradient, Gradient)
  return detach(phi, cosine) if gradient == "detached" else phi


def detach(phi: typing.Array, cosine: typing.Array) -> typing.Array:
  """The value of phi with the gradient of the plain cosine.

  >>> float(jax.grad(lambda c: detach(c**2, c))(3.0))
  1.0
  """
  return cosine + jax.lax.stop_gradient(phi - cosine)
