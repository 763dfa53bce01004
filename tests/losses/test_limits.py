"""Whole losses at the limits of their inputs, and sub-centres at theirs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.head import objective, reference
from facejax.losses import (
  adaptive,
  angles,
  binary,
  circle,
  curricular,
  elastic,
  margins,
  multiplicative,
)
from facejax.runtime import unit_vectors

partial = functools.partial


def lengths(x):
  return (x * unit_vectors.l2_normalize(x)).sum(axis=1)


def of_lengths(x):
  """Parameters of the losses that look at the length of an embedding."""
  norms = lengths(x)
  mean, std = adaptive.adaface_statistics(norms, 20.0, 100.0, rate=0.01)
  return {
    "adaface": {"quality": adaptive.adaface_quality(norms, mean, std)},
    "magface": {
      "margin": adaptive.magface_margin(
        norms, l_a=10, u_a=110, l_m=0.45, u_m=0.8
      )
    },
    "elasticface": {
      "margin": elastic.elastic_margins(
        jax.random.key(0), norms.shape, margin=0.5, std=0.05
      )
    },
  }


def binary_head(name, negative, **options):
  """One-vs-all with a bias for each example, at a given scale."""

  def build(scale):
    return objective.Objective(
      partial(getattr(binary, name), scale=scale, **options),
      scale,
      partial(getattr(binary, f"{name}_negative"), scale=scale, **negative),
      one_vs_all=(0.7, 0.3),
    )

  return build


def scaled(margin, **options):
  return lambda scale: objective.Objective(margin, scale, **options)


def raw(margin, **options):
  """The embeddings themselves are scaled."""
  return lambda scale: objective.Objective(margin, None, **options)


r_v2 = partial(multiplicative.sphereface_r_negative, margin=1.4)
hard = partial(curricular.curricularface_negative, margin=0.5)
circle_pair = (
  partial(circle.circle, margin=0.25),
  partial(circle.circle_negative, margin=0.25),
)
four = partial(multiplicative.a_softmax, margin=4, strength=5.0)
c_kind, a_kind = {"margin": 0.4, "kind": "C"}, {"margin": 0.5, "kind": "A"}
# Name: the objective at a scale.
WHOLE = {
  "softmax": raw(margins.nsl, unit_prototypes=False),
  "softmax with bias": raw(margins.nsl, unit_prototypes=False, bias=True),
  "modified_softmax": raw(margins.nsl),
  "l_softmax": raw(four, unit_prototypes=False),
  "a_softmax": raw(four),
  "nsl": scaled(margins.nsl),
  "intra_class": scaled(margins.nsl, penalty=angles.intra_class),
  "cosface": scaled(partial(margins.cosface, margin=0.35)),
  "arcface": scaled(partial(margins.arcface, margin=0.5)),
  "combined": scaled(partial(margins.combined, m1=0.9, m2=0.4, m3=0.15)),
  "sphereface": scaled(partial(multiplicative.sphereface, margin=1.7)),
  "sphereface_r": scaled(partial(multiplicative.sphereface_r, margin=1.5)),
  "sphereface_r v2": scaled(margins.nsl, negative=r_v2),
  "circle": lambda scale: objective.Objective(
    circle_pair[0], scale, circle_pair[1]
  ),
  "adaface": scaled(adaptive.adaface),
  "magface": scaled(adaptive.magface),
  "elasticface": scaled(partial(margins.arcface, guard="none")),
  "curricularface": scaled(partial(margins.arcface, margin=0.5), negative=hard),
  "sphereface2 C": binary_head("sphereface2", c_kind, **c_kind),
  "sphereface2 A": binary_head("sphereface2", a_kind, **a_kind),
  "uniface": binary_head("uniface", {}, margin=0.4),
  "uniface free": binary_head("uniface", {"clamp": False}, clamp=False),
}


def at_the_limits(rng, columns):
  """Prototypes, two of them equal and one 0; embeddings; labels."""
  prototypes = rng.normal(size=(6, columns)).astype(np.float32)
  prototypes[4], prototypes[5] = prototypes[3], 0
  labels = np.array([0, 1, 2, 3, 4, 5, 0, 1, 2, 3])
  x = rng.normal(size=(10, 4)).astype(np.float32)
  own = prototypes[labels, :4]
  x[0], x[1], x[2] = 0, 7 * own[1], -7 * own[2]
  x[3], x[4] = 200 * own[3], -1e-3 * own[4]
  x[6:] *= np.array([[1e-30], [1e-8], [1e10], [50.0]])
  return jnp.asarray(prototypes), jnp.asarray(x), jnp.asarray(labels)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("scale", [1e-3, 30.0, 1e3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_whole_losses_are_finite(name, scale, dtype):
  head = WHOLE[name](scale)
  w, x, y = at_the_limits(np.random.default_rng(0), 5 if head.bias else 4)

  def total(w, x, bias):
    single = x.astype(jnp.float32)
    if head.scale is None:
      x = x * scale
    margin, negative = of_lengths(single).get(name, {}), {}
    if head.one_vs_all:
      margin = negative = {"bias": bias}
    if name == "curricularface":
      negative = {"average": 0 * bias + 0.3}
    found = objective.Parameters(margin, negative)
    value = reference.loss(w, x, y, objective=head, parameters=found).loss
    if name == "magface":
      value += adaptive.magface_regularizer(lengths(single), l_a=10, u_a=110)
    return value.mean(), value

  (_, values), gradients = jax.value_and_grad(total, (0, 1, 2), has_aux=True)(
    w, x.astype(dtype), jnp.full(len(y), 10.0)
  )
  assert values.shape == (10,) and (np.asarray(values) >= 0).all()
  for leaf in jax.tree.leaves((values, gradients)):
    assert np.isfinite(np.float32(leaf)).all()


@pytest.mark.parametrize("copies", [1, 3])
def test_one_subcentre_is_the_plain_loss(copies):
  rng = np.random.default_rng(1)
  w = jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)
  x = jnp.asarray(rng.normal(size=(8, 4)), jnp.float32)
  y = jnp.arange(8) % 6
  head = WHOLE["arcface"](64.0)

  def total(w, x, copies):
    w = jnp.stack([w] * copies, axis=1) if copies else w
    return reference.loss(w, x, y, objective=head).loss.mean()

  run = jax.value_and_grad(total, (0, 1))
  plain, found = (
    jax.tree.leaves(run(w, x, 0)),
    jax.tree.leaves(run(w, x, copies)),
  )
  for one, other in zip(found, plain, strict=True):
    np.testing.assert_allclose(
      one, other, rtol=1e-5, atol=1e-6 * np.abs(other).max()
    )
