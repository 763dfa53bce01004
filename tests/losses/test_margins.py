"""Margins at the edges of their domain."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facejax.losses import margins
from facejax.runtime import unit_vectors


@pytest.mark.parametrize("guard", ["fallback", "easy", "none", "clip"])
@pytest.mark.parametrize("gradient", ["exact", "detached"])
@settings(max_examples=50, deadline=None)
@given(cosine=st.floats(-1, 1, width=32), margin=st.floats(0, 1.5, width=32))
def test_arcface_is_finite(guard, gradient, cosine, margin):
  value, slope = jax.value_and_grad(
    functools.partial(
      margins.arcface, margin=margin, guard=guard, gradient=gradient
    )
  )(jnp.float32(cosine))
  assert np.isfinite(value) and np.isfinite(slope)
  if gradient == "detached":
    assert slope == 1


@pytest.mark.parametrize("cosine", [-1.0, -0.999999, 0.0, 0.999999, 1.0])
def test_without_margin_all_are_the_cosine(cosine):
  assert margins.nsl(cosine) == np.float32(cosine)
  assert margins.cosface(cosine, margin=0.0) == np.float32(cosine)
  np.testing.assert_allclose(
    margins.arcface(cosine, margin=0.0), cosine, atol=1e-6
  )


def test_arcface_guards_differ_only_past_pi():
  acute = jnp.linspace(0.01, 0.99, 50)
  plain = margins.arcface(acute, margin=0.5, guard="none")
  np.testing.assert_allclose(plain, np.cos(np.arccos(acute) + 0.5), atol=1e-5)
  for guard in ("fallback", "easy", "clip"):
    np.testing.assert_array_equal(
      margins.arcface(acute, margin=0.5, guard=guard), plain
    )
  # theta = 164 degrees, past pi - 0.5.
  assert margins.arcface(-0.96, margin=0.5) == pytest.approx(
    -0.96 - 0.5 * np.sin(0.5), abs=1e-6
  )
  assert margins.arcface(-0.96, margin=0.5, guard="easy") == np.float32(-0.96)


@pytest.mark.parametrize(
  "options", [{"guard": "hard"}, {"gradient": "straight"}]
)
def test_unknown_option_lists_choices(options):
  with pytest.raises(ValueError, match="choose one of"):
    margins.arcface(0.5, margin=0.5, **options)


def test_l2_normalize_of_zero_has_no_nan():
  value, slope = jax.value_and_grad(
    lambda x: unit_vectors.l2_normalize(x)[0, 0]
  )(jnp.zeros((2, 3)))
  assert value == 0 and (np.asarray(slope) == 0).all()
