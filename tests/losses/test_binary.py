"""One-vs-all losses beyond the golden file."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from facejax.losses import binary

MARGINS = {"C": 0.4, "A": 0.5, "M": 1.7}


def with_kind(kind, **options):
  common = {"margin": MARGINS[kind], "kind": kind, "scale": 40.0, **options}
  return (
    functools.partial(binary.sphereface2, **common),
    functools.partial(binary.sphereface2_negative, **common),
  )


@pytest.mark.parametrize("kind", MARGINS)
@pytest.mark.parametrize("count", [2, 3, 100, 10_572, 2_000_000])
@pytest.mark.parametrize("scale", [8.0, 64.0])
def test_first_bias_balances_the_pulls(kind, count, scale):
  options = {"scale": scale, "margin": MARGINS[kind], "kind": kind}
  bias = binary.sphereface2_bias(count, **options)
  with jax.enable_x64():
    right = np.float64(6e-17)
    own = scale * binary.sphereface2(right, bias=bias, **options)
    other = scale * binary.sphereface2_negative(
      right, right, bias=bias, **options
    )
    pull = jnp.log(0.7) + jax.nn.log_sigmoid(-own)
    push = jnp.log(0.3 * (count - 1)) + jax.nn.log_sigmoid(other)
  np.testing.assert_allclose(pull, push, atol=1e-9)


@pytest.mark.parametrize("kind", MARGINS)
@pytest.mark.parametrize("gradient", ["exact", "detached"])
def test_the_margin_counts_against_the_loss(kind, gradient):
  c = jnp.linspace(-1, 1, 301)
  own, other = with_kind(kind, gradient=gradient, bias=2.0)
  assert (own(c) <= other(c, c)).all()
  assert (jnp.diff(own(c)) > -1e-6).all()
  slopes = jax.vmap(jax.grad(own))(c)
  assert jnp.isfinite(slopes).all()
  if gradient == "detached":
    assert (slopes == 1).all()


def test_uniface_clamp_stops_the_gradient_of_the_lost():
  own = functools.partial(binary.uniface, bias=11.57, margin=0.4, scale=64.0)
  edge = 0.4 - 1 + 11.57 / 64
  for clamp, want in ((True, 0), (False, 1)):
    slope = jax.grad(functools.partial(own, clamp=clamp))
    assert slope(edge - 0.01) == want
    assert slope(edge + 0.01) == 1


@jax.jit
@jax.vmap
@functools.partial(jax.value_and_grad, argnums=(0, 1))
def everything(cosine, bias):
  value = binary.uniface(cosine, bias=bias)
  value += binary.uniface_negative(cosine, cosine, bias=bias)
  for kind in MARGINS:
    for gradient in ("exact", "detached"):
      own, other = with_kind(kind, gradient=gradient, power=2.5)
      value += own(cosine, bias=bias) + other(cosine, cosine, bias=bias)
  return value


def vectors(limit):
  return numpy_strategies.arrays(
    np.float32,
    80,
    elements=st.floats(-limit, limit, width=32),
    fill=st.nothing(),
  )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@settings(max_examples=30, deadline=None)
@given(cosine=vectors(1.0625), bias=vectors(1024))
def test_finite(dtype, cosine, bias):
  cosine[:2] = -1, 1
  value, slopes = everything(cosine.astype(dtype), bias)
  assert value.dtype == jnp.float32
  for numbers in (value, *slopes):
    assert np.isfinite(numbers.astype(jnp.float32)).all()


@pytest.mark.parametrize("options", [{"alpha": 1.0}, {"num_classes": 1}])
def test_bias_says_what_it_needs(options):
  with pytest.raises(ValueError, match="needs 2 classes"):
    binary.sphereface2_bias(
      **{"num_classes": 10, "scale": 40.0, "margin": 0.4, **options}
    )


def test_unknown_kind_lists_choices():
  with pytest.raises(ValueError, match="choose one of"):
    binary.sphereface2_bias(10, scale=40.0, margin=0.4, kind="B")  # pyright: ignore
