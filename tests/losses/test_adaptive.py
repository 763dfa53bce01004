"""Margins of each example beyond the golden file."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from facejax.losses import adaptive, circle, curricular, elastic, margins

LENGTHS = {"l_a": 10.0, "u_a": 110.0}
LIMITS = {"l_m": 0.45, "u_m": 0.8}


def test_adaface_statistics_of_a_batch_of_one_keep_the_deviation():
  mean, std = adaptive.adaface_statistics(
    jnp.array([30.0]), 20.0, 100.0, rate=0.5
  )
  assert (mean, std) == (25, 100)


def test_adaface_statistics_and_quality_carry_no_gradient():
  def total(norms):
    mean, std = adaptive.adaface_statistics(norms, 20.0, 100.0, rate=1.0)
    return (adaptive.adaface_quality(norms, mean, std) + mean + std).sum()

  assert not jax.grad(total)(jnp.array([5.0, 5.0, 5.0])).any()


def test_adaface_quality_is_bounded_for_any_length():
  norms = jnp.array([0.0, 1e-30, 20.0, 1e30, jnp.inf])
  mean, std = adaptive.adaface_statistics(norms, 20.0, 100.0, rate=1.0)
  k = adaptive.adaface_quality(norms, mean, std, concentration=100.0)
  assert k[0] == k[1] == -1 and k[3] == k[4] == 1
  equal = jnp.full(4, 7.0)
  mean, std = adaptive.adaface_statistics(equal, 20.0, 100.0, rate=1.0)
  assert (adaptive.adaface_quality(equal, mean, std) == 0).all()


def test_adaface_is_between_arcface_and_cosface():
  c = jnp.linspace(-0.8, 0.8, 20)
  for quality, want in (
    (-1.0, margins.arcface(c, margin=0.4)),
    (0.0, margins.cosface(c, margin=0.4)),
    (1.0, jnp.cos(jnp.arccos(c) - 0.4) - 0.8),
  ):
    actual = adaptive.adaface(c, quality=jnp.full(20, quality), margin=0.4)
    np.testing.assert_allclose(actual, want, atol=1e-6)


@jax.jit
@jax.vmap
@functools.partial(jax.value_and_grad, argnums=(0, 1, 2))
def everything(cosine, norm, other):
  k = adaptive.adaface_quality(norm, 20.0, 0.0)
  m = adaptive.magface_margin(norm, **LENGTHS, **LIMITS)
  return (
    adaptive.adaface(cosine, quality=k)
    + adaptive.magface(cosine, margin=m)
    + adaptive.magface_regularizer(norm, **LENGTHS)
    + curricular.curricularface_negative(other, cosine, average=0.3)
    + circle.circle(cosine, margin=0.25)
    + circle.circle_negative(other, cosine, margin=0.25)
  )


def vectors(low, high):
  return numpy_strategies.arrays(
    np.float32,
    80,
    elements=st.floats(low, high, width=32),
    fill=st.nothing(),
  )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@settings(max_examples=30, deadline=None)
@given(
  cosine=vectors(-1.0625, 1.0625),
  norm=vectors(0, 2**20),
  other=vectors(-1.0625, 1.0625),
)
def test_finite(dtype, cosine, norm, other):
  cosine[:4], norm[:4] = (-1, 1, -1, 1), (0, 0, 1e30, 1e30)
  value, slopes = everything(*(x.astype(dtype) for x in (cosine, norm, other)))
  assert value.dtype == jnp.float32
  for numbers in (value, *slopes):
    assert np.isfinite(numbers.astype(jnp.float32)).all()


def test_magface_pulls_the_length_both_ways():
  def g(a):
    return adaptive.magface_regularizer(a, **LENGTHS)

  slopes = jax.vmap(jax.grad(g))(jnp.array([5.0, 20.0, 109.0, 200.0]))
  assert slopes[0] == slopes[3] == 0
  assert slopes[1] < slopes[2] < 0
  margin = jax.grad(lambda a: adaptive.magface_margin(a, **LENGTHS, **LIMITS))(
    50.0
  )
  np.testing.assert_allclose(margin, 0.0035, rtol=1e-5)


def test_curricularface_touches_only_hard_classes():
  others = jnp.array([-0.5, 0.1, 0.5, 0.9])
  target = jnp.full(4, 0.8)
  edge = np.cos(np.arccos(0.8) + 0.5)
  actual = curricular.curricularface_negative(others, target, average=0.2)
  want = np.where(others > edge, others * (0.2 + others), others)
  np.testing.assert_allclose(actual, want, rtol=1e-6)
  assert (actual[:2] == others[:2]).all() and (actual[2:] != others[2:]).all()


def test_elastic_margins_are_drawn_from_the_normal_distribution():
  draw = elastic.elastic_margins(
    jax.random.key(3), (20_000,), margin=0.5, std=0.05
  )
  np.testing.assert_allclose(draw.mean(), 0.5, atol=2e-3)
  np.testing.assert_allclose(draw.std(), 0.05, atol=2e-3)


@pytest.mark.parametrize("seed", range(5))
def test_elastic_rank_gives_the_furthest_the_largest(seed):
  rng = np.random.default_rng(seed)
  drawn, cosine = rng.normal(0.5, 0.05, 16), rng.uniform(-1, 1, 16)
  ranked = elastic.elastic_order(drawn, cosine, mode="rank")
  by_distance = ranked[np.argsort(cosine)]
  assert (jnp.diff(by_distance) < 0).all()
  code = elastic.elastic_order(drawn, cosine, mode="code")
  for order in (ranked, code):
    np.testing.assert_array_equal(jnp.sort(order), np.float32(np.sort(drawn)))
  assert (code != ranked).any()


def test_unknown_order_lists_choices():
  with pytest.raises(ValueError, match="choose one of"):
    elastic.elastic_order(jnp.ones(2), jnp.ones(2), mode="best")  # pyright: ignore
