"""The small Inception net at work: gradients, statistics, unit length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facejax.models import functional, layers

# Of the generator that compiles in half the time.
KEY = jax.random.key(0, impl="rbg")


@pytest.fixture(scope="module")
def slim():
  """The small net with its weights, its step and its embedding compiled."""
  net = functional.build(
    "inception_slim", embedding_dim=16, image_size=(32, 40)
  )
  params, stats = jax.jit(net.init)(KEY)
  towards = jax.random.normal(jax.random.key(1), (4, 16))

  def loss(params, stats, images):
    embeddings, stats = net.apply(params, stats, images, train=True)
    return jnp.vdot(embeddings, towards), (embeddings, stats)

  step = jax.jit(jax.value_and_grad(loss, has_aux=True))
  embed = jax.jit(lambda p, s, x: net.apply(p, s, x, train=False))
  return params, stats, step, embed


def random_images(batch=4, size=(32, 40), seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (batch, *size, 3), dtype=np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random", "black", "one black"])
def test_gradients_are_finite_and_reach_every_layer(slim, kind):
  params, stats, step, _ = slim
  images = random_images()
  images[{"random": 4, "black": 0, "one black": 3}[kind] :] = 0
  (_, (embeddings, _)), gradient = step(params, stats, images)
  assert np.isfinite(embeddings).all()
  for path, leaf in jax.tree.leaves_with_path(gradient):
    where = jax.tree_util.keystr(path)
    assert np.isfinite(leaf).all(), where
    if kind != "black" and "kernel" in where:
      assert np.abs(leaf).max() > 0, where


@pytest.mark.slow
def test_training_and_evaluation(slim):
  params, stats, step, embed = slim
  images = random_images()
  (_, (trained, new)), _ = step(params, stats, images)
  changed = jax.tree.map(lambda a, b: bool((a != b).any()), stats, new)
  assert all(jax.tree.leaves(changed))
  evaluated, same = embed(params, stats, images)
  jax.tree.map(np.testing.assert_array_equal, same, stats)
  for embeddings in (trained, evaluated):
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-6)
  # Evaluated, an image has nothing to do with the others of its batch.
  mixed = images.copy()
  mixed[1:] = random_images(seed=1)[1:]
  np.testing.assert_allclose(
    embed(params, stats, mixed)[0][0], evaluated[0], atol=1e-5
  )
  assert np.abs(evaluated[1] - evaluated[0]).max() > 1e-3


def test_maxout_takes_the_larger_of_neighbouring_outputs():
  maxout = layers.Maxout(3, 4, rngs=nnx.Rngs(0))
  x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
  both = np.asarray(x) @ np.asarray(maxout.linear.kernel[...])
  expected = np.maximum(both[:, 0::2], both[:, 1::2])
  np.testing.assert_allclose(maxout(x), expected, atol=1e-5)
