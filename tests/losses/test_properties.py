"""What must hold for any input: finite, monotone, equal where papers say so.

Every example of hypothesis is an array of cosines, with parameters of their own
for each, so that a function sees several thousand random inputs.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facejax.losses import (
  adaptive,
  angles,
  binary,
  circle,
  curricular,
  margins,
  multiplicative,
)

EXAMPLES, SIZE = 12, 256  # 12 arrays of more than 200 random cosines each
# Ends, past the ends by rounding, 90 degrees, and joints of psi.
EDGES = [1, -1, 0, -0.0, 1 - 6e-8, 6e-8 - 1, 1 + 2.4e-7, -1 - 2.4e-7, 0.5, -0.5]
EDGES += [math.sqrt(0.5), -math.sqrt(0.5), 1e-30, math.cos(math.pi - 0.5)]

partial = functools.partial
M, S, B = {"margin": (0, 3.1)}, {"scale": (1e-3, 1e3)}, {"bias": (-1e3, 1e3)}
# Margin: function of the target cosine, and the ranges of its parameters.
MARGINS = {
  "nsl": (margins.nsl, {}),
  "cosface": (margins.cosface, M),
  "arcface": (margins.arcface, M),
  "arcface easy": (partial(margins.arcface, guard="easy"), M),
  "arcface none": (partial(margins.arcface, guard="none"), M),
  "arcface clip": (partial(margins.arcface, guard="clip"), M),
  "arcface detached": (partial(margins.arcface, gradient="detached"), M),
  "combined": (margins.combined, {"m1": (0, 9), "m2": (0, 9), "m3": (0, 9)}),
  **{
    f"psi {m}": (partial(multiplicative.psi, margin=m), {}) for m in range(1, 7)
  },
  "a_softmax": (multiplicative.a_softmax, {"strength": (0, 1e3)}),
  "sphereface": (multiplicative.sphereface, {"margin": (1, 9)}),
  "sphereface_r": (multiplicative.sphereface_r, {"margin": (1, 9)}),
  "adaface": (adaptive.adaface, {"quality": (-1, 1), "margin": (0, 2)}),
  "magface": (adaptive.magface, M),
  "circle": (circle.circle, {"margin": (0, 1)}),
  "uniface": (binary.uniface, {**B, **M, **S}),
  "uniface free": (partial(binary.uniface, clamp=False), {**B, **M, **S}),
  "intra_class": (angles.intra_class, {}),
}
# Of another class: function of its cosine and of the target's.
NEGATIVES = {
  "sphereface_r": (multiplicative.sphereface_r_negative, {"margin": (1, 9)}),
  "curricularface": (
    curricular.curricularface_negative,
    {"average": (-1, 1), **M},
  ),
  "circle": (circle.circle_negative, {"margin": (0, 1)}),
  "uniface": (binary.uniface_negative, {**B, **S}),
  "uniface free": (partial(binary.uniface_negative, clamp=False), {**B, **S}),
}
for kind in "CAM":
  ranges = {**B, **S, "margin": (0, 3), "power": (1, 9)}
  for gradient in ("exact", "detached"):
    options = {"kind": kind, "gradient": gradient}
    for table, function in (
      (MARGINS, binary.sphereface2),
      (NEGATIVES, binary.sphereface2_negative),
    ):
      name = f"sphereface2 {kind} {gradient}"
      table[name] = partial(function, **options), ranges
for gradient_of in ("sphereface", "sphereface_r"):
  function, ranges = MARGINS[gradient_of]
  detached = partial(function, gradient="detached")
  MARGINS[f"{gradient_of} detached"] = detached, ranges

arrays = st.tuples(
  st.lists(st.floats(-1, 1, width=32), max_size=16),
  st.integers(0, 2**32 - 1),
)


def draw_cosines(rng, given_values=()):
  """Even in the cosine, and crowded at both ends."""
  fixed = np.array([*EDGES, *given_values])
  count = SIZE - fixed.size
  end = 1 - 10 ** rng.uniform(-9, 0, count)
  even = rng.uniform(-1, 1, count)
  free = np.where(rng.random(count) < 0.5, even, np.copysign(end, even))
  return np.concatenate([fixed, free])


def draw_parameters(rng, ranges):
  """Even in each range, and in the logarithm of a wide positive one."""
  found = {}
  for name, (low, high) in ranges.items():
    wide = low > 0 and high / low > 100
    ends = np.log([low, high]) if wide else (low, high)
    drawn = rng.uniform(*ends, SIZE)
    found[name] = np.exp(drawn) if wide else drawn
  return found


@functools.cache
def with_gradients(table, name):
  """Compiled: values, and gradients for cosines and for all parameters."""
  function, _ = (MARGINS if table == "margin" else NEGATIVES)[name]

  def call(cosines, parameters):
    return function(*cosines, **parameters)

  return jax.jit(jax.vmap(jax.value_and_grad(call, argnums=(0, 1))))


def check_finite(table, name, cosines, parameters):
  run = with_gradients(table, name)
  parameters = {k: jnp.float32(v) for k, v in parameters.items()}
  low = tuple(jnp.bfloat16(c) for c in cosines)
  for given_cosines in (
    tuple(jnp.float32(c) for c in cosines),
    low,
    tuple(jnp.float32(c) for c in low),
  ):
    values, gradients = run(given_cosines, parameters)
    assert values.dtype == jnp.float32
    for leaf in jax.tree.leaves((values, gradients)):
      bad = ~np.isfinite(np.float32(leaf))
      assert not bad.any(), (
        [np.float32(c)[bad] for c in given_cosines],
        {k: v[bad] for k, v in parameters.items()},
      )
    if given_cosines is low:
      rough = values
  # bfloat16 is computed with in float32.
  np.testing.assert_array_equal(rough, values)


# Equal to the bit however they are called: not so if compiled quickly.
@pytest.mark.as_users_compile
@pytest.mark.parametrize("name", MARGINS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(drawn=arrays)
def test_margins_are_finite(name, drawn):
  rng = np.random.default_rng(drawn[1])
  parameters = draw_parameters(rng, MARGINS[name][1])
  check_finite("margin", name, (draw_cosines(rng, drawn[0]),), parameters)


@pytest.mark.as_users_compile
@pytest.mark.parametrize("name", NEGATIVES)
@settings(max_examples=EXAMPLES, deadline=None)
@given(drawn=arrays)
def test_negatives_are_finite(name, drawn):
  rng = np.random.default_rng(drawn[1])
  parameters = draw_parameters(rng, NEGATIVES[name][1])
  cosines = draw_cosines(rng, drawn[0])
  targets = rng.permutation(draw_cosines(rng))
  check_finite("negative", name, (cosines, targets), parameters)


# Name: the largest margin up to which it never falls as the cosine rises.
# fallback: cos m + m sin m >= 1, so that the jump at pi - m goes down.
MONOTONE = {name: MARGINS[name] for name in MARGINS if name.startswith("psi")}
MONOTONE |= {
  name: MARGINS[name]
  for name in ("a_softmax", "sphereface", "sphereface_r", "adaface", "circle")
}
MONOTONE |= {
  "fallback": (margins.arcface, {"margin": (0, 2.33)}),
  "clip": MARGINS["arcface clip"],
  "uniface": MARGINS["uniface"],
  "sphereface2 C": (
    partial(binary.sphereface2, kind="C", bias=0, scale=1),
    {"margin": (0, 2), "power": (1, 9)},
  ),
  "sphereface2 A": (
    partial(binary.sphereface2, kind="A", bias=0, scale=1),
    {"margin": (0, 3), "power": (1, 9)},
  ),
  "sphereface2 M": (
    partial(binary.sphereface2, kind="M", bias=0, scale=1),
    {"margin": (1, 9), "power": (1, 9)},
  ),
  "sphereface_r_negative": (
    lambda c, margin: multiplicative.sphereface_r_negative(c, c, margin=margin),
    {"margin": (1, 9)},
  ),
}


@pytest.mark.parametrize("name", MONOTONE)
@settings(max_examples=EXAMPLES, deadline=None)
@given(drawn=arrays)
def test_monotone(name, drawn):
  function, ranges = MONOTONE[name]
  rng = np.random.default_rng(drawn[1])
  with jax.enable_x64(True):
    cosines = jnp.sort(jnp.clip(draw_cosines(rng, drawn[0]), -1, 1))
    found = draw_parameters(rng, ranges)
    one = {key: value[0] for key, value in found.items()}
    steps = np.diff(function(cosines, **one))
  assert steps.min() >= -1e-12, (np.asarray(cosines)[steps.argmin()], one)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
  lengths=st.lists(st.floats(0, 2.0**60, width=32), min_size=1, max_size=64),
  mean=st.floats(0, 100),
  std=st.floats(0, 100),
  decay=st.floats(0, 1),
)
def test_quality_and_lengths(lengths, mean, std, decay):
  norms = jnp.float32(lengths)
  mean, std = adaptive.adaface_statistics(norms, mean, std, rate=decay)
  assert np.isfinite(mean) and np.isfinite(std) and std >= 0
  quality = adaptive.adaface_quality(norms, mean, std)
  assert (np.abs(quality) <= 1).all()
  options = {"l_a": 10.0, "u_a": 110.0}

  def total(norms):
    margin = adaptive.magface_margin(norms, l_m=0.45, u_m=0.8, **options)
    cost = adaptive.magface_regularizer(norms, **options)
    return (margin + cost).sum(), margin

  (value, margin), slope = jax.value_and_grad(total, has_aux=True)(norms)
  assert np.isfinite(value) and np.isfinite(slope).all()
  assert (margin >= 0.45 - 1e-6).all() and (margin <= 0.8 + 1e-6).all()


@settings(max_examples=EXAMPLES, deadline=None)
@given(
  drawn=arrays,
  m1=st.floats(0.5, 2),
  m2=st.floats(0, 3.1),
  m3=st.floats(0, 1),
)
def test_monotone_in_pieces(drawn, m1, m2, m3):
  """Up to the angle where the formula ends, and beyond a guard's switch."""
  rng = np.random.default_rng(drawn[1])
  with jax.enable_x64(True):
    cosine = np.sort(np.clip(draw_cosines(rng, drawn[0]), -1, 1))
    theta = np.arccos(cosine)
    arcface = {
      guard: margins.arcface(cosine, margin=m2, guard=guard)
      for guard in ("fallback", "easy", "none", "clip")
    }
    combined = margins.combined(cosine, m1=m1, m2=m2, m3=m3)
  short, acute = theta + m2 <= np.pi, cosine > 0
  for values, where in (
    (combined, m1 * theta + m2 <= np.pi),
    (arcface["fallback"], short),
    (arcface["fallback"], ~short),
    (arcface["none"], short),
    (arcface["easy"], short & acute),
    (arcface["easy"], ~acute),
  ):
    assert (np.diff(np.asarray(values)[where]) >= -1e-12).all()
