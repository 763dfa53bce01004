"""Losses of the pairs within a batch at their edges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.losses import anchors, multi_similarity, pairwise

LOSSES = {
  "contrastive": pairwise.contrastive,
  "supcon": pairwise.supcon,
  "supcon, sharp": functools.partial(pairwise.supcon, temperature=1e-3),
  "circle": pairwise.circle,
  "circle, sharp": functools.partial(pairwise.circle, scale=1e4),
  "circle of batch": pairwise.circle_of_batch,
  "nt_xent": pairwise.nt_xent,
  "nt_xent, sharp": functools.partial(pairwise.nt_xent, temperature=1e-3),
  "multi_similarity": multi_similarity.multi_similarity,
  "multi_similarity, sharp": functools.partial(
    multi_similarity.multi_similarity,
    positive_scale=1e4,
    negative_scale=1e4,
    epsilon=None,
  ),
}
BATCHES = {
  "one identity": [0] * 6,
  "all singletons": list(range(6)),
  "pairs and a singleton": [0, 0, 0, 1, 1, 2],
  "one example": [0],
}


def total(values):
  if isinstance(values, anchors.AnchorLoss):
    return anchors.mean(values)
  return values


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("batch", BATCHES)
def test_finite(name, batch):
  labels = jnp.array(BATCHES[batch])
  loss = jax.jit(jax.value_and_grad(lambda x: total(LOSSES[name](x, labels))))
  plain = np.random.default_rng(0).normal(size=(len(labels), 4))
  one = np.broadcast_to(plain[:1], plain.shape)
  signs = (-1.0) ** np.arange(len(labels))[:, None]
  half = np.arange(len(labels))[:, None] % 2
  for x in (plain, 0 * plain, half * plain, one, one * signs, 1e6 * plain):
    value, slope = loss(jnp.asarray(x, jnp.float32))
    assert np.isfinite(value) and np.isfinite(slope).all()


@pytest.mark.parametrize(
  "name",
  ["supcon", "circle", "circle of batch", "nt_xent", "multi_similarity"],
)
def test_without_positives_there_is_no_loss(name):
  x = jax.random.normal(jax.random.key(0), (6, 4))
  assert total(LOSSES[name](x, jnp.arange(6))) == 0


@pytest.mark.parametrize(
  "name", ["circle", "circle of batch", "nt_xent", "multi_similarity"]
)
def test_it_needs_negatives(name):
  x = jax.random.normal(jax.random.key(0), (6, 4))
  assert total(LOSSES[name](x, jnp.zeros(6, int))) == 0


def test_circle_weights_carry_no_gradient():
  """Of two examples apart from the third: the slope is that of the exponents,
  times the weights, not of their product."""
  gamma, m = 4.0, 0.25
  labels = jnp.array([0, 0, 1])
  cosine = jnp.array([0.3, -0.1])

  def of_cosines(c):  # with the weights as numbers
    near = -gamma * (1 + m - 0.3) * (c[0] - 1 + m)
    far = gamma * (-0.1 + m) * (c[1] - m)
    return jax.nn.softplus(near + far)

  def of_embeddings(c):  # anchor 0 has the cosines c with the other two
    height = jnp.sqrt(1 - c * c)
    x = jnp.stack(
      [
        jnp.array([1.0, 0.0, 0.0]),
        jnp.stack([c[0], height[0], 0.0]),
        jnp.stack([c[1], 0.0, height[1]]),
      ]
    )
    return pairwise.circle(x, labels, scale=gamma, margin=m).loss[0]

  np.testing.assert_allclose(
    jax.grad(of_embeddings)(cosine), jax.grad(of_cosines)(cosine), rtol=1e-5
  )


def test_supcon_base_temperature_scales():
  x = jax.random.normal(jax.random.key(0), (6, 4))
  labels = jnp.array(BATCHES["pairs and a singleton"])
  plain = pairwise.supcon(x, labels, temperature=0.1)
  scaled = pairwise.supcon(x, labels, temperature=0.1, base_temperature=0.05)
  np.testing.assert_allclose(scaled.loss, 2 * plain.loss, rtol=1e-6)
  assert plain.terms.tolist() == [1, 1, 1, 1, 1, 0]


def test_bfloat16_is_computed_in_float32():
  x = jax.random.normal(jax.random.key(0), (6, 4), jnp.bfloat16)
  labels = jnp.array(BATCHES["pairs and a singleton"])
  for loss in LOSSES.values():
    low, high = total(loss(x, labels)), total(loss(x.astype(float), labels))
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, high, rtol=1e-6)
