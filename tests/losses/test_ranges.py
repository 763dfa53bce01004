"""Functions refuse numbers outside the ranges of their docstrings."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.head import objective
from facejax.losses import (
  adaptive,
  binary,
  bounds,
  center,
  circle,
  curricular,
  elastic,
  margins,
  multi_similarity,
  multiplicative,
  pairwise,
  proxies,
  triplet,
)

partial = functools.partial
C = np.array([-0.5, 0.1, 0.9], np.float32)
X = np.eye(3, dtype=np.float32)
LABELS = np.array([0, 0, 1])
LINE = {"l_a": 10.0, "u_a": 110.0, "l_m": 0.45, "u_m": 0.8}
S2 = {"bias": 0.0, "margin": 0.4, "scale": 40.0}


def batch(function, **options):
  return partial(function, X, LABELS, **options)


# Function -> by the name of an argument, a value inside and some outside.
OUTSIDE = [
  (partial(margins.cosface, C), "margin", 0.0, [-0.1]),
  (partial(margins.arcface, C), "margin", 3.1, [-0.1, math.pi, 28.6]),
  (partial(margins.combined, C, m2=0.3, m3=0.2), "m1", 1.35, [0.0, -1]),
  (partial(margins.combined, C, m1=1.0, m3=0.2), "m2", 0.0, [-0.1, 4]),
  (partial(margins.combined, C, m1=1.0, m2=0.3), "m3", 0.0, [-0.1]),
  (partial(adaptive.adaface, C, quality=C), "margin", 0.0, [-0.4, 3.2]),
  (
    partial(adaptive.adaface_statistics, C, 20.0, 100.0),
    "rate",
    1.0,
    [-0.1, 1.1],
  ),
  (
    partial(adaptive.adaface_quality, C, 20.0, 100.0),
    "concentration",
    0.0,
    [-1],
  ),
  (partial(adaptive.magface, C), "margin", 0.5, [-0.5, 3.5]),
  (partial(curricular.curricularface_average, 0.5, C), "decay", 0.0, [-1, 2]),
  (
    partial(curricular.curricularface_negative, C, C, average=0.5),
    "margin",
    0.5,
    [-0.5, 3.5],
  ),
  (
    partial(elastic.elastic_margins, jax.random.key(0), (3,), margin=0.5),
    "std",
    0.0,
    [-0.1],
  ),
  (partial(circle.circle, C), "margin", 1.0, [-0.1]),
  (partial(circle.circle_negative, C, C), "margin", 1.5, [-0.1]),
  (partial(multiplicative.sphereface, C), "margin", 1.0, [0.5, -2]),
  (partial(multiplicative.sphereface_r, C), "margin", 1.0, [0.5, -2]),
  (partial(multiplicative.sphereface_r_negative, C, C), "margin", 1, [0.5, 0]),
  (partial(multiplicative.a_softmax, C, margin=4), "strength", 0.0, [-1.0]),
  (partial(multiplicative.annealed_strength, 1), "power", 1.0, [0.0]),
  (partial(binary.sphereface2, C, bias=0.0, margin=0.4), "scale", 40, [0, -1]),
  (partial(binary.sphereface2, C, bias=0.0, scale=9.0), "margin", 0.4, [-0.1]),
  (
    partial(binary.sphereface2, C, bias=0.0, scale=9.0, kind="A"),
    "margin",
    0.5,
    [-0.1, 3.5],
  ),
  (
    partial(binary.sphereface2, C, bias=0.0, scale=9.0, kind="M"),
    "margin",
    1.0,
    [0.4],
  ),
  (partial(binary.sphereface2, C, **S2), "power", 1.0, [0.0, -3]),
  (partial(binary.sphereface2_negative, C, C, **S2), "power", 3.0, [0.0]),
  (partial(binary.sphereface2_bias, 9, margin=0.4), "scale", 40.0, [0.0]),
  (partial(binary.uniface, C, bias=0.0), "scale", 64, [0, -64]),
  (partial(binary.uniface, C, bias=0.0), "margin", 0.0, [-0.4]),
  (partial(binary.uniface_negative, C, C, bias=0.0), "scale", 64, [0, -64]),
  (partial(binary.uniface_bias, 9), "r", 1.0, [0.0, -1.0]),
  (partial(center.update_centers, X, X, LABELS), "rate", 1.0, [-0.1, 1.5]),
  (batch(pairwise.contrastive), "margin", 2.0, [-0.1, 2.1]),
  (batch(pairwise.supcon), "temperature", 0.1, [0.0, -0.1]),
  (batch(pairwise.supcon), "base_temperature", 0.1, [0.0, -0.1]),
  (batch(pairwise.nt_xent), "temperature", 0.1, [0.0, -0.1]),
  (batch(multi_similarity.multi_similarity), "positive_scale", 2, [0.0, -1]),
  (batch(multi_similarity.multi_similarity), "negative_scale", 9, [0.0, -1]),
  (batch(multi_similarity.multi_similarity), "base", -1.0, [-1.5, 2]),
  (batch(multi_similarity.multi_similarity), "epsilon", 0.0, [-0.1]),
  (batch(proxies.proxy_anchor), "scale", 32, [0, -1]),
  (batch(proxies.proxy_anchor), "margin", 0.0, [-0.1]),
  (batch(proxies.soft_triple), "scale", 32, [0, -1]),
  (batch(proxies.soft_triple), "margin", 0.0, [-0.1]),
  (partial(proxies.soft_similarity, X), "gamma", 0.1, [0.0, -0.1]),
  (batch(pairwise.circle), "scale", 80, [0, -80]),
  (batch(pairwise.circle_of_batch), "margin", 0.0, [-0.4]),
  (batch(triplet.triplet), "margin", 0.0, [-0.2]),
  (partial(bounds.angular_margin, angle=90.0), "margin", 1, [0.5]),
  (partial(bounds.arcface_boundary, C), "margin", 0.0, [-0.1, 3.5]),
  (partial(bounds.cosface_boundary, C), "margin", 0.0, [-0.1]),
  (partial(bounds.a_softmax_boundary, C), "margin", 1, [0.5]),
  (partial(bounds.softmax_boundary, C), "ratio", 1, [0.0]),
  (partial(objective.Objective, margins.nsl), "scale", 64, [0.0, -1]),
  (partial(objective.Objective, margins.nsl), "weight", 1, [0.0, -1]),
]


@pytest.mark.parametrize(
  ("function", "name", "inside", "outside"),
  OUTSIDE,
  ids=[f"{f.func.__name__} {name}" for f, name, *_ in OUTSIDE],
)
def test_numbers_outside_are_refused_by_name(function, name, inside, outside):
  function(**{name: inside})
  for value in (*outside, math.inf, -math.inf, math.nan):
    message = rf"{name}={value} is out of range: allowed is [\[(].*[\])]"
    with pytest.raises(ValueError, match=message):
      function(**{name: value})


@pytest.mark.parametrize("value", [math.inf, math.nan, 0, 2.5])
def test_psi_takes_whole_numbers_alone(value):
  with pytest.raises(ValueError, match="must be an integer of 1 or more"):
    multiplicative.psi(C, margin=value)


@pytest.mark.parametrize(
  "change", [{"u_a": 10.0}, {"l_a": 200.0}, {"u_m": 0.1}]
)
def test_the_line_of_magface_rises(change):
  assert adaptive.magface_margin(60.0, **LINE) == pytest.approx(0.625)
  with pytest.raises(ValueError, match="the line must rise"):
    adaptive.magface_margin(60.0, **(LINE | change))
  with pytest.raises(ValueError, match=r"l_a=-1 is out of range"):
    adaptive.magface_regularizer(60.0, l_a=-1, u_a=110.0)


def test_traced_values_pass():
  traced = jax.jit(lambda m, s: binary.uniface(C, bias=0.0, margin=m, scale=s))
  assert np.isfinite(traced(-0.4, 64.0)).all()
  drawn = jnp.array([-0.1, 0.5, 3.5])
  assert np.isfinite(margins.arcface(C, margin=drawn)).all()
  line = jax.jit(adaptive.magface_margin)(60.0, **LINE)
  assert float(line) == pytest.approx(0.625)
