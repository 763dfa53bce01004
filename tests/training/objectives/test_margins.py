"""Margins of cosines alone: what each class makes of its fields."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import loss_cases

from facejax.losses import margins, multiplicative
from facejax.training import recipe
from facejax.training.objectives import registry

COSINE = np.linspace(-0.9, 0.9, 7, dtype=np.float32)


def test_fields_reach_the_margin():
  arc = registry.ArcFace(margin=0.3, guard="none", centers=3, intra_weight=2.0)
  wanted = arc.definition(10)
  np.testing.assert_array_equal(
    wanted.objective.margin(COSINE),
    margins.arcface(COSINE, margin=0.3, guard="none"),
  )
  assert wanted.centers == 3 and wanted.prepare is None
  # theta / pi at 90 degrees, twice.
  assert float(wanted.objective.penalty(np.float32(0.0))) == pytest.approx(1.0)
  assert registry.ArcFace().definition(10).objective.penalty is None


def test_only_softmax_has_lengths_and_a_bias():
  plain = registry.Softmax().definition(10).objective
  assert (plain.scale, plain.unit_prototypes, plain.bias) == (None, False, True)
  modified = registry.ModifiedSoftmax().definition(10).objective
  assert (modified.scale, modified.unit_prototypes) == (None, True)
  assert registry.NSL(scale=9.0).definition(10).objective.scale == 9.0


@pytest.mark.parametrize("version", ["v0", "v1", "v2"])
def test_versions_of_sphereface_r_put_the_margin_elsewhere(version):
  loss = registry.SphereFaceR(version=version, margin=1.5)
  objective = loss.definition(10).objective
  assert objective.weight == 50 / 60
  own = {
    "v0": multiplicative.sphereface(COSINE, margin=1.5),
    "v1": multiplicative.sphereface_r(COSINE, margin=1.5),
    "v2": COSINE,
  }[version]
  np.testing.assert_allclose(objective.margin(COSINE), own, atol=1e-6)
  assert (objective.negative is None) == (version != "v2")


def test_cosface_advises_against_a_margin_that_classes_cannot_have():
  (found,) = registry.CosFace().advice(num_classes=8, dim=2)
  assert "loss.margin=0.35 is above 0.293" in found
  both = registry.CosFace(scale=1.0).advice(num_classes=8, dim=2)
  assert len(both) == 2


# Losses whose margin is more than a difference of cosines. (Those of proxies
# have none, or make it of a table.)
BENT = [
  loss
  for name, loss in loss_cases.LOSSES.items()
  if name
  not in {
    "softmax", "softmax without bias", "modified_softmax", "nsl", "cosface",
    "alpha_cosface", "alpha_cosface reference",
    "circle", "proxy_nca", "proxy_nca++", "proxy_anchor", "soft_triple",
  }
]  # fmt: skip


@pytest.mark.parametrize("loss", BENT, ids=lambda loss: loss.name)
def test_the_field_gradient_reaches_the_margin(loss):
  def slopes(gradient):
    wanted = dataclasses.replace(loss, gradient=gradient).definition(10)
    # Of v2 of SphereFace-R the margin is that of the others.
    if getattr(loss, "version", None) == "v2":
      function = wanted.objective.negative
      return jax.grad(lambda c: function(c, c).sum())(COSINE)
    numbers = {
      "adaface": {"quality": 0.5},
      "magface": {"margin": 0.5},
      "elasticface": {"margin": 0.5},
      "sphereface2": {"bias": 1.0},
      "uniface": {"bias": 30.0},
      "l_softmax": {"strength": 1.0},
      "a_softmax": {"strength": 1.0},
    }.get(loss.name, {})
    each = {k: jnp.full(len(COSINE), v) for k, v in numbers.items()}
    return jax.grad(lambda c: wanted.objective.margin(c, **each).sum())(COSINE)

  assert (slopes("detached") == 1).all()
  # Both are the same where nothing is bent: a plain difference, no clamp.
  straight = getattr(loss, "kind", "") == "cos"
  straight |= getattr(loss, "clamp", True) is False
  assert (slopes("exact") == 1).all() == straight


def test_the_flag_gradient_reaches_the_loss():
  arguments = ["--loss.gradient", "detached", "--loss.guard", "none"]
  loss = recipe.parse(["--config", "adaface.py", *arguments]).loss
  assert isinstance(loss, registry.AdaFace)
  assert (loss.gradient, loss.guard) == ("detached", "none")
