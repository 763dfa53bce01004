"""Probabilities of an alpha-divergence, and the number tau that makes them one.

The loss that they belong to, and its formulas, are in `losses.alpha`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from facejax.runtime import ranges, typing

# Newton's method takes four to ten turns; bisection of float64 takes 60.
_TURNS = 100
# e^80 still fits float32.
_LARGEST = 80.0
ALPHA = ranges.Range(1, math.inf, closed_below=False, closed_above=False)


@dataclasses.dataclass(frozen=True)
class Divergence:
  """The loss's constants; static.

  Attributes:
    alpha: above 1, finite; up to 2 in the head.
    log_reference: log q_y, at most 0: -s m for a margin in the reference
      measure.

  Raises:
    ValueError: if a number is outside its range, or q_y^(1 - alpha) would leave
      float32.
  """

  alpha: float = 1.5
  log_reference: float = 0.0

  def __post_init__(self):
    ranges.check_numbers(ALPHA, alpha=self.alpha)
    ranges.check_numbers(
      ranges.Range(-_LARGEST, 0), log_reference=self.log_reference
    )
    if -(self.alpha - 1) * self.log_reference > _LARGEST:
      raise ValueError(
        f"log_reference={self.log_reference} with alpha={self.alpha}: q_y^(1 -"
        f" alpha) leaves float32; keep (1 - alpha) log q_y within {_LARGEST:g}"
      )

  @property
  def width(self) -> float:
    """1 / (alpha - 1): so far below tau probabilities end."""
    return 1 / (self.alpha - 1)

  @property
  def full_height(self) -> float:
    """u_y where p_y = 1, that is q_y^(1 - alpha)."""
    return math.exp((1 - self.alpha) * self.log_reference)

  @property
  def full_gap(self) -> float:
    """theta_y - tau where p_y = 1, 0 if q_y is.

    >>> Divergence(1.5).full_gap, round(Divergence(1.5, -2.0).full_gap, 4)
    (0.0, 3.4366)
    """
    return (self.full_height - 1) * self.width


class Moments(NamedTuple):
  """Sums over classes j at a tau.

  Attributes:
    probability: of p_j.
    slope: of q_j u_j^(1 / (alpha - 1) - 1), minus d probability / d tau.
    height: of p_j u_j.
    support: of 1 where p_j > 0.
  """

  probability: typing.Array
  slope: typing.Array
  height: typing.Array
  support: typing.Array


def _power(u: typing.Array, exponent: float) -> typing.Array:
  """u^exponent for u >= 0, and 0 where u is."""
  if exponent == 0:
    return jnp.where(u > 0, 1, 0).astype(u.dtype)
  if abs(exponent - round(exponent)) < 1e-9:
    return jax.lax.integer_pow(u, round(exponent))
  return jnp.where(u > 0, jnp.where(u > 0, u, 1) ** exponent, 0)


def _heights(gaps: typing.Array, form: Divergence) -> typing.Array:
  """u, of theta - tau."""
  return jnp.maximum(1 + (form.alpha - 1) * gaps, 0)


def probabilities(gaps: typing.Array, form: Divergence) -> typing.Array:
  """p_j of classes with q_j = 1, from theta_j - tau.

  >>> probabilities(jnp.array([-0.5, -1.5, -2.5]), Divergence(1.5)).tolist()
  [0.5625, 0.0625, 0.0]
  """
  return _power(_heights(gaps, form), form.width)


def moments(gaps: typing.Array, form: Divergence, *, axis: int) -> Moments:
  """Of classes with q_j = 1, whose theta_j - tau lie along an axis.

  A gap of -inf is a class that does not count.
  """
  u = _heights(gaps, form)
  p = _power(u, form.width)
  of_each = Moments(p, _power(u, form.width - 1), p * u, (u > 0) * 1.0)
  return jax.tree.map(lambda leaf: leaf.sum(axis=axis), of_each)


def target_moments(
  gap: typing.Array, form: Divergence, known: typing.Array | bool = True
) -> Moments:
  """Of the target alone, from theta_y - tau; [batch].

  Args:
    gap: [batch].
    form: see there.
    known: bool [batch]; an example without a class has q_y = 1, as if it had a
      class of its own.
  """
  q = jnp.where(known, math.exp(form.log_reference), 1).astype(gap.dtype)
  one = moments(gap[..., None], form, axis=-1)
  return Moments(
    q * one.probability, q * one.slope, q * one.height, one.support
  )


def bracket(
  highest: typing.Array,
  target: typing.Array,
  form: Divergence,
  known: typing.Array | bool = True,
) -> tuple[typing.Array, typing.Array]:
  """A tau that is not too large, and one that is not too small; [batch].

  At the first some class alone has p >= 1; at the second all have 0.

  Args:
    highest: [batch], the largest other theta_j, below all numbers if none.
    target: [batch], theta_y.
    form: see there.
    known: as of `target_moments`.
  """
  full = target - jnp.where(known, form.full_gap, 0)
  return jnp.maximum(highest, full), jnp.maximum(highest, target) + form.width


def solve(
  evaluate: Callable[[typing.Array], Moments],
  between: tuple[typing.Array, typing.Array],
  form: Divergence,
  *,
  anywhere: Callable[[typing.Array], typing.Array] = jnp.any,
  turns: int = _TURNS,
) -> typing.Array:
  r"""tau [batch], by Newton's method within a bracket that shrinks.

  With k = 1 / (alpha - 1) >= 1 and P the sum of probabilities, the k-norm
  P^(1/k) of u is convex in tau and nearly straight: from below its steps never
  overshoot,

  .. math::
    \tau \leftarrow \tau + \frac{(P^{1/k} - 1) P^{1 - 1/k}}
      {(\alpha - 1) \sum_j q_j u_j^{k - 1}}

  For alpha > 2 it is no norm, and the bracket is halved.

  Args:
    evaluate: tau -> the moments of all classes.
    between: of `bracket`.
    form: see there.
    anywhere: whether any of bool [batch] is true, on whatever device.
    turns: the most that are taken.
  """
  k = form.width

  def go_on(state: tuple[typing.Array, ...]) -> typing.Array:
    return state[-1] & (state[0] < turns)

  def turn(state: tuple[typing.Array, ...]) -> tuple[typing.Array, ...]:
    count, tau, low, high, _ = state
    found = evaluate(tau)
    below = found.probability > 1
    low, high = jnp.where(below, tau, low), jnp.where(below, high, tau)
    root = found.probability ** (1 / k)
    step = (root - 1) * found.probability / jnp.where(root > 0, root, 1)
    new = tau + step / ((form.alpha - 1) * found.slope)
    inside = (new >= low) & (new <= high) & (form.alpha <= 2)
    new = jnp.where(inside, new, low + (high - low) / 2)
    least = 4 * jnp.finfo(tau.dtype).eps * jnp.maximum(jnp.abs(tau), 1)
    # NaN is not on its way anywhere.
    moved = jnp.abs(new - tau) > least
    return count + 1, new, low, high, anywhere(moved)

  low, high = between
  start = jnp.int32(0), low, low, high, jnp.bool_(True)
  return jax.lax.while_loop(go_on, turn, start)[1]
