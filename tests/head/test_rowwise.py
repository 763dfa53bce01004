"""Optimizers whose step of a class depends on that class alone.

And steps on a few classes, for the tests of these.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import heads

from facejax.head import rowwise
from facejax.training import optim


@pytest.mark.parametrize(
  ("tx", "stage"),
  [
    (optim.sgd(heads.SCHEDULE, clip_norm=5.0), "clip_by_global_norm"),
    # A bound that no ordinary gradient reaches, two chains deep.
    (
      optax.chain(optax.chain(optax.clip_by_global_norm(1e20)), optax.sgd(0.1)),
      "clip_by_global_norm",
    ),
    (optax.lamb(0.1), "scale_by_trust_ratio"),
    (optax.chain(optax.sgd(0.1), optax.add_noise(0.1, 0.5, 0)), "add_noise"),
    (optax.apply_if_finite(optax.sgd(0.1), 5), "apply_if_finite"),
    (
      optax.masked(optax.sgd(0.1), np.ones((101, 12), bool)),
      "masked",
    ),
  ],
)
def test_optimizers_that_mix_classes_are_named(tx, stage):
  with pytest.raises(ValueError, match=f"depends on others .in {stage}"):
    rowwise.require(tx, dim=12)


@pytest.mark.parametrize("name", heads.OPTIMIZERS)
def test_usual_optimizers_are_taken(name):
  rowwise.require(heads.OPTIMIZERS[name], dim=12)


def test_leaves_are_told_by_growth_not_by_length():
  w = jnp.zeros((2, 3))
  keyed = optax.chain(optax.adam(0.1), optax.add_noise(0.1, 0.5, 0))
  flags = rowwise.class_leaves(keyed, w)
  assert jax.tree.leaves(flags).count(True) == 2
