"""Sparse softmaxes as losses of the configuration."""

import jax
import numpy as np
import pytest
from helpers import small_training

from facejax.runtime import mesh as mesh_lib
from facejax.training import recipe
from facejax.training import state as train_state
from facejax.training.objectives import definition, registry


def test_the_margin_is_in_the_logit_or_in_the_measure():
  logit = registry.AlphaCosFace(scale=8.0, margin=0.25).definition(9).objective
  assert float(logit.margin(0.5)) == 0.25
  assert logit.divergence and logit.divergence.log_reference == 0
  loss = registry.AlphaCosFace(scale=8.0, margin=0.25, place="reference")
  measure = loss.definition(9).objective
  assert float(measure.margin(0.5)) == 0.5
  assert measure.divergence and measure.divergence.log_reference == -2.0


def test_the_flags_reach_the_loss():
  config = recipe.parse(
    ["--config", "alpha_arcface.py", "--loss.alpha", "1.25"]
  )
  assert config.head.implementation == "sparse"
  assert isinstance(config.loss, registry.AlphaArcFace)
  assert config.loss.alpha == 1.25


@pytest.mark.parametrize("form", ["partial_fc", "pallas"])
def test_a_head_that_chooses_is_refused(form):
  with pytest.raises(ValueError, match="no probability.*use sparse, or fused"):
    recipe.parse(
      ["--config", "alpha_cosface.py", "--head.implementation", form]
    ).to_config()


def test_a_measure_beyond_float32_is_refused():
  loss = registry.AlphaCosFace(scale=64.0, margin=1.9, place="reference")
  with pytest.raises(ValueError, match="loss.place=reference.*use a smaller"):
    loss.check()
  registry.AlphaCosFace(scale=64.0, margin=1.9).check()


@pytest.mark.parametrize(
  ("loss", "says"),
  [
    (registry.AlphaCosFace(scale=3.0), "below loss.scale=3.08"),
    (registry.AlphaArcFace(margin=1.6), "stays above 0"),
    (registry.AlphaCosFace(place="reference"), "below loss.scale=1.46e+05"),
  ],
)
def test_advice_against_a_loss_that_stays(loss, says):
  (found,) = loss.advice(num_classes=10_575, dim=512)
  assert "the loss stays above 0" in found
  assert says in found
  assert not loss.advice(num_classes=1, dim=512)


def test_training_logs_the_support():
  program = small_training.build(
    ["--config", "alpha_cosface.py", *small_training.SMALL[2:], "--steps", 2]
  )
  state = train_state.create(program.init, program.like, seed=7)
  generator = np.random.default_rng(0)
  images = generator.integers(256, size=(16, 32, 32, 3), dtype=np.uint8)
  labels = generator.integers(10, size=16, dtype=np.int32)
  batch = mesh_lib.put_batch({"images": images, "labels": labels}, program.mesh)
  _, metrics = program.step(state, batch["images"], batch["labels"])
  metrics = jax.device_get(metrics)
  assert 1 <= metrics["support"] <= 10 and np.isfinite(metrics["loss"])
  assert "dropped" not in metrics


def test_chance():
  """All cosines 0: the target is at -s m, nine others share the rest."""
  wanted = registry.AlphaCosFace(scale=64.0).definition(10)
  # p = 1/9 = (1 - tau / 2)^2 for each, and tau - theta_y + ... by hand.
  tau = 2 * (1 - 1 / 3)
  by_hand = tau + 22.4 + (1 / 3 - 1) / 1.5
  chance = definition.chance_loss(wanted, num_classes=10)
  assert chance == pytest.approx(by_hand, rel=1e-6)
