"""Losses between a batch and proxies, vectors that stand for classes.

Proxies are the head's prototypes. Here is what a softmax over them is not:
proxy anchor sums over the batch for each class, SoftTriple weighs the centres
of a class. Both look at all cosines at once, [batch, classes]. Columns beyond
`classes`, where that is given, are padding and take no part.
"""

import jax
import jax.numpy as jnp

from facejax.losses import anchors, angles
from facejax.runtime import ranges, typing


def proxy_anchor(
  cosine: typing.ArrayLike,
  labels: typing.ArrayLike,
  *,
  scale: float = 32.0,
  margin: float = 0.1,
  classes: int | None = None,
) -> typing.Array:
  r"""Proxy anchor: each class against all examples of the batch.

  .. math::
    \frac{1}{|P^+|} \sum_{j \in P^+} \log\Bigl(1 + \sum_{i: y_i = j}
      e^{-\alpha (c_{ij} - \delta)}\Bigr) +
    \frac{1}{|P|} \sum_{j \in P} \log\Bigl(1 + \sum_{i: y_i \ne j}
      e^{\alpha (c_{ij} + \delta)}\Bigr)

  with P all classes and P+ those that the batch has examples of.

  Args:
    cosine: c, of embeddings and proxies, [batch, classes].
    labels: int [batch]; outside [0, classes) the example is another one's to
      all classes.
    scale: alpha > 0.
    margin: delta, not below 0.
    classes: how many there are; None for all columns.

  Returns:
    The loss of the batch, [].

  Raises:
    ValueError: if a number is outside its range.

  References:
    Kim et al., Proxy Anchor Loss for Deep Metric Learning, 2020, Eq. 4.

  >>> cosine = jnp.array([[0.6, 0.8], [1.0, 0.0]])
  >>> round(float(proxy_anchor(cosine, jnp.array([0, 1]), scale=1.0)), 4)
  1.9235
  """
  ranges.check_numbers(ranges.POSITIVE, scale=scale)
  ranges.check_numbers(ranges.NOT_NEGATIVE, margin=margin)
  cosine = angles.as_float(cosine)
  own, other, count = columns(labels, cosine.shape[1], classes)
  pull = anchors.log_sum_exp(-scale * (cosine - margin), own, axis=0)
  push = anchors.log_sum_exp(scale * (cosine + margin), other, axis=0)
  present = jnp.maximum(own.any(axis=0).sum(), 1)
  # log(1 + sum of e^z) = softplus(log-sum-exp): 0 where there is nothing.
  near = jax.nn.softplus(pull).sum() / present
  return near + jax.nn.softplus(push).sum() / count


def soft_similarity(
  cosine: typing.ArrayLike, *, gamma: float = 0.1
) -> typing.Array:
  r"""SoftTriple's similarity to a class: a mean over its centres.

  .. math::
    S_{ij} = \sum_k \frac{e^{c_{ijk} / \gamma}}{\sum_m e^{c_{ijm} / \gamma}}
      \, c_{ijk}

  Args:
    cosine: c, of embeddings and centres, [..., k].
    gamma: > 0; near 0 the nearest centre counts alone, as in sub-center
      ArcFace.

  Returns:
    S, [...].

  Raises:
    ValueError: if gamma is not above 0.

  References:
    Qian et al., SoftTriple Loss: Deep Metric Learning Without Triplet
      Sampling, 2019, Eq. 7.

  >>> round(float(soft_similarity(jnp.array([0.1, 0.5]), gamma=0.2)), 4)
  0.4523
  """
  ranges.check_numbers(ranges.POSITIVE, gamma=gamma)
  cosine = angles.as_float(cosine)
  return (jax.nn.softmax(cosine / gamma, axis=-1) * cosine).sum(axis=-1)


def soft_triple(
  similarity: typing.ArrayLike,
  labels: typing.ArrayLike,
  *,
  scale: float = 20.0,
  margin: float = 0.01,
  classes: int | None = None,
) -> typing.Array:
  r"""SoftTriple without its regularizer: a softmax with a margin.

  .. math::
    -\log \frac{e^{\lambda (S_{iy} - \delta)}}
      {e^{\lambda (S_{iy} - \delta)} + \sum_{j \ne y} e^{\lambda S_{ij}}}

  Args:
    similarity: S, of `soft_similarity`, [batch, classes].
    labels: int [batch]; outside [0, classes) the example's own logit is 0.
    scale: lambda > 0.
    margin: delta, not below 0.
    classes: how many there are; None for all columns.

  Returns:
    [batch].

  Raises:
    ValueError: if a number is outside its range.

  References:
    Qian et al., SoftTriple Loss: Deep Metric Learning Without Triplet
      Sampling, 2019, Eq. 8.

  >>> similarity = jnp.array([[0.5, 0.5]])
  >>> value = soft_triple(similarity, jnp.array([0]), margin=0.0)
  >>> round(float(value[0]), 4)
  0.6931
  """
  ranges.check_numbers(ranges.POSITIVE, scale=scale)
  ranges.check_numbers(ranges.NOT_NEGATIVE, margin=margin)
  similarity = angles.as_float(similarity)
  own, other, _ = columns(labels, similarity.shape[1], classes)
  target = jnp.where(own, similarity - margin, 0).sum(axis=1)
  others = anchors.log_sum_exp(scale * similarity, other)
  return jax.nn.softplus(others - scale * target)


def centers_apart(
  centers: typing.ArrayLike, *, classes: int | None = None
) -> typing.Array:
  r"""SoftTriple's regularizer: the mean distance of a class's centres.

  .. math::
    \frac{1}{C K (K - 1)} \sum_j \sum_t \sum_{s > t}
      \sqrt{2 - 2 w_{js} \cdot w_{jt}}

  As a loss it draws centres together, so that no class keeps more of them than
  it needs. Where two coincide the slope, which is infinite, is taken for 0.

  Args:
    centers: w, [classes, k, dim], of any length.
    classes: how many there are; None for all rows.

  Returns:
    []; 0 with one centre a class.

  References:
    Qian et al., SoftTriple Loss: Deep Metric Learning Without Triplet
      Sampling, 2019, Eq. 10 and 11.

  >>> round(float(centers_apart(jnp.array([[[1.0, 0.0], [0.0, 2.0]]]))), 4)
  0.7071
  """
  centers = angles.as_float(centers)
  rows, count, _ = centers.shape
  classes = rows if classes is None else classes
  if count == 1:
    return jnp.zeros((), centers.dtype)
  cosine = jax.vmap(anchors.cosines)(centers)
  apart = anchors.distance(cosine, kind="euclidean")
  once = jnp.triu(jnp.ones((count, count), bool), 1)
  once = once[None] & (jnp.arange(rows) < classes)[:, None, None]
  return jnp.where(once, apart, 0).sum() / (classes * count * (count - 1))


def columns(
  labels: typing.ArrayLike, width: int, classes: int | None
) -> tuple[typing.Array, typing.Array, int]:
  """Own and other classes of each example, and how many classes there are.

  Args:
    labels: int [batch]; outside [0, classes) the example has no own class.
    width: of the table.
    classes: how many of its columns are classes; None for all.

  Returns:
    Two bool [batch, width], of which padding is neither; the number.
  """
  count = width if classes is None else classes
  numbers = jnp.arange(width)[None, :]
  own = (jnp.asarray(labels)[:, None] == numbers) & (numbers < count)
  return own, ~own & (numbers < count), count
