"""ElasticFace: margins drawn at random, given to `margins` as parameters."""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

from facejax.losses import angles, choices
from facejax.runtime import ranges, typing

Order: TypeAlias = Literal["code", "rank"]


def elastic_margins(
  key: typing.PRNGKey, shape: tuple[int, ...], *, margin: float, std: float
) -> typing.Array:
  """ElasticFace: margins drawn from N(margin, std^2), unbounded.

  Args:
    key: of the step.
    shape: (batch,).
    margin: mean, not below 0: 0.5 rad for `margins.arcface` with guard="none",
      0.35 for `margins.cosface`.
    std: not below 0: 0.05; in the ordered variants 0.0175 and 0.02.

  Raises:
    ValueError: if a number is outside its range.

  References:
    Boutros et al., ElasticFace: Elastic Margin Loss for Deep Face Recognition,
      2022, Eq. 6, 7.

  >>> elastic_margins(jax.random.key(0), (2,), margin=0.5, std=0.0).tolist()
  [0.5, 0.5]
  """
  ranges.check_numbers(ranges.NOT_NEGATIVE, margin=margin, std=std)
  return margin + std * jax.random.normal(key, shape)


def elastic_order(
  margins_drawn: typing.ArrayLike,
  target_cosine: typing.ArrayLike,
  *,
  mode: Order = "code",
) -> typing.Array:
  """ElasticFace+: which example gets which of the margins drawn.

  "rank" is what is meant: the further from its prototype, the larger the
  margin. "code" is what the published code does, sorted(m)[argsort(-c)]: it
  applies the inverse of that permutation, so an example seldom gets the margin
  of its rank.

  Args:
    margins_drawn: [batch], in any order.
    target_cosine: cos theta_y, [batch].
    mode: "code" or "rank".

  Returns:
    The margins [batch], reordered; they carry no gradient.

  Raises:
    ValueError: if mode is unknown.

  References:
    Boutros et al., ElasticFace: Elastic Margin Loss for Deep Face Recognition,
      2022, Sec. 3.4.

  >>> drawn, cosine = jnp.array([0.3, 0.1, 0.2]), jnp.array([0.5, 0.7, 0.9])
  >>> [round(float(m), 1) for m in elastic_order(drawn, cosine, mode="rank")]
  [0.3, 0.2, 0.1]
  """
  choices.check("mode", mode, Order)
  ascending = jnp.sort(angles.as_float(margins_drawn))
  nearest_first = jnp.argsort(-jax.lax.stop_gradient(target_cosine))
  which = nearest_first if mode == "code" else jnp.argsort(nearest_first)
  return jax.lax.stop_gradient(ascending)[which]
