"""Nets that are not of the package: the smallest, for tests of all else."""

import jax.numpy as jnp
from flax import nnx


class Linear(nnx.Module):
  """Pixels, then a linear layer, then BatchNorm: compiled at once."""

  def __init__(self, *, embedding_dim, image_size, dropout, dtype, rngs):
    height, width = image_size
    self.linear = nnx.Linear(
      height * width * 3, embedding_dim, param_dtype=jnp.float32, rngs=rngs
    )
    self.norm = nnx.BatchNorm(embedding_dim, rngs=rngs)

  def __call__(self, images):
    return self.norm(self.linear(images.reshape(images.shape[0], -1)))


def wrong_size(*, embedding_dim, **options):
  """One number more than was asked for."""
  return Linear(embedding_dim=embedding_dim + 1, **options)


def no_module(**options):
  """What people return by mistake."""
  return 3


NOT_TO_BE_CALLED = "a text"
