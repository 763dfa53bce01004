"""Margins of cosines alone: what each class makes of its fields."""

import numpy as np
import pytest

from facejax.losses import margins, multiplicative
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
