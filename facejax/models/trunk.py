"""What all trunks share: the way through them, dropped paths, recomputation."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from facejax.models import batch_norm
from facejax.runtime import typing


class Net(nnx.Module):
  """Images [batch, height, width, 3] to embeddings [batch, dim].

  A net defines `features`, the way to the output of the last linear layer, and
  sets `embedding_bn`, the BatchNorm over the embeddings, None if it has none.
  """

  embedding_bn: batch_norm.BatchNorm | None

  def features(
    self, images: typing.Array, *, dropout_key: typing.PRNGKey | None
  ) -> typing.Array:
    """Embeddings before their BatchNorm; without a key nothing is dropped."""
    raise NotImplementedError

  def __call__(
    self,
    images: typing.Array,
    *,
    dropout_key: typing.PRNGKey | None = None,
    before_bn: bool = False,
  ) -> typing.Array:
    """Embeddings, after their BatchNorm unless `before_bn`."""
    x = self.features(images, dropout_key=dropout_key)
    if before_bn or self.embedding_bn is None:
      return x
    return self.embedding_bn(x)


def run(
  blocks: Sequence[Any],
  x: typing.Array,
  *,
  key: typing.PRNGKey | None = None,
  remat: bool,
) -> typing.Array:
  """Passes maps or tokens through blocks, one after the other.

  Args:
    blocks: (x, key) -> x, nnx modules.
    x: maps or tokens [batch, ...].
    key: of what blocks drop in training; None drops nothing.
    remat: keep only what lies between blocks for the backward pass, which
      computes the rest again: less memory for about a third more time. XLA
      for CPUs merges the two computations and keeps it all nevertheless.
  """
  step = nnx.remat(_step) if remat else _step
  for i, block in enumerate(blocks):
    x = step(block, x, None if key is None else jax.random.fold_in(key, i))
  return x


def _step(block, x, key):
  return block(x, key)


def drop_rates(rate: float, depth: int) -> list[float]:
  """Rates of `drop_path` by block: from 0 at the first to `rate` at the last.

  >>> drop_rates(0.1, 3)
  [0.0, 0.05, 0.1]
  """
  return [rate * i / max(depth - 1, 1) for i in range(depth)]


def drop_path(
  x: typing.Array, *, rate: float, key: typing.PRNGKey | None
) -> typing.Array:
  """Zeroes a residual branch for some images of the batch, at random.

  The others are divided by 1 - rate, so that the mean stays. Without a key x
  passes unchanged, as where the net is evaluated.

  Args:
    x: what the branch adds [batch, ...].
    rate: share of the images, in [0, 1).
    key: of the choice.

  References:
    Huang et al., Deep Networks with Stochastic Depth, 2016.

  >>> x = jnp.ones((4, 1))
  >>> drop_path(x, rate=0.5, key=jax.random.key(1))[:, 0].tolist()
  [2.0, 0.0, 2.0, 2.0]
  """
  if key is None or not rate:
    return x
  shape = (x.shape[0],) + (1,) * (x.ndim - 1)
  kept = jax.random.bernoulli(key, 1 - rate, shape)
  return jnp.where(kept, x / (1 - rate), 0)
