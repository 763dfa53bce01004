"""Multiplicative margins beyond the golden file."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from facejax.losses import angles, margins, multiplicative

COSINES = jnp.linspace(-1, 1, 1001)
FUNCTIONS = {
  "psi": functools.partial(multiplicative.psi, margin=4),
  "a_softmax": functools.partial(
    multiplicative.a_softmax, margin=3, strength=5.0
  ),
  "sphereface": functools.partial(multiplicative.sphereface, margin=1.7),
  "sphereface_r": functools.partial(multiplicative.sphereface_r, margin=1.5),
  "v2": lambda c: multiplicative.sphereface_r_negative(c, c, margin=1.4),
  "combined": functools.partial(margins.combined, m1=0.9, m2=0.4, m3=0.15),
}


def vectors(elements):
  return numpy_strategies.arrays(
    np.float32, 80, elements=elements, fill=st.nothing()
  )


def slope(function, cosines):
  return jax.vmap(jax.grad(function))(cosines)


@pytest.mark.parametrize("margin", [2, 3, 4])
def test_psi_is_flat_where_its_pieces_meet(margin):
  psi = functools.partial(multiplicative.psi, margin=margin)
  joints = jnp.cos(jnp.arange(1, margin) * jnp.pi / margin)
  np.testing.assert_allclose(slope(psi, joints), 0, atol=1e-5)
  np.testing.assert_allclose(
    psi(joints), 1 - 2 * np.arange(1, margin), atol=1e-5
  )
  # The slope at 90 degrees, where training starts, and at 0.
  assert jax.grad(psi)(0.0) == (3 if margin == 3 else 0)
  assert jax.grad(psi)(1.0) == margin**2


@pytest.mark.parametrize("name", ["psi", "a_softmax", "sphereface", "v2"])
def test_no_angle_is_rewarded_for_growing(name):
  assert (jnp.diff(FUNCTIONS[name](COSINES)) > -1e-6).all()


def test_psi_and_its_real_extension_agree():
  for margin in (1, 2, 3, 4, 7):
    with jax.enable_x64():
      c = jnp.linspace(-1, 1, 500)[1:-1]
      integer = functools.partial(multiplicative.psi, margin=margin)
      real = functools.partial(multiplicative.sphereface, margin=float(margin))
      np.testing.assert_allclose(integer(c), real(c), atol=1e-9)
      np.testing.assert_allclose(slope(integer, c), slope(real, c), atol=1e-6)


def test_without_margin_all_are_the_cosine():
  for function in (
    functools.partial(multiplicative.a_softmax, margin=1, strength=3.0),
    functools.partial(multiplicative.sphereface, margin=1.0),
    functools.partial(multiplicative.sphereface_r, margin=1.0),
    functools.partial(margins.combined, m1=1.0, m2=0.0, m3=0.0),
  ):
    np.testing.assert_allclose(function(COSINES), COSINES, atol=1e-6)


def test_annealing_of_each_example_and_to_the_end():
  c = jnp.array([-0.5, 0.2, 0.9])
  strength = jnp.array([0.0, 5.0, jnp.inf])
  psi = multiplicative.psi(c, margin=4)
  np.testing.assert_allclose(
    multiplicative.a_softmax(c, margin=4, strength=strength),
    [psi[0], (5 * c[1] + psi[1]) / 6, c[2]],
    rtol=1e-6,
  )
  lambdas = multiplicative.annealed_strength(jnp.arange(1, 3000))
  assert (jnp.diff(lambdas) <= 0).all() and lambdas[-1] == 5


@functools.cache
def compiled(name):
  return jax.jit(jax.vmap(jax.value_and_grad(FUNCTIONS[name])))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=30, deadline=None)
@given(cosines=vectors(st.floats(-1.0625, 1.0625, width=32)))
def test_finite(name, dtype, cosines):
  cosines[:6] = -1, 1, 1 - 6e-8, 6e-8 - 1, 0, 1 + 1e-6
  values, slopes = compiled(name)(cosines.astype(dtype))
  assert values.dtype == jnp.float32
  assert np.isfinite(values).all()
  assert np.isfinite(slopes.astype(jnp.float32)).all()


@pytest.mark.parametrize(
  "function",
  [
    functools.partial(multiplicative.sphereface, margin=1.7),
    functools.partial(multiplicative.sphereface_r, margin=1.7),
    lambda c, gradient: multiplicative.sphereface_r_negative(
      c, c, margin=1.7, gradient=gradient
    ),
    functools.partial(margins.combined, m1=1.0, m2=0.3, m3=0.2),
  ],
)
def test_detached_has_the_same_value_and_slope_one(function):
  detached = functools.partial(function, gradient="detached")
  c = COSINES[1:-1]
  exact = function(c, gradient="exact")
  np.testing.assert_allclose(detached(c), exact, atol=1e-6)
  assert (slope(detached, c) == 1).all()


def test_angle_is_exact_at_the_ends():
  assert angles.angle(jnp.array([1.0, -1.0, 2.0])).tolist() == [
    0.0,
    np.float32(np.pi),
    0.0,
  ]


@pytest.mark.parametrize("margin", [0, 1.5, -2])
def test_margin_of_psi_is_an_integer(margin):
  with pytest.raises(ValueError, match="integer of 1 or more"):
    multiplicative.psi(0.5, margin=margin)


def test_intra_and_inter_class():
  np.testing.assert_allclose(
    angles.intra_class(jnp.array([1.0, 0.0, -1.0])), [0, 0.5, 1]
  )
  # Also of prototypes that coincide, are opposite, or are zero.
  w = jnp.array([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
  value, gradient = jax.value_and_grad(
    lambda w: angles.inter_class(w, jnp.array([0])).sum()
  )(w)
  np.testing.assert_allclose(value, -(0 + 1 + 0.5) / 3, rtol=1e-6)
  assert jnp.isfinite(gradient).all()
  with pytest.raises(ValueError, match="needs 2"):
    angles.inter_class(w[:1], jnp.array([0]))
