"""What is learnt from another net's embeddings, against sums by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from facejax.losses import distillation


def unit(x):
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def draw(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape)


def test_cosine_by_hand():
  with jax.enable_x64(True):
    x, t = draw(0, 5, 7), draw(1, 5, 7)
    wanted = [1 - np.dot(a, b) for a, b in zip(unit(x), unit(t), strict=True)]
    np.testing.assert_allclose(distillation.cosine(x, t), wanted, rtol=1e-12)
    np.testing.assert_allclose(
      distillation.cosine(3 * x, x), np.zeros(5), atol=1e-15
    )


def test_relations_by_hand():
  with jax.enable_x64(True):
    x, t = draw(0, 5, 7), draw(1, 5, 3)
    wanted = [
      np.mean([(unit(x)[i] @ unit(x)[j] - unit(t)[i] @ unit(t)[j]) ** 2
               for j in range(5)])
      for i in range(5)
    ]  # fmt: skip
    np.testing.assert_allclose(distillation.relations(x, t), wanted, rtol=1e-12)
    # Turned as a whole, the embeddings lie to each other as before.
    turn, _ = np.linalg.qr(draw(2, 7, 7))
    np.testing.assert_allclose(
      distillation.relations(x @ turn, x), np.zeros(5), atol=1e-15
    )


@pytest.mark.parametrize("name", ["cosine", "relations"])
def test_gradients(name):
  with jax.enable_x64(True):
    x, t = jnp.asarray(draw(0, 5, 7)), jnp.asarray(draw(1, 5, 7))
    function = functools.partial(getattr(distillation, name), teacher=t)
    check_grads(function, (x,), order=1, modes=["rev"])


def test_shapes_are_told():
  with pytest.raises(ValueError, match="take the relations alone"):
    distillation.cosine(np.ones((2, 3)), np.ones((2, 4)))
  with pytest.raises(ValueError, match="not of as many images"):
    distillation.relations(np.ones((2, 3)), np.ones((3, 3)))
