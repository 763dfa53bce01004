"""Leaving out tokens in training, and putting others in their place.

References:
  He et al., Masked Autoencoders Are Scalable Vision Learners, 2022.
"""

import jax
import jax.numpy as jnp

from facejax.runtime import typing


def mask(
  x: typing.Array, *, ratio: float, key: typing.PRNGKey
) -> tuple[typing.Array, typing.Array]:
  """Leaves out tokens at random, others for each image.

  Args:
    x: tokens [batch, tokens, dim].
    ratio: share to leave out; int(tokens * (1 - ratio)) stay, at least one.
    key: of the choice.

  Returns:
    Those that stay [batch, kept, dim], in random order, and for `unmask` the
    place of each token in that order [batch, tokens], beyond kept if left out.
  """
  batch, tokens, _ = x.shape
  kept = max(1, int(tokens * (1 - ratio)))
  order = jnp.argsort(jax.random.uniform(key, (batch, tokens)), axis=1)
  x = jnp.take_along_axis(x, order[:, :kept, None], axis=1)
  return x, jnp.argsort(order, axis=1)


def unmask(
  x: typing.Array, places: typing.Array, token: typing.Array
) -> typing.Array:
  """Puts tokens back in their order, and `token` where some were left out.

  >>> kept, token = jnp.array([[[5.0], [3.0]]]), jnp.zeros((1, 1, 1))
  >>> unmask(kept, jnp.array([[1, 2, 0]]), token)[0, :, 0].tolist()
  [3.0, 0.0, 5.0]
  """
  batch, kept, dim = x.shape
  shape = (batch, places.shape[1] - kept, dim)
  filled = jnp.concatenate([x, jnp.broadcast_to(token, shape)], axis=1)
  return jnp.take_along_axis(filled, places[:, :, None], axis=1)
