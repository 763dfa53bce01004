"""One-vs-all losses: each class says yes or no on its own.

All are of the form

  a softplus(-s phi(c_y)) + b sum over j != y of softplus(s t(c_j))

with phi the function of the true class and t that of the others; the learned
bias is in both, so that s phi and s t are the logits.
"""

import math
from typing import Literal, TypeAlias

import jax.numpy as jnp

from facejax.losses import angles, choices, margins
from facejax.runtime import ranges, typing

Kind: TypeAlias = Literal["C", "A", "M"]


def sphereface2(
  cosine: typing.ArrayLike,
  *,
  bias: typing.ArrayLike | float,
  margin: float,
  scale: float,
  kind: Kind = "C",
  power: float = 3.0,
  gradient: margins.Gradient = "detached",
) -> typing.Array:
  r"""SphereFace2, the true class; with g(c) = 2 ((c + 1) / 2)^t - 1,

  .. math::
    \varphi = b / s + \begin{cases}
      g(c) - m & \text{C} \\ g(\cos \min(\theta + m, \pi)) & \text{A} \\
      g(\cos \min(m \theta, \pi)) & \text{M} \end{cases}

  With w the weight of the loss, the factors of the one-vs-all form are
  (w alpha / s, w (1 - alpha) / s); published: alpha = 0.7, s = 40, w = 50.

  Args:
    cosine: cos theta_y, [batch].
    bias: b, a number or [batch]; see `sphereface2_bias`.
    margin: m: 0.4 (C, m >= 0), 0.5 rad (A, 0 <= m < pi), 1.7 (M, m >= 1).
    scale: s > 0.
    kind: where the margin is.
    power: t > 0; below 1 the exact gradient is infinite at c = -1.
    gradient: "detached" for that of c + b / s, as published; "exact" for that
      of the formula.

  Returns:
    phi, [batch].

  Raises:
    ValueError: if kind or gradient is unknown, or a number is outside its
      range.

  References:
    Wen et al., SphereFace2: Binary Classification is All You Need for Deep
      Face Recognition, 2022, Eq. 5, 7.

  >>> round(float(sphereface2(0.0, bias=0.0, margin=0.4, scale=40.0)), 6)
  -1.15
  """
  check_kind(kind, scale=scale, margin=margin, power=power)
  cosine = angles.as_float(cosine)
  if kind == "C":
    lifted = _lift_safely(cosine, power) - margin
  else:
    theta = angles.angle(cosine)
    wide = theta + margin if kind == "A" else margin * theta
    lifted = _lift_safely(jnp.cos(jnp.minimum(wide, jnp.pi)), power)
  return margins.with_gradient(lifted, cosine, gradient) + bias / scale


def sphereface2_negative(
  cosine: typing.ArrayLike,
  target_cosine: typing.ArrayLike,
  *,
  bias: typing.ArrayLike | float,
  margin: float,
  scale: float,
  kind: Kind = "C",
  power: float = 3.0,
  gradient: margins.Gradient = "detached",
) -> typing.Array:
  """SphereFace2, another class: g(c) + b / s, and + m for kind C.

  Args:
    cosine: cos theta_j, of a shape that broadcasts with bias.
    target_cosine: not used.
    bias: as of `sphereface2`, as for all that follow.
    margin: likewise.
    scale: likewise.
    kind: likewise.
    power: likewise.
    gradient: likewise.

  Returns:
    t, of the shape of cosine.

  Raises:
    ValueError: if kind or gradient is unknown, or a number is outside its
      range.

  References:
    Wen et al., SphereFace2: Binary Classification is All You Need for Deep
      Face Recognition, 2022, Eq. 5, 7.

  >>> float(sphereface2_negative(1.0, 1.0, bias=8.0, margin=0.5, scale=32.0))
  1.75
  """
  check_kind(kind, scale=scale, margin=margin, power=power)
  del target_cosine
  cosine = angles.as_float(cosine)
  lifted = _lift_safely(cosine, power) + (margin if kind == "C" else 0.0)
  return margins.with_gradient(lifted, cosine, gradient) + bias / scale


def sphereface2_bias(
  num_classes: int,
  *,
  scale: float,
  margin: float,
  kind: Kind = "C",
  alpha: float = 0.7,
  power: float = 3.0,
) -> float:
  r"""The bias b to start from: the two terms of the loss pull alike.

  That is, :math:`\alpha \sigma(-a_y - b) = (1 - \alpha)(C - 1) \sigma(a_i + b)`
  where a_y and a_i are the logits without b when all angles are 90 degrees. It
  is the logarithm of the positive root of a quadratic equation in e^b.

  Args:
    num_classes: C >= 2.
    scale: s > 0.
    margin: m, as of `sphereface2`.
    kind: see there.
    alpha: weight of the true class, in (0, 1).
    power: t > 0.

  Raises:
    ValueError: if an argument is out of its range.

  References:
    Wen et al., SphereFace2: Binary Classification is All You Need for Deep
      Face Recognition, 2022, Sec. 3.3.

  >>> round(sphereface2_bias(6, scale=40.0, margin=0.4), 6)
  13.866469
  """
  check_kind(kind, scale=scale, margin=margin, power=power)
  if num_classes < 2 or not 0 < alpha < 1:
    raise ValueError(
      f"num_classes={num_classes}, alpha={alpha}: needs 2 classes or more and"
      " 0 < alpha < 1"
    )
  right = math.pi / 2
  wide = {"C": right, "A": right + margin, "M": right * margin}[kind]
  own = scale * _lift(math.cos(min(wide, math.pi)), power)
  other = scale * _lift(0.0, power)
  if kind == "C":
    own, other = own - scale * margin, other + scale * margin
  z = alpha / ((1 - alpha) * (num_classes - 1))
  root = math.hypot(1 - z, 2 * math.sqrt(z) * math.exp((own - other) / 2))
  # The same number twice; each is exact where the other cancels.
  if z < 1:
    return math.log(2 * z / (1 - z + root)) - other
  return math.log((z - 1 + root) / 2) - own


def uniface(
  cosine: typing.ArrayLike,
  *,
  bias: typing.ArrayLike | float,
  margin: float = 0.4,
  scale: float = 64.0,
  clamp: bool = True,
  gradient: margins.Gradient = "exact",
) -> typing.Array:
  """UniFace, the true class: phi = c - m - b / s.

  The factors of the one-vs-all form are (1, l), published l = 1.

  Args:
    cosine: cos theta_y, [batch].
    bias: b, a number or [batch], one for all classes; see `uniface_bias`.
    margin: m >= 0.
    scale: s > 0.
    clamp: phi is kept within [-1, 1], as in the published code. An example
      with c < m - 1 + b / s then gets no gradient from its own class.
    gradient: "exact" as published; "detached" is that of c - m - b / s beyond
      the clamp as well.

  Returns:
    phi, [batch].

  Raises:
    ValueError: if gradient is unknown, or a number is outside its range.

  References:
    Zhou et al., UniFace: Unified Cross-Entropy Loss for Deep Face Recognition,
      2023.

  >>> float(uniface(0.75, bias=16.0, margin=0.25, scale=64.0))
  0.25
  """
  ranges.check_numbers(ranges.NOT_NEGATIVE, margin=margin)
  ranges.check_numbers(ranges.POSITIVE, scale=scale)
  shifted = angles.as_float(cosine) - margin - bias / scale
  return _clamped(shifted, clamp, gradient)


def uniface_negative(
  cosine: typing.ArrayLike,
  target_cosine: typing.ArrayLike,
  *,
  bias: typing.ArrayLike | float,
  scale: float = 64.0,
  clamp: bool = True,
  gradient: margins.Gradient = "exact",
) -> typing.Array:
  """UniFace, another class: t = c - b / s.

  Args:
    cosine: cos theta_j, of a shape that broadcasts with bias.
    target_cosine: not used.
    bias: as of `uniface`, as for all that follow.
    scale: likewise.
    clamp: likewise.
    gradient: likewise.

  Returns:
    t, of the shape of cosine.

  Raises:
    ValueError: if gradient is unknown, or a number is outside its range.

  References:
    Zhou et al., UniFace: Unified Cross-Entropy Loss for Deep Face Recognition,
      2023.

  >>> float(uniface_negative(0.75, 1.0, bias=16.0, scale=64.0))
  0.5
  """
  ranges.check_numbers(ranges.POSITIVE, scale=scale)
  del target_cosine
  shifted = angles.as_float(cosine) - bias / scale
  return _clamped(shifted, clamp, gradient)


def uniface_bias(num_classes: int, r: float = 1.0) -> float:
  """The bias to start from: b = ln(10 C r), r the sampled share of classes.

  Raises:
    ValueError: if num_classes is below 1, or r not above 0.

  References:
    Zhou et al., UniFace: Unified Cross-Entropy Loss for Deep Face Recognition,
      2023.

  >>> round(uniface_bias(10_572), 4)
  11.5685
  """
  ranges.check_numbers(ranges.FACTOR, num_classes=num_classes)
  ranges.check_numbers(ranges.POSITIVE, r=r)
  return math.log(10 * num_classes * r)


def check_kind(
  kind: Kind, *, scale: float, margin: float, power: float
) -> None:
  """Holds the settings of SphereFace2 against what its kind allows.

  Raises:
    ValueError: naming the first that is outside, and what is allowed.
  """
  choices.check("kind", kind, Kind)
  ranges.check_numbers(ranges.POSITIVE, scale=scale, power=power)
  own = {"C": ranges.NOT_NEGATIVE, "A": ranges.ANGLE, "M": ranges.FACTOR}
  ranges.check_numbers(own[kind], margin=margin)


def _lift(cosine, power):
  """g(c); of a number or an array."""
  return 2 * ((cosine + 1) / 2) ** power - 1


def _lift_safely(cosine, power) -> typing.Array:
  """g(c); below -1, where rounding may lead, as at -1."""
  return _lift(jnp.maximum(cosine, -1), power)


def _clamped(shifted, clamp, gradient) -> typing.Array:
  phi = jnp.clip(shifted, -1, 1) if clamp else shifted
  return margins.with_gradient(phi, shifted, gradient)
