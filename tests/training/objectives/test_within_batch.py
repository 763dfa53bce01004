"""Losses within a batch: the mean of what their functions return."""

import jax
import numpy as np
import pytest

from facejax.losses import anchors, pairwise, triplet
from facejax.runtime import mesh as mesh_lib
from facejax.training.objectives import registry

EMBEDDINGS = np.random.default_rng(5).normal(size=(8, 6)).astype(np.float32)
LABELS = np.repeat(np.arange(4, dtype=np.int32), 2)
KEY = jax.random.key(1)


def evaluate(loss):
  mesh = mesh_lib.make_mesh(devices=1)
  return jax.jit(loss.function(mesh=mesh))(EMBEDDINGS, LABELS, key=KEY)


@pytest.mark.parametrize(
  ("loss", "expected"),
  [
    (
      registry.Contrastive(margin=0.7),
      pairwise.contrastive(EMBEDDINGS, LABELS, margin=0.7),
    ),
    (
      registry.SupCon(temperature=0.2),
      pairwise.supcon(EMBEDDINGS, LABELS, temperature=0.2),
    ),
    (
      registry.PairCircle(scale=9.0, margin=0.3),
      pairwise.circle(EMBEDDINGS, LABELS, scale=9.0, margin=0.3),
    ),
  ],
  ids=["contrastive", "supcon", "pair_circle"],
)
def test_pairs(loss, expected):
  value, metrics = evaluate(loss)
  assert float(value) == pytest.approx(float(anchors.mean(expected)), rel=1e-5)
  share = expected.active.sum() / expected.terms.sum()
  assert float(metrics["active_share"]) == pytest.approx(float(share))


@pytest.mark.parametrize(
  ("mining", "over"), [("semi_hard_hardest", "all"), ("all", "active")]
)
def test_of_all_triplets_the_active_ones_are_averaged(mining, over):
  value, metrics = evaluate(registry.Triplet(mining=mining, margin=0.3))
  expected = triplet.triplet(EMBEDDINGS, LABELS, margin=0.3, mining=mining)
  mean = anchors.mean(expected, over=over)
  assert float(value) == pytest.approx(float(mean), rel=1e-5)
  assert set(metrics) >= {"selected", "active_share", "positive_distance"}
