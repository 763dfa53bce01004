"""Exact and detached gradients, against slopes derived by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.losses import adaptive, binary, margins, multiplicative

partial = functools.partial
# On both sides of every switch of the functions below, off their joints.
COSINE = np.array([-0.99, -0.9, -0.61, -0.2, 0.13, 0.4, 0.77, 0.98])
THETA = np.arccos(COSINE)
QUALITY = np.array([-1, -0.6, 0.3, 1, -0.2, 0.8, 0, 0.5])
DRAWN = np.array([0.5, 0.45, 0.61, 0.3, 0.8, 0.52, 0.44, 0.57])
STRENGTH = 3.0


def ratio(turned, factor=1.0):
  """dphi/dc of phi = cos(turned), where dturned/dtheta is the factor."""
  return factor * np.sin(turned) / np.sin(THETA)


def guarded(shift, guard):
  """Of ArcFace with its guard: the rule beyond it is that of phi = c."""
  inside = {
    "fallback": THETA + shift < np.pi,
    "easy": COSINE > 0,
    "none": True,
  }[guard]
  return np.where(inside, ratio(THETA + shift), 1.0)


def psi_slope(margin):
  fold = np.floor(margin * THETA / np.pi)
  return (1 - 2 * (fold % 2)) * ratio(margin * THETA, margin)


# Name -> the function, and its exact slope by hand.
SLOPES = {
  "adaface": (
    partial(adaptive.adaface, quality=QUALITY, guard="none"),
    ratio(THETA - 0.4 * QUALITY),
  ),
  "adaface clip": (
    partial(adaptive.adaface, quality=QUALITY),
    np.where(
      np.abs(THETA - 0.4 * QUALITY - np.pi / 2) < np.pi / 2 - 1e-3,
      ratio(THETA - 0.4 * QUALITY),
      0.0,
    ),
  ),
  **{
    f"magface {guard}": (
      partial(adaptive.magface, margin=DRAWN, guard=guard),
      guarded(DRAWN, guard),
    )
    for guard in ("fallback", "easy", "none")
  },
  "curricularface": (
    partial(margins.arcface, margin=0.5),
    guarded(0.5, "fallback"),
  ),
  "elasticface": (
    partial(margins.arcface, margin=DRAWN, guard="none"),
    guarded(DRAWN, "none"),
  ),
  "a_softmax": (
    partial(multiplicative.a_softmax, margin=4, strength=STRENGTH),
    (STRENGTH + psi_slope(4)) / (1 + STRENGTH),
  ),
  "uniface": (
    partial(binary.uniface, bias=20.0, scale=40.0),
    np.where(COSINE - 0.4 - 0.5 > -1, 1.0, 0.0),
  ),
  "uniface, others": (
    lambda c, **options: binary.uniface_negative(
      c, c, bias=40.0, scale=40.0, **options
    ),
    np.where(COSINE - 1 > -1, 1.0, 0.0),
  ),
  "sphereface2": (
    partial(binary.sphereface2, bias=2.0, margin=0.4, scale=40.0),
    3 * ((COSINE + 1) / 2) ** 2,
  ),
}


def value_and_slope(function, gradient):
  with jax.enable_x64(True):
    value, pull = jax.vjp(partial(function, gradient=gradient), COSINE)
    return value, pull(jnp.ones_like(value))[0]


@pytest.mark.parametrize("name", SLOPES)
def test_both_gradients_are_those_derived_by_hand(name):
  function, by_hand = SLOPES[name]
  value, exact = value_and_slope(function, "exact")
  np.testing.assert_allclose(exact, by_hand, rtol=1e-12, atol=1e-12)
  same, detached = value_and_slope(function, "detached")
  np.testing.assert_allclose(same, value, rtol=0, atol=1e-15)
  np.testing.assert_array_equal(detached, np.ones_like(COSINE))
  with pytest.raises(ValueError, match="gradient='straight': choose one of"):
    function(COSINE, gradient="straight")


@pytest.mark.parametrize("gradient", ["exact", "detached"])
def test_magface_follows_its_margin_with_either_gradient(gradient):
  with jax.enable_x64(True):
    slope = jax.grad(
      lambda m: adaptive.magface(
        COSINE, margin=m, guard="none", gradient=gradient
      ).sum()
    )(jnp.asarray(DRAWN))
  np.testing.assert_allclose(slope, -np.sin(THETA + DRAWN), rtol=1e-12)


@pytest.mark.parametrize("gradient", ["exact", "detached"])
def test_thresholds_learn_with_either_gradient(gradient):
  def slope(function, **options):
    phi = partial(function, COSINE, scale=40.0, gradient=gradient, **options)
    return jax.grad(lambda bias: phi(bias=bias).sum())(1.0)

  each = len(COSINE) / 40
  assert slope(binary.uniface, clamp=False) == pytest.approx(-each)
  assert slope(binary.sphereface2, margin=0.4) == pytest.approx(each)


def test_adaface_without_a_guard_is_the_formula_everywhere():
  with jax.enable_x64(True):
    phi = adaptive.adaface(COSINE, quality=QUALITY, guard="none")
  want = np.cos(THETA - 0.4 * QUALITY) - 0.4 - 0.4 * QUALITY
  np.testing.assert_allclose(phi, want, rtol=0, atol=1e-15)
  with pytest.raises(ValueError, match="guard='easy': choose one of"):
    adaptive.adaface(0.5, quality=jnp.zeros(()), guard="easy")  # pyright: ignore
