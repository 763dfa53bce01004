"""Losses are equal at the parameters where the papers say they coincide."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facejax.losses import (
  adaptive,
  binary,
  circle,
  curricular,
  margins,
  multiplicative,
)

partial = functools.partial
GUARDS = ("fallback", "easy", "none", "clip")
arcface, combined, cosface = margins.arcface, margins.combined, margins.cosface
psi, sphereface = multiplicative.psi, multiplicative.sphereface
s2 = partial(binary.sphereface2, scale=30.0)
s2_other = partial(binary.sphereface2_negative, scale=30.0)
uniface = partial(binary.uniface, scale=30.0)
uniface_other = partial(binary.uniface_negative, scale=30.0)
circle_other, r_other = (
  circle.circle_negative,
  multiplicative.sphereface_r_negative,
)


def magface(c, m, guard):
  """MagFace with l_m = u_m, for lengths within and without [l_a, u_a]."""
  options = {"l_a": 10, "u_a": 110, "l_m": m, "u_m": m}
  margin = adaptive.magface_margin(60 + 100 * c, **options)
  return adaptive.magface(c, margin=margin, guard=guard)


# Name: the cosines c by other means; m is in [0, 1.5], k in [-1, 1].
PLAIN = {
  "nsl": lambda c, m, k: margins.nsl(c),
  "cosface": lambda c, m, k: cosface(c, margin=0.0),
  "combined": lambda c, m, k: combined(c, m1=1.0, m2=0.0, m3=0.0),
  "psi": lambda c, m, k: psi(c, margin=1),
  "a_softmax": lambda c, m, k: multiplicative.a_softmax(
    c, margin=1, strength=m
  ),
  "a_softmax, no psi": lambda c, m, k: multiplicative.a_softmax(
    c, margin=4, strength=1e12
  ),
  "sphereface": lambda c, m, k: sphereface(c, margin=1.0),
  "sphereface_r": lambda c, m, k: multiplicative.sphereface_r(c, margin=1.0),
  "sphereface_r v2": lambda c, m, k: r_other(c, k, margin=1.0),
  "sphereface2": lambda c, m, k: s2(c, bias=0.0, margin=0.0, power=1.0),
  "uniface": lambda c, m, k: uniface(c, bias=0.0, margin=0.0),
  "uniface, others": lambda c, m, k: uniface_other(c, k, bias=0.0),
}
# Name: two ways to the same.
PAIRS = {
  "combined, cosface": lambda c, m, k: (
    combined(c, m1=1.0, m2=0.0, m3=m),
    cosface(c, margin=m),
  ),
  "combined, arcface": lambda c, m, k: (
    combined(c, m1=1.0, m2=m, m3=0.0),
    arcface(c, margin=m, guard="none"),
  ),
  "circle, its others": lambda c, m, k: (
    circle.circle(c, margin=min(m, 1.0)),
    # c -> 1 - c exchanges the optima.
    -circle_other(1 - c, k, margin=min(m, 1.0)),
  ),
  "uniface, its others": lambda c, m, k: (
    uniface(c, bias=k, margin=0.0),
    uniface_other(c, k, bias=k),
  ),
  "uniface, cosface": lambda c, m, k: (
    uniface(c, bias=0.0, margin=m, clamp=False),
    cosface(c, margin=m),
  ),
  "sphereface2, uniface": lambda c, m, k: (
    s2(c, bias=k, margin=m, power=1.0),
    uniface(c, bias=-k, margin=m, clamp=False),
  ),
}
for n in range(1, 6):
  PAIRS[f"sphereface, psi {n}"] = lambda c, m, k, n=n: (
    sphereface(c, margin=n),
    psi(c, margin=n),
  )
for guard in GUARDS:
  PLAIN[f"arcface {guard}"] = lambda c, m, k, guard=guard: arcface(
    c, margin=0.0, guard=guard
  )
  PAIRS[f"magface, arcface {guard}"] = lambda c, m, k, guard=guard: (
    magface(c, m, guard),
    arcface(c, margin=m, guard=guard),
  )
for kind, none in (("C", 0.0), ("A", 0.0), ("M", 1.0)):
  PAIRS[f"sphereface2 {kind}, its others"] = (
    lambda c, m, k, kind=kind, none=none: (
      s2(c, bias=k, margin=none, kind=kind),
      s2_other(c, k, bias=k, margin=none, kind=kind),
    )
  )
for name, plain in PLAIN.items():
  PAIRS[f"{name}, cosine"] = lambda c, m, k, plain=plain: (plain(c, m, k), c)
# Name: likewise, and where they are the same.
PARTS = {
  "adaface k=0, cosface": lambda c, m, k: (
    adaptive.adaface(c, quality=jnp.float64(0), margin=m),
    cosface(c, margin=m),
    np.abs(c) < 0.999,
  ),
  "adaface k=-1, arcface": lambda c, m, k: (
    adaptive.adaface(c, quality=jnp.float64(-1), margin=m),
    arcface(c, margin=m),
    (np.abs(c) < 0.999) & (np.arccos(c) + m < np.pi - 1e-3),
  ),
  "sphereface, combined": lambda c, m, k: (
    sphereface(c, margin=1 + m),
    combined(c, m1=1 + m, m2=0.0, m3=0.0),
    (1 + m) * np.arccos(c) < np.pi,
  ),
  "sphereface, sphereface_r": lambda c, m, k: (
    sphereface(c, margin=1 + m),
    multiplicative.sphereface_r(c, margin=1 + m),
    (1 + m) * np.arccos(c) < np.pi,
  ),
  "curricularface, no hard class": lambda c, m, k: (
    curricular.curricularface_negative(c, c[::-1], average=k, margin=m),
    c,
    # By more than rounding below cos(theta_y + m).
    c < np.cos(np.arccos(c[::-1]) + m) - 1e-7,
  ),
}


def check(c, one, other, where=True):
  one, other = np.asarray(one), np.asarray(other)
  # arcface keeps sin theta from 0, by 2e-8 at both ends.
  near = np.where(np.abs(c) < 1 - 1e-6, 2e-9, 1e-7)
  wrong = (np.abs(one - other) > near) & where
  assert not wrong.any(), (c[wrong], one[wrong], other[wrong])


@pytest.mark.parametrize("name", [*PAIRS, *PARTS])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), m=st.floats(0, 1.5), k=st.floats(-1, 1))
def test_equal_where_they_coincide(name, seed, m, k):
  rng = np.random.default_rng(seed)
  c = rng.uniform(-1, 1, 256)
  c[:6] = [1, -1, 0, 1 - 1e-9, 1e-9 - 1, np.cos(np.pi / 4)]
  with jax.enable_x64(True):
    check(c, *(PAIRS | PARTS)[name](c, m, k))
