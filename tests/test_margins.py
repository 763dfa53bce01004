"""Margins against the golden vectors, and at the edges of their domain."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facejax.head import objective, reference
from facejax.losses import geometry, margins

GOLDEN = json.loads(
  (pathlib.Path(__file__).parent / "golden/golden_losses.json").read_text()
)
CASES = [
  case
  for case in GOLDEN["cases"]
  if case["name"].startswith(("nsl_", "cosface_", "arcface_"))
]


def bind(case):
  """The margin function of a golden case."""
  name, params = case["name"], case["params"]
  if name.startswith("nsl"):
    return margins.nsl
  if name.startswith("cosface"):
    return functools.partial(margins.cosface, margin=params["m"])
  straight = case["grad_mode"] == "straight-through"
  return functools.partial(
    margins.arcface,
    margin=params["m"],
    guard=params["guard"],
    gradient="detached" if straight else "exact",
  )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_golden(case, dtype):
  fixture = GOLDEN["fixtures"][case["name"].split("/")[1]]
  expected = case["expected"]
  with jax.enable_x64(dtype == np.float64):
    w = jnp.asarray(fixture["W"], dtype)
    x = jnp.asarray(fixture["x"], dtype)
    y = jnp.asarray(fixture["y"])

    head = objective.Objective(bind(case), float(case["params"]["s"]))

    def loss(w, x):
      out = reference.loss(w, x, y, objective=head)
      return out.loss.mean(), out.loss

    (_, values), (dw, dx) = jax.value_and_grad(loss, (0, 1), has_aux=True)(w, x)
  assert values.dtype == dtype
  double = dtype == np.float64
  np.testing.assert_allclose(
    values,
    expected["per_sample"],
    rtol=1e-9 if double else 2e-5,
    atol=1e-12 if double else 2e-5 * max(expected["per_sample"]),
  )
  for actual, name in ((dw, "dW"), (dx, "dx")):
    want = np.array(expected[name])
    share = 1e-8 if double else 1e-4
    np.testing.assert_allclose(
      actual, want, rtol=0, atol=share * np.abs(want).max()
    )


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
  value, slope = jax.value_and_grad(lambda x: geometry.l2_normalize(x)[0, 0])(
    jnp.zeros((2, 3))
  )
  assert value == 0 and (np.asarray(slope) == 0).all()
