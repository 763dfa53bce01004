"""Losses of the pairs within a batch: contrastive, supervised contrastive,
NT-Xent, circle.

Embeddings are scaled to unit length in here and computed in float32 at least.
"""

import jax
import jax.numpy as jnp

from facejax.losses import anchors
from facejax.runtime import ranges, typing


def contrastive(
  embeddings: typing.ArrayLike,
  labels: typing.ArrayLike,
  *,
  margin: float = 1.0,
  past: anchors.Past | None = None,
) -> anchors.AnchorLoss:
  r"""Contrastive loss: pull positives together, push negatives to the margin.

  .. math::
    \tfrac12 d^2 \text{ (same)}, \qquad
    \tfrac12 [m - d]_+^2 \text{ (different)}, \qquad
    d = \lVert u_i - u_j \rVert

  Args:
    embeddings: [batch, dim].
    labels: int [batch].
    margin: m, a distance of unit vectors, in [0, 2].
    past: partners beside those of the batch, see `anchors.Past`.

  Returns:
    Sums over the partners of each anchor, [batch]. A pair of the batch counts
    at both of its ends, so `anchors.mean` is the mean over pairs.

  Raises:
    ValueError: if margin is outside [0, 2].

  References:
    Hadsell et al., Dimensionality Reduction by Learning an Invariant Mapping,
      2006, Eq. 4.

  >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
  >>> values = contrastive(x, jnp.array([0, 0, 1]))
  >>> [round(v, 4) for v in values.loss.tolist()]
  [1.0056, 1.0675, 0.0731]
  """
  ranges.check_numbers(ranges.Range(0, 2), margin=margin)
  cosine = anchors.cosines(embeddings, past)
  positive, negative = anchors.pairs(labels, past)
  gap = jax.nn.relu(margin - anchors.distance(cosine, kind="euclidean"))
  # d^2 is not taken from d, whose slope ends where rounding begins.
  pull = anchors.distance(cosine, kind="squared")
  terms = jnp.where(positive, pull, jnp.where(negative, gap * gap, 0)) / 2
  return anchors.AnchorLoss(
    terms.sum(axis=1),
    (positive | negative).sum(axis=1),
    (terms > 0).sum(axis=1),
  )


def supcon(
  embeddings: typing.ArrayLike,
  labels: typing.ArrayLike,
  *,
  temperature: float = 0.1,
  base_temperature: float | None = None,
  past: anchors.Past | None = None,
) -> anchors.AnchorLoss:
  r"""Supervised contrastive loss: softmax over the other examples.

  .. math::
    -\frac{T}{T_0} \frac{1}{|P_i|} \sum_{p \in P_i}
    \log \frac{e^{c_{ip} / T}}{\sum_{a \ne i} e^{c_{ia} / T}}

  Args:
    embeddings: [batch, dim].
    labels: int [batch].
    temperature: T > 0.
    base_temperature: T_0 > 0; None for T, so that the factor is 1.
    past: partners beside those of the batch, see `anchors.Past`.

  Returns:
    One term an anchor, [batch], or none where it has no positive.

  Raises:
    ValueError: if a temperature is not above 0.

  References:
    Khosla et al., Supervised Contrastive Learning, 2020, Eq. 2.

  >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
  >>> values = supcon(x, jnp.array([0, 0, 1]), temperature=1.0)
  >>> [round(v, 4) for v in values.loss.tolist()], values.terms.tolist()
  ([1.0375, 1.1711, 0.0], [1, 1, 0])
  """
  ranges.check_numbers(
    ranges.POSITIVE, temperature=temperature, base_temperature=base_temperature
  )
  logits = anchors.cosines(embeddings, past) / temperature
  positive, negative = anchors.pairs(labels, past)
  count = positive.sum(axis=1)
  numerator = jnp.where(positive, logits, 0).sum(axis=1) / jnp.maximum(count, 1)
  value = anchors.log_sum_exp(logits, positive | negative) - numerator
  if base_temperature is not None:
    value = value * (temperature / base_temperature)
  return anchors.one_term(value, count > 0)


def nt_xent(
  embeddings: typing.ArrayLike,
  labels: typing.ArrayLike,
  *,
  temperature: float = 0.5,
  past: anchors.Past | None = None,
) -> anchors.AnchorLoss:
  r"""NT-Xent, the contrastive loss of SimCLR: one softmax a positive pair.

  .. math::
    \ell_{ip} = -\log \frac{e^{c_{ip} / T}}
      {e^{c_{ip} / T} + \sum_{n \in N_i} e^{c_{in} / T}}

  The paper has one positive an anchor. Where there are several, each has a
  term of its own, and the others do not stand in its denominator; in that of
  `supcon` they do.

  Args:
    embeddings: [batch, dim].
    labels: int [batch].
    temperature: T > 0.
    past: partners beside those of the batch, see `anchors.Past`.

  Returns:
    Sums over the positives of each anchor, [batch].

  Raises:
    ValueError: if the temperature is not above 0.

  References:
    Chen et al., A Simple Framework for Contrastive Learning of Visual
      Representations, 2020, Eq. 1.

  >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
  >>> values = nt_xent(x, jnp.array([0, 0, 1]), temperature=1.0)
  >>> [round(v, 4) for v in values.loss.tolist()], values.terms.tolist()
  ([1.0375, 1.1711, 0.0], [1, 1, 0])
  """
  ranges.check_numbers(ranges.POSITIVE, temperature=temperature)
  logits = anchors.cosines(embeddings, past) / temperature
  positive, negative = anchors.pairs(labels, past)
  others = anchors.log_sum_exp(logits, negative)[:, None]
  # -log p as softplus: as a difference of logits it would cancel to 0.
  terms = jax.nn.softplus(jnp.where(positive, others - logits, 0))
  terms = jnp.where(positive, terms, 0)
  return anchors.AnchorLoss(
    terms.sum(axis=1), positive.sum(axis=1), (terms > 0).sum(axis=1)
  )


def circle(
  embeddings: typing.ArrayLike,
  labels: typing.ArrayLike,
  *,
  scale: float = 80.0,
  margin: float = 0.4,
  past: anchors.Past | None = None,
) -> anchors.AnchorLoss:
  r"""Circle loss on pairs, one term an anchor.

  .. math::
    \log\Bigl(1 + \sum_{n} e^{\gamma \alpha_n (c_n - m)}
    \sum_{p} e^{-\gamma \alpha_p (c_p - 1 + m)}\Bigr), \qquad
    \alpha_p = [1 + m - c_p]_+, \quad \alpha_n = [c_n + m]_+

  with the weights alpha held constant in the gradient.

  Args:
    embeddings: [batch, dim].
    labels: int [batch].
    scale: gamma > 0.
    margin: m >= 0; cosines of positives are to exceed 1 - m, of negatives to
      stay below m.
    past: partners beside those of the batch, see `anchors.Past`.

  Returns:
    One term an anchor, [batch], or none where it lacks a positive or a
    negative.

  Raises:
    ValueError: if a number is outside its range.

  References:
    Sun et al., Circle Loss: A Unified Perspective of Pair Similarity
      Optimization, 2020, Eq. 4, 5 and 8.

  >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
  >>> values = circle(x, jnp.array([0, 0, 1]), scale=1.0)
  >>> [round(v, 4) for v in values.loss.tolist()], values.terms.tolist()
  ([1.3427, 1.5568, 0.0], [1, 1, 0])
  """
  cosine = anchors.cosines(embeddings, past)
  near, far = _circle_logits(cosine, scale=scale, margin=margin)
  positive, negative = anchors.pairs(labels, past)
  value = anchors.log_sum_exp(near, positive) + anchors.log_sum_exp(
    far, negative
  )
  has_both = positive.any(axis=1) & negative.any(axis=1)
  # softplus, since at gamma = 80 the exponential is past float32.
  return anchors.one_term(
    jax.nn.softplus(jnp.where(has_both, value, 0)), has_both
  )


def circle_of_batch(
  embeddings: typing.ArrayLike,
  labels: typing.ArrayLike,
  *,
  scale: float = 80.0,
  margin: float = 0.4,
) -> typing.Array:
  """Circle loss on pairs, one term for the whole batch.

  As `circle`, with the sums over all pairs i < j; the form of the paper, where
  the hardest pairs of the batch take nearly all of the gradient.

  Args:
    embeddings: [batch, dim].
    labels: int [batch].
    scale: gamma > 0.
    margin: m >= 0.

  Returns:
    The loss, []; 0 without a positive or without a negative pair.

  Raises:
    ValueError: if a number is outside its range.

  References:
    Sun et al., Circle Loss: A Unified Perspective of Pair Similarity
      Optimization, 2020, Eq. 4, 5 and 8.

  >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
  >>> round(float(circle_of_batch(x, jnp.array([0, 0, 1]), scale=1.0)), 4)
  2.0245
  """
  cosine = anchors.cosines(embeddings)
  near, far = _circle_logits(cosine, scale=scale, margin=margin)
  once = jnp.triu(jnp.ones(cosine.shape, bool), 1).ravel()
  positive, negative = (mask.ravel() & once for mask in anchors.pairs(labels))
  value = anchors.log_sum_exp(near.ravel(), positive)
  value += anchors.log_sum_exp(far.ravel(), negative)
  has_both = positive.any() & negative.any()
  return jnp.where(has_both, jax.nn.softplus(jnp.where(has_both, value, 0)), 0)


def _circle_logits(cosine, *, scale, margin):
  """Exponents of a pair if it is a positive, and if it is a negative."""
  ranges.check_numbers(ranges.POSITIVE, scale=scale)
  ranges.check_numbers(ranges.NOT_NEGATIVE, margin=margin)
  detached = jax.lax.stop_gradient(cosine)
  near = jax.nn.relu(1 + margin - detached) * (1 - margin - cosine)
  far = jax.nn.relu(detached + margin) * (cosine - margin)
  return scale * near, scale * far
