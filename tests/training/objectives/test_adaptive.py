"""Margins that follow the example: what is made of a batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.head import reference
from facejax.training.objectives import definition, registry

EMBEDDINGS = np.diag([5.0, 20.0, 60.0, 200.0]).astype(np.float32)
COSINE = np.array([0.1, 0.7, 0.4, -0.2], np.float32)


def prepare(loss, stats=None):
  wanted = loss.definition(10)
  stats = wanted.stats if stats is None else stats
  batch = definition.Batch(jnp.asarray(EMBEDDINGS), COSINE, jax.random.key(3))
  return wanted.prepare({}, stats, batch)


def test_adaface_takes_long_embeddings_for_good_images():
  prepared = prepare(registry.AdaFace(rate=1.0))
  quality = np.asarray(prepared.parameters.margin["quality"])
  assert (np.diff(quality) >= 0).all() and quality[0] < 0 < quality[-1]
  # Lengths are cut at 100.
  assert float(prepared.stats["mean"]) == pytest.approx((5 + 20 + 60 + 100) / 4)


def adaface_as_in_cvlface(x, w, labels):
  """Loss, and gradients for x and w, by hand: the margin is a constant."""
  lengths, norms = np.linalg.norm(x, axis=1), np.linalg.norm(w, axis=1)
  u, v = x / lengths[:, None], w / norms[:, None]
  cosine = u @ v.T
  kept = np.clip(lengths, 1e-3, 100)
  mean = 0.01 * kept.mean() + 0.99 * 20
  std = 0.01 * kept.std(ddof=1) + 0.99 * 100
  k = np.clip((kept - mean) / (std + 1e-3) * 0.333, -1, 1)
  rows = np.arange(len(labels))
  logits = cosine.copy()
  own = np.cos(np.arccos(cosine[rows, labels]) - 0.4 * k) - 0.4 - 0.4 * k
  logits[rows, labels] = own
  powers = np.exp(64 * (logits - logits.max(axis=1, keepdims=True)))
  p = powers / powers.sum(axis=1, keepdims=True)
  loss = -np.log(p[rows, labels])
  p[rows, labels] -= 1
  slopes = 64 * p / len(labels)
  radial = (slopes * cosine).sum(axis=1), (slopes * cosine).sum(axis=0)
  return (
    loss,
    (slopes @ v - radial[0][:, None] * u) / lengths[:, None],
    (slopes.T @ u - radial[1][:, None] * v) / norms[:, None],
  )


def test_adaface_detached_is_that_of_cvlface():
  rng = np.random.default_rng(2)
  labels = rng.integers(10, size=16)
  w = rng.normal(size=(10, 6))
  x = w[labels] * rng.uniform(1, 40, (16, 1)) + rng.normal(size=(16, 6))
  wanted = registry.AdaFace(gradient="detached", guard="none").definition(10)
  with jax.enable_x64(True):

    def value(x, w):
      batch = definition.Batch(x, None, jax.random.key(0))
      prepared = wanted.prepare({}, wanted.stats, batch)
      found = reference.loss(
        w, x, jnp.asarray(labels), objective=wanted.objective,
        parameters=prepared.parameters,
      )  # fmt: skip
      return found.loss.mean(), found.loss

    (_, loss), slopes = jax.value_and_grad(value, (0, 1), has_aux=True)(
      jnp.asarray(x), jnp.asarray(w)
    )
  for found, by_hand in zip(
    (loss, *slopes), adaface_as_in_cvlface(x, w, labels), strict=True
  ):
    np.testing.assert_allclose(found, by_hand, rtol=1e-12, atol=1e-12)


def test_magface_has_a_line_of_margins_and_a_penalty():
  prepared = prepare(registry.MagFace())
  np.testing.assert_allclose(
    prepared.parameters.margin["margin"], [0.45, 0.485, 0.625, 0.8], rtol=1e-5
  )
  penalty = np.asarray(prepared.penalty) / 35.0
  np.testing.assert_allclose(penalty[-1], 2 / 110, rtol=1e-5)
  assert (np.diff(penalty) < 0).all()


def test_curricularface_moves_its_mean_cosine_before_use():
  prepared = prepare(registry.CurricularFace(decay=0.5), {"average": 1.0})
  assert float(prepared.stats["average"]) == pytest.approx(0.5 + 0.25 / 2)
  np.testing.assert_allclose(
    prepared.parameters.negative["average"], [0.625] * 4, rtol=1e-6
  )


def test_elasticface_orders_margins_by_rank_of_the_cosine():
  def drawn(order):
    loss = registry.ElasticFace(order=order)
    assert loss.definition(10).needs_target == (order != "none")
    return np.asarray(prepare(loss).parameters.margin["margin"])

  np.testing.assert_array_equal(np.sort(drawn("rank")), np.sort(drawn("none")))
  assert (np.diff(drawn("rank")[np.argsort(COSINE)]) <= 0).all()


def test_only_two_losses_learn_from_lengths():
  needing = {
    name
    for name, loss in vars(registry).items()
    if isinstance(loss, type) and loss.needs_lengths
  }
  assert needing == {"AdaFace", "MagFace"}


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"lower_norm": 110.0}, "lower_norm=110 must be below loss.upper_norm=110"),
    ({"upper_margin": 0.1}, "lower_margin=0.45 must be .*upper_margin=0.1"),
  ],
)
def test_magface_refuses_a_line_that_does_not_rise(fields, message):
  registry.MagFace().check()
  with pytest.raises(ValueError, match=message):
    registry.MagFace(**fields).check()


def test_magface_advises_against_a_small_weight():
  (found,) = registry.MagFace(weight=20.0).advice(num_classes=100, dim=512)
  assert "loss.weight=20 is below 22.6" in found
