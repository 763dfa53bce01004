"""The papers' theory: golden numbers, and the losses themselves."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import paths

from facejax.head import objective, reference
from facejax.losses import bounds, margins, multiplicative

GOLDEN = json.loads((paths.GOLDEN / "golden_losses.json").read_text())[
  "scalars"
]


def test_scale_lower_bound_golden():
  for classes, row in GOLDEN["cosface_s_lower_bound"].items():
    for probability, want in row.items():
      found = bounds.scale_lower_bound(int(classes), float(probability))
      assert found == pytest.approx(want, rel=1e-9)


def test_margin_upper_bound_golden():
  golden = GOLDEN["cosface_m_upper_bound"]
  for classes, want in golden["K2"].items():
    found = bounds.margin_upper_bound(int(classes), dim=2)
    assert found == pytest.approx(want, rel=1e-9)
  for classes, want in golden["simplex"].items():
    for dim in (max(int(classes) - 1, 3), 512):
      found = bounds.margin_upper_bound(int(classes), dim)
      assert found == pytest.approx(want, rel=1e-9)
  assert set(golden) == {"K2", "simplex", "rule"}


def test_sphereface_golden():
  golden = dict(GOLDEN["sphereface_m_min"])
  for margin, want in golden.pop("angular_margin_fraction").items():
    found = bounds.angular_margin(float(margin), 1.0)
    assert found == pytest.approx(want, rel=1e-9)
  assert golden.pop("angular_margin") == "(m-1)/(m+1)*theta12"
  for kind, want in golden.items():
    found = bounds.sphereface_min_margin(kind)
    assert found == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("classes", [2, 4, 8])
@pytest.mark.parametrize("probability", [0.9, 0.999])
def test_scale_bound_is_attained_on_a_simplex(classes, probability):
  scale = bounds.scale_lower_bound(classes, probability)
  with jax.enable_x64(True):
    simplex = jnp.eye(classes) - 1 / classes
    head = objective.Objective(margins.nsl, scale=scale)
    out = reference.loss(simplex, simplex, jnp.arange(classes), objective=head)
  np.testing.assert_allclose(out.loss, -math.log(probability), rtol=1e-9)


@pytest.mark.parametrize("classes", [2, 3, 8, 100])
def test_margin_bound_is_attained_on_a_circle(classes):
  turn = 2 * np.pi * np.arange(classes) / classes
  points = np.stack([np.cos(turn), np.sin(turn)], axis=1)
  cosines = points @ points.T - 3 * np.eye(classes)
  assert bounds.margin_upper_bound(classes, 2) == pytest.approx(
    1 - cosines.max(), rel=1e-9
  )


def test_minimal_margins_solve_the_inequalities_of_the_paper():
  """Widest angle within a class (left) = least between classes (right)."""
  binary = bounds.sphereface_min_margin("binary")
  within = 1 / (binary - 1) + 1 / (binary + 1)
  assert within == pytest.approx(bounds.angular_margin(binary, 1.0))
  many = bounds.sphereface_min_margin("multiclass")
  assert 2 / (many + 1) == pytest.approx(bounds.angular_margin(many, 1.0))


@pytest.mark.parametrize("margin", [1, 2, 3, 4])
def test_angular_margin_lies_between_the_boundaries(margin):
  between = 0.7  # theta_12; on the arc theta_1 + theta_2 = theta_12
  low, high = 0.0, between
  for _ in range(60):
    middle = (low + high) / 2
    other = float(bounds.a_softmax_boundary(middle, margin=margin))
    low, high = (middle, high) if middle + other < between else (low, middle)
  assert between - 2 * low == pytest.approx(
    bounds.angular_margin(margin, between)
  )


def a_softmax_head(margin):
  phi = functools.partial(multiplicative.a_softmax, margin=margin, strength=0)
  return objective.Objective(phi, scale=None)


RAW = objective.Objective(margins.nsl, scale=None, unit_prototypes=False)
ARC = functools.partial(margins.arcface, margin=0.5)
COS = functools.partial(margins.cosface, margin=0.35)
# Name: (boundary, the loss, |w_1| / |w_2|).
LOSSES = {
  "softmax": (functools.partial(bounds.softmax_boundary, ratio=1.5), RAW, 1.5),
  "modified": (
    bounds.nsl_boundary,
    objective.Objective(margins.nsl, scale=None),
    1.5,
  ),
  "nsl": (bounds.nsl_boundary, objective.Objective(margins.nsl), 1.5),
  "a_softmax2": (
    functools.partial(bounds.a_softmax_boundary, margin=2),
    a_softmax_head(2),
    0.5,
  ),
  "a_softmax4": (
    functools.partial(bounds.a_softmax_boundary, margin=4),
    a_softmax_head(4),
    1.5,
  ),
  "cosface": (
    functools.partial(bounds.cosface_boundary, margin=0.35),
    objective.Objective(COS),
    1.5,
  ),
  "arcface": (
    functools.partial(bounds.arcface_boundary, margin=0.5),
    objective.Objective(ARC),
    1.5,
  ),
}


def losses(head, first, second, ratio):
  """Of class 1, for examples at these angles to the two prototypes."""

  def loss(first, second):
    prototypes = jnp.stack(
      [
        ratio * jnp.stack([jnp.cos(first), jnp.sin(first), 0.0]),
        jnp.stack([jnp.cos(second), 0.0, jnp.sin(second)]),
      ]
    )
    example = jnp.array([[2.0, 0.0, 0.0]])
    label = jnp.zeros(1, jnp.int32)
    return reference.loss(prototypes, example, label, objective=head).loss[0]

  return jax.vmap(loss)(jnp.asarray(first), jnp.asarray(second))


@pytest.mark.parametrize("name", LOSSES)
def test_logits_are_equal_on_the_boundary(name):
  boundary, head, ratio = LOSSES[name]
  first = np.linspace(0.01, np.pi - 0.01, 500)
  second = boundary(first)
  # Nowhere large enough: not even the farthest. Everywhere: even the nearest.
  lost, won = np.isnan(second), second == 0
  met = ~lost & ~won
  assert met.sum() > 100
  second = np.where(lost, np.pi, second)
  with jax.enable_x64(True):
    on, inside, outside = (
      np.asarray(losses(head, first, second + step, ratio))
      for step in (0, 1e-3, -1e-3)
    )
  np.testing.assert_allclose(on[met], math.log(2), rtol=1e-9)
  assert (inside[met] < math.log(2)).all()
  assert (outside[met] > math.log(2)).all()
  assert (on[lost] > math.log(2)).all() and (on[won] < math.log(2)).all()


def test_cosface_band_in_the_plane_of_cosines():
  first = np.linspace(0, np.pi / 2, 50)
  second = bounds.cosface_boundary(first, margin=0.35)
  one = np.stack([np.cos(first), np.cos(second)])
  normal = np.array([1, -1]) / math.sqrt(2)
  width = normal @ (one - one[::-1])
  np.testing.assert_allclose(width, math.sqrt(2) * 0.35, rtol=1e-9)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: bounds.scale_lower_bound(1, 0.9), "num_classes=1"),
    (lambda: bounds.scale_lower_bound(9, 1.0), "probability=1.0"),
    (lambda: bounds.margin_upper_bound(0, 2), "num_classes=0"),
    (lambda: bounds.margin_upper_bound(9, 1), "dim=1"),
    (lambda: bounds.sphereface_min_margin("ternary"), "choose 'binary'"),
    (lambda: bounds.angular_margin(0.5, 1.0), "margin=0.5"),
  ],
)
def test_out_of_range(call, message):
  with pytest.raises(ValueError, match=message):
    call()
