"""One-vs-all losses: their learnt threshold and their two terms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.losses import binary
from facejax.training.objectives import definition, one_vs_all, registry


def test_the_threshold_starts_from_its_closed_form():
  two = registry.SphereFace2().definition(500)
  start = binary.sphereface2_bias(500, scale=40.0, margin=0.4)
  assert two.weights == {"bias": start}
  uni = registry.UniFace().definition(500)
  assert uni.weights == {"bias": binary.uniface_bias(500)}


def test_weights_of_the_two_terms():
  two = registry.SphereFace2(scale=10.0, alpha=0.7, weight=50.0).definition(5)
  assert two.objective.one_vs_all == pytest.approx((3.5, 1.5))
  uni = registry.UniFace(weight=0.25).definition(5)
  assert uni.objective.one_vs_all == (1.0, 0.25)


def test_gradients_of_all_examples_add_up_in_the_threshold():
  batch = definition.Batch(jnp.ones((3, 2)), None, jax.random.key(0))

  def total(bias):
    prepared = one_vs_all.with_bias({"bias": bias}, {}, batch)
    assert prepared.parameters.margin is prepared.parameters.negative
    return (prepared.parameters.margin["bias"] * np.arange(3.0)).sum()

  assert float(jax.grad(total)(jnp.float32(1.0))) == 3.0


def test_they_alone_have_no_probabilities():
  without = {
    name
    for name, loss in vars(registry).items()
    if isinstance(loss, type)
    and issubclass(loss, definition.OverClasses)
    and not loss.has_probabilities
  }
  assert without == {"SphereFace2", "UniFace"}


def test_sphereface2_refuses_a_margin_that_its_kind_cannot_have():
  registry.SphereFace2(kind="M", margin=1.7).check()
  # A factor below 1 would make the angle smaller.
  with pytest.raises(ValueError, match=r"kind=M: loss.margin=0.4 .*\[1, inf"):
    registry.SphereFace2(kind="M").check()
