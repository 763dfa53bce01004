"""Margins that depend on the example's quality.

Its length is turned into an array [batch] first, which is then given to the
margin as a parameter.
"""

import numbers
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

from facejax.losses import angles, choices, margins
from facejax.runtime import ranges, typing

AdaFaceGuard: TypeAlias = Literal["clip", "none"]

# Of AdaFace: bounds of lengths; distance of cosine and angle to their ends.
_SHORTEST, _LONGEST = 1e-3, 100.0
_EPSILON = 1e-3


def adaface_statistics(
  norms: typing.ArrayLike,
  mean: typing.ArrayLike | float,
  std: typing.ArrayLike | float,
  *,
  rate: float,
) -> tuple[typing.Array, typing.Array]:
  """Running mean and deviation of the lengths, this batch included.

  mu <- a mean(n) + (1 - a) mu, and likewise sigma, whose estimate has ddof=1.
  A batch of one has no deviation and leaves sigma as it is.

  Args:
    norms: lengths of the embeddings, [batch].
    mean: mu, 20 before the first step.
    std: sigma, 100 before the first step.
    rate: a in [0, 1], what this batch counts: 1 forgets all others (the
      default of the published class), 0.01 that of the published command.

  Returns:
    The new mu and sigma, which carry no gradient.

  Raises:
    ValueError: if rate is outside [0, 1].

  References:
    Kim et al., AdaFace: Quality Adaptive Margin for Face Recognition, 2022,
      Sec. 3.3.

  >>> lengths = jnp.array([10.0, 30.0])
  >>> mean, std = adaface_statistics(lengths, 20.0, 100.0, rate=0.5)
  >>> float(mean), round(float(std), 4)
  (20.0, 57.0711)
  """
  ranges.check_numbers(ranges.SHARE, rate=rate)
  norms = _constant_lengths(norms)
  mean, std = angles.as_float(mean), angles.as_float(std)
  new_std = std if norms.size < 2 else norms.std(ddof=1)
  return (
    rate * norms.mean() + (1 - rate) * mean,
    rate * new_std + (1 - rate) * std,
  )


def adaface_quality(
  norms: typing.ArrayLike,
  mean: typing.ArrayLike | float,
  std: typing.ArrayLike | float,
  *,
  concentration: float = 0.333,
) -> typing.Array:
  """Image quality: k = clip(h (n - mu) / (sigma + 1e-3), -1, 1).

  Args:
    norms: n, lengths of the embeddings, [batch].
    mean: mu of `adaface_statistics`, after its update.
    std: sigma, likewise.
    concentration: h >= 0.

  Returns:
    k [batch], which carries no gradient.

  Raises:
    ValueError: if concentration is below 0.

  References:
    Kim et al., AdaFace: Quality Adaptive Margin for Face Recognition, 2022,
      Eq. 13.

  >>> quality = adaface_quality(jnp.array([10.0, 30.0]), 20.0, 10.0)
  >>> [round(float(k), 3) for k in quality]
  [-0.333, 0.333]
  """
  ranges.check_numbers(ranges.NOT_NEGATIVE, concentration=concentration)
  above = _constant_lengths(norms) - mean
  return jnp.clip(concentration * above / (std + _EPSILON), -1, 1)


def adaface(
  cosine: typing.ArrayLike,
  *,
  quality: typing.Array,
  margin: float = 0.4,
  guard: AdaFaceGuard = "clip",
  gradient: margins.Gradient = "exact",
) -> typing.Array:
  """AdaFace: phi = cos(theta - m k) - (m + m k).

  A cosine margin for average quality (k = 0), an angular one for low quality
  (k = -1) and for high quality (k = 1) a negative angular margin with a cosine
  margin of 2 m.

  Args:
    cosine: cos theta_y, [batch].
    quality: k [batch] of `adaface_quality`.
    margin: m in radians, 0 <= m < pi.
    guard: "clip" keeps the cosine 1e-3 off +-1, then theta - m k off 0 and pi,
      as the authors' code; "none" does not, as CVLface.
    gradient: "exact" is that of this formula (0 beyond the clip); "detached"
      that of phi(c) = c: phi(c) = c + stop(cos(theta - m k) - m - m k - c), as
      in CVLface.

  Returns:
    phi, [batch].

  Raises:
    ValueError: if guard or gradient is unknown, or a number is outside its
      range.

  References:
    Kim et al., AdaFace: Quality Adaptive Margin for Face Recognition, 2022,
      Eq. 14, 15.

  >>> round(float(adaface(0.5, quality=jnp.float32(0.0))), 6)
  0.1
  """
  ranges.check_numbers(ranges.ANGLE, margin=margin)
  choices.check("guard", guard, AdaFaceGuard)
  cosine = angles.as_float(cosine)
  if guard == "clip":
    theta = angles.angle(jnp.clip(cosine, _EPSILON - 1, 1 - _EPSILON))
    turned = jnp.clip(theta - margin * quality, _EPSILON, jnp.pi - _EPSILON)
  else:
    turned = angles.angle(cosine) - margin * quality
  phi = jnp.cos(turned) - margin * (1 + quality)
  return margins.with_gradient(phi, cosine, gradient)


def magface_margin(
  norms: typing.ArrayLike, *, l_a: float, u_a: float, l_m: float, u_m: float
) -> typing.Array:
  """Margin by length: from l_m at a = l_a linearly to u_m at u_a.

  The gradient goes to the lengths, and is 0 outside [l_a, u_a].

  Args:
    norms: a, lengths of the embeddings, [batch].
    l_a: shortest length, 10; above 0.
    u_a: longest length, 110; above l_a.
    l_m: margin at l_a, radians in [0, pi), 0.45.
    u_m: margin at u_a, 0.8; not below l_m.

  Returns:
    m(a), [batch].

  Raises:
    ValueError: if a number is outside its range.

  References:
    Meng et al., MagFace: A Universal Representation for Face Recognition and
      Quality Assessment, 2021, Sec. 3.2.

  >>> options = {"l_a": 10, "u_a": 110, "l_m": 0.45, "u_m": 0.8}
  >>> round(float(magface_margin(60.0, **options)), 6)
  0.625
  """
  _check_line(l_a=l_a, u_a=u_a, l_m=l_m, u_m=u_m)
  slope = (u_m - l_m) / (u_a - l_a)
  return slope * (jnp.clip(angles.as_float(norms), l_a, u_a) - l_a) + l_m


def magface(
  cosine: typing.ArrayLike,
  *,
  margin: typing.Array,
  guard: margins.Guard = "easy",
  gradient: margins.Gradient = "exact",
) -> typing.Array:
  """MagFace: `margins.arcface` with a margin for each example.

  Args:
    cosine: cos theta_y, [batch].
    margin: m(a) [batch] of `magface_margin`.
    guard: of `margins.arcface`; "easy" as published.
    gradient: "exact" as published; "detached" takes dphi/dc = 1, and dphi/dm
      stays that of the formula, or no length would follow its margin:
      phi(c, m) = c - stop(c) + cos(stop(theta) + m).

  Returns:
    phi, [batch].

  Raises:
    ValueError: if guard or gradient is unknown.

  References:
    Meng et al., MagFace: A Universal Representation for Face Recognition and
      Quality Assessment, 2021, Eq. 3.

  >>> round(float(magface(0.5, margin=jnp.float32(0.5))), 6)
  0.023597
  """
  choices.check("gradient", gradient, margins.Gradient)
  cosine = angles.as_float(cosine)
  if gradient == "exact":
    return margins.arcface(cosine, margin=margin, guard=guard)
  held = jax.lax.stop_gradient(cosine)
  return margins.arcface(held, margin=margin, guard=guard) + (cosine - held)


def magface_regularizer(
  norms: typing.ArrayLike, *, l_a: float, u_a: float
) -> typing.Array:
  """Of the length: g(a) = 1/a + a/u_a^2, least at u_a.

  Added to the loss lambda_g times; see `magface_weight_bound`.

  Args:
    norms: a, lengths of the embeddings, [batch].
    l_a: shortest length.
    u_a: longest length.

  Returns:
    g(a), [batch]; its gradient is 0 outside [l_a, u_a].

  Raises:
    ValueError: if a number is outside its range.

  References:
    Meng et al., MagFace: A Universal Representation for Face Recognition and
      Quality Assessment, 2021, Sec. 3.2.

  >>> round(float(magface_regularizer(110.0, l_a=10, u_a=110)), 6)
  0.018182
  """
  _check_line(l_a=l_a, u_a=u_a)
  length = jnp.clip(angles.as_float(norms), l_a, u_a)
  return 1 / length + length / u_a**2


def magface_weight_bound(
  *, scale: float, l_a: float, u_a: float, l_m: float, u_m: float
) -> float:
  """Least lambda_g: s K u_a^2 l_a^2 / (u_a^2 - l_a^2).

  K is the slope of the margin. From there on the loss of an example has one
  minimum over its length.

  Args:
    scale: s.
    l_a: see `magface_margin`, as for the others.
    u_a: likewise.
    l_m: likewise.
    u_m: likewise.

  Raises:
    ValueError: if a number is outside its range.

  References:
    Meng et al., MagFace: A Universal Representation for Face Recognition and
      Quality Assessment, 2021, Supplement, property of convergence.

  >>> bound = magface_weight_bound(scale=64, l_a=10, u_a=110, l_m=0.45, u_m=0.8)
  >>> round(bound, 3)
  22.587
  """
  ranges.check_numbers(ranges.POSITIVE, scale=scale)
  _check_line(l_a=l_a, u_a=u_a, l_m=l_m, u_m=u_m)
  slope = (u_m - l_m) / (u_a - l_a)
  return scale * slope * (u_a * l_a) ** 2 / (u_a**2 - l_a**2)


def _constant_lengths(norms) -> typing.Array:
  norms = jax.lax.stop_gradient(angles.as_float(norms))
  return jnp.clip(norms, _SHORTEST, _LONGEST)


def _check_line(*, l_a, u_a, l_m=0.0, u_m=0.0) -> None:
  ranges.check_numbers(ranges.POSITIVE, l_a=l_a, u_a=u_a)
  ranges.check_numbers(ranges.ANGLE, l_m=l_m, u_m=u_m)
  # Nothing is known of traced values.
  if not all(isinstance(x, numbers.Real) for x in (l_a, u_a, l_m, u_m)):
    return
  if not (l_a < u_a and l_m <= u_m):
    line = f"l_a={l_a}, u_a={u_a}, l_m={l_m}, u_m={u_m}"
    raise ValueError(f"{line}: the line must rise, l_a < u_a, l_m <= u_m")
