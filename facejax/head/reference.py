"""The dense head: the specification that every fast path is tested against."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from facejax import typing
from facejax.losses import geometry

# Cosines decide the loss: a float32 matmul must not fall back to bfloat16 or
# TF32 passes, which accelerators use by default.
PRECISION = jax.lax.Precision.HIGHEST


class HeadOutput(NamedTuple):
  """What a head returns, for each example of the batch.

  Attributes:
    loss: [batch] float32, natural units.
    target_cosine: [batch], cos theta_y, without margin; carries no gradient.
    correct: [batch] bool, whether no other class has a larger cosine.
  """

  loss: typing.Array
  target_cosine: typing.Array
  correct: typing.Array


def margin_softmax(
  prototypes: typing.Array,
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  margin: Callable[[typing.Array], typing.Array],
  scale: float,
) -> HeadOutput:
  r"""Margin softmax over all classes, with the logits written out.

  With :math:`c_j = \cos\theta_j` between embedding and prototype j:

  .. math::
    L = -\log \frac{e^{s\varphi(c_y)}}
      {e^{s\varphi(c_y)} + \sum_{j \ne y} e^{s c_j}}

  Args:
    prototypes: [num_classes, dim], of any length, two or more classes.
    embeddings: [batch, dim], of any length.
    labels: int [batch], in [0, num_classes).
    margin: phi, maps [batch] cosines to [batch].
    scale: s > 0.

  References:
    Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition,
      2018, Eq. 4.
  """
  cosine = jnp.matmul(
    geometry.l2_normalize(embeddings),
    geometry.l2_normalize(prototypes).T,
    precision=PRECISION,
  )
  is_target = labels[:, None] == jnp.arange(cosine.shape[1])[None, :]
  target_cosine = jnp.where(is_target, cosine, 0).sum(axis=1)
  others = jnp.where(is_target, -jnp.inf, cosine)
  # -log(p) as a difference of logits: log-sum-exp over all classes minus the
  # target's would cancel to 0 once p is nearly 1.
  loss = jax.nn.softplus(
    jax.nn.logsumexp(scale * others, axis=1) - scale * margin(target_cosine)
  )
  return HeadOutput(
    loss=loss,
    target_cosine=jax.lax.stop_gradient(target_cosine),
    correct=target_cosine >= others.max(axis=1),
  )
