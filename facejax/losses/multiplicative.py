"""Multiplicative angular margins: m theta in place of theta."""

import math

import jax.numpy as jnp

from facejax.losses import angles, margins
from facejax.runtime import ranges, typing


def psi(cosine: typing.ArrayLike, *, margin: int) -> typing.Array:
  r"""The monotone extension of cos(m theta), for an integer m.

  .. math::
    \psi(c) = (-1)^k \cos(m \theta) - 2k, \qquad
    \theta \in [k \pi / m, (k + 1) \pi / m]

  It falls from 1 at theta = 0 to 1 - 2m at pi. cos(m theta) is a polynomial
  of the cosine (Chebyshev's T_m) and k the number of cos(n pi / m),
  0 < n < m, above it, so no arccos is taken. The gradient is exactly 0 at
  theta = k pi / m; for even m one of these is 90 degrees, where an untrained
  network has all its angles. Hence the annealing of `a_softmax`.

  Args:
    cosine: any shape.
    margin: m >= 1, an integer.

  Returns:
    psi, of the same shape.

  Raises:
    ValueError: if m is not an integer >= 1.

  References:
    Liu et al., Large-Margin Softmax Loss for Convolutional Neural Networks,
      2016, Eq. 6.
    Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition,
      2017, Eq. 7.

  >>> [float(psi(c, margin=4)) for c in (1.0, 0.0, -1.0)]
  [1.0, -3.0, -7.0]
  """
  if not math.isfinite(margin) or margin != int(margin) or margin < 1:
    raise ValueError(
      f"margin={margin}: must be an integer of 1 or more; `sphereface` takes"
      " any real number"
    )
  cosine = angles.as_float(cosine)
  before, multiple = jnp.ones_like(cosine), cosine
  passed = jnp.zeros_like(cosine)
  for n in range(1, int(margin)):
    before, multiple = multiple, 2 * cosine * multiple - before
    passed += cosine < math.cos(n * math.pi / margin)
  return _unfold(multiple, passed)


def a_softmax(
  cosine: typing.ArrayLike,
  *,
  margin: int = 4,
  strength: typing.ArrayLike | float = 0.0,
  gradient: margins.Gradient = "exact",
) -> typing.Array:
  """A-Softmax, annealed: phi(c) = (lambda c + psi(c)) / (1 + lambda).

  With prototypes that are not normalised it is L-Softmax.

  Args:
    cosine: cos theta_y, [batch].
    margin: m, an integer >= 1.
    strength: lambda >= 0 of the plain softmax, a number or [batch]; see
      `annealed_strength`.
    gradient: "exact", or "detached" for that of phi(c) = c.

  Returns:
    phi, [batch].

  Raises:
    ValueError: if m is not an integer >= 1, a number is outside its range, or
      gradient is unknown.

  References:
    Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition,
      2017, Eq. 7 and Appendix F.
    Liu et al., Large-Margin Softmax Loss for Convolutional Neural Networks,
      2016, Sec. 4.3.

  >>> float(a_softmax(0.0, margin=4, strength=5.0))
  -0.5
  """
  ranges.check_numbers(ranges.NOT_NEGATIVE, strength=strength)
  cosine = angles.as_float(cosine)
  phi = cosine + (psi(cosine, margin=margin) - cosine) / (1 + strength)
  return margins.with_gradient(phi, cosine, gradient)


def annealed_strength(
  step: typing.ArrayLike,
  *,
  base: float = 1000.0,
  gamma: float = 0.12,
  power: float = 1.0,
  minimum: float = 5.0,
) -> typing.Array:
  """lambda of a step: max(minimum, base (1 + gamma step)^-power).

  The defaults are those of the SphereFace code. L-Softmax on MNIST has
  gamma=2.5e-5, power=35, minimum=0.

  Args:
    step: 1 for the first.
    base: lambda before it, not below 0.
    gamma: how fast it falls, not below 0.
    power: likewise, above 0.
    minimum: where it stays, not below 0.

  Returns:
    lambda, of the shape of step.

  Raises:
    ValueError: if a number is outside its range.

  References:
    Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition,
      2017, Appendix F.

  >>> [round(float(annealed_strength(n)), 4) for n in (1, 100, 28_000)]
  [892.8571, 76.9231, 5.0]
  """
  ranges.check_numbers(
    ranges.NOT_NEGATIVE, base=base, gamma=gamma, minimum=minimum
  )
  ranges.check_numbers(ranges.POSITIVE, power=power)
  decay = jnp.exp(-power * jnp.log1p(gamma * angles.as_float(step)))
  return jnp.maximum(base * decay, minimum)


def sphereface(
  cosine: typing.ArrayLike,
  *,
  margin: float,
  gradient: margins.Gradient = "exact",
) -> typing.Array:
  """psi for any real m: (-1)^k cos(m theta) - 2k, k = floor(m theta / pi).

  Args:
    cosine: cos theta_y, any shape.
    margin: m >= 1.
    gradient: "exact", or "detached" for that of phi(c) = c.

  Returns:
    phi, of the same shape.

  Raises:
    ValueError: if gradient is not one of the above, or a number is outside its
      range.

  References:
    Liu et al., SphereFace Revived: Unifying Hyperspherical Face Recognition,
      2022.

  >>> round(float(sphereface(0.0, margin=1.7)), 6)
  -0.891007
  """
  ranges.check_numbers(ranges.FACTOR, margin=margin)
  cosine = angles.as_float(cosine)
  wide = margin * angles.angle(cosine)
  # At theta = pi, k = m and k = m - 1 give the same for an integer m.
  phi = _unfold(jnp.cos(wide), jnp.floor(wide / jnp.pi))
  return margins.with_gradient(phi, cosine, gradient)


def sphereface_r(
  cosine: typing.ArrayLike,
  *,
  margin: float,
  gradient: margins.Gradient = "exact",
) -> typing.Array:
  """SphereFace-R v1: phi = cos(min(m theta, pi)).

  The exact gradient is 0 past theta = pi / m.

  Args:
    cosine: cos theta_y, any shape.
    margin: m >= 1.
    gradient: "exact", or "detached" for that of phi(c) = c.

  Returns:
    phi, of the same shape.

  Raises:
    ValueError: if gradient is not one of the above, or a number is outside its
      range.

  References:
    Liu et al., SphereFace Revived: Unifying Hyperspherical Face Recognition,
      2022.

  >>> float(sphereface_r(-0.9, margin=1.5))
  -1.0
  """
  ranges.check_numbers(ranges.FACTOR, margin=margin)
  cosine = angles.as_float(cosine)
  wide = jnp.minimum(margin * angles.angle(cosine), jnp.pi)
  return margins.with_gradient(jnp.cos(wide), cosine, gradient)


def sphereface_r_negative(
  cosine: typing.ArrayLike,
  target_cosine: typing.ArrayLike,
  *,
  margin: float,
  gradient: margins.Gradient = "exact",
) -> typing.Array:
  """SphereFace-R v2: t = cos(theta_j / m) for the other classes.

  The target has no margin (`margins.nsl`).

  Args:
    cosine: cos theta_j, any shape.
    target_cosine: not used.
    margin: m >= 1.
    gradient: "exact", or "detached" for that of t = c.

  Returns:
    t, of the shape of cosine.

  Raises:
    ValueError: if gradient is not one of the above, or a number is outside its
      range.

  References:
    Liu et al., SphereFace Revived: Unifying Hyperspherical Face Recognition,
      2022.

  >>> round(float(sphereface_r_negative(0.0, 1.0, margin=1.5)), 6)
  0.5
  """
  ranges.check_numbers(ranges.FACTOR, margin=margin)
  del target_cosine
  cosine = angles.as_float(cosine)
  narrow = jnp.cos(angles.angle(cosine) / margin)
  return margins.with_gradient(narrow, cosine, gradient)


def _unfold(multiple: typing.Array, passed: typing.Array) -> typing.Array:
  """(-1)^k cos(m theta) - 2k."""
  return (1 - 2 * (passed % 2)) * multiple - 2 * passed
