"""L-Softmax and A-Softmax: a weight of the plain cosine that falls."""

import jax
import numpy as np
import pytest

from facejax.losses import multiplicative
from facejax.training.objectives import definition, registry


@pytest.mark.parametrize("loss", [registry.LSoftmax(), registry.ASoftmax()])
def test_lambda_falls_with_the_count_of_steps(loss):
  wanted = loss.definition(10)
  batch = definition.Batch(np.ones((3, 4), np.float32), None, jax.random.key(0))
  stats = {"step": np.float32(0.0)}
  for step in (1, 2, 3):
    prepared = wanted.prepare({}, stats, batch)
    stats = prepared.stats
    assert float(stats["step"]) == step
    strength = multiplicative.annealed_strength(
      float(step),
      base=loss.base,
      gamma=loss.gamma,
      power=loss.power,
      minimum=loss.minimum,
    )
    assert float(prepared.metrics["lambda"]) == pytest.approx(float(strength))
    assert prepared.parameters.margin["strength"].shape == (3,)


def test_only_a_softmax_normalises_prototypes():
  assert not registry.LSoftmax().definition(10).objective.unit_prototypes
  assert registry.ASoftmax().definition(10).objective.unit_prototypes


def test_a_softmax_advises_against_a_small_factor():
  (found,) = registry.ASoftmax(margin=2).advice(num_classes=100, dim=512)
  assert "loss.margin=2 is below 3" in found
