"""Multi-similarity loss: pairs weighted by how they lie among the others."""

import jax
import jax.numpy as jnp

from facejax.losses import anchors
from facejax.runtime import ranges, typing


def multi_similarity(
  embeddings: typing.ArrayLike,
  labels: typing.ArrayLike,
  *,
  positive_scale: float = 2.0,
  negative_scale: float = 50.0,
  base: float = 1.0,
  epsilon: float | None = 0.1,
  past: anchors.Past | None = None,
) -> anchors.AnchorLoss:
  r"""Multi-similarity loss, one term an anchor.

  .. math::
    \frac1\alpha \log\Bigl(1 + \sum_{p \in P_i}
      e^{-\alpha (c_{ip} - \lambda)}\Bigr) +
    \frac1\beta \log\Bigl(1 + \sum_{n \in N_i}
      e^{\beta (c_{in} - \lambda)}\Bigr)

  over the mined pairs: positives with :math:`c_{ip} < \max_n c_{in} +
  \epsilon` and negatives with :math:`c_{in} > \min_p c_{ip} - \epsilon`. Which
  pairs these are carries no gradient.

  Args:
    embeddings: [batch, dim].
    labels: int [batch].
    positive_scale: alpha > 0.
    negative_scale: beta > 0.
    base: lambda, the cosine from which pairs count much; the authors' code has
      0.5.
    epsilon: of the mining, not below 0; None takes all pairs.
    past: partners beside those of the batch, see `anchors.Past`.

  Returns:
    One term an anchor, [batch], that is 0 where no pair was mined, or none
    where it has no partner: `anchors.mean` divides by the batch, as the paper.

  Raises:
    ValueError: if a number is outside its range.

  References:
    Wang et al., Multi-Similarity Loss with General Pair Weighting for Deep
      Metric Learning, 2019, Eq. 10, 11 and 15.

  >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
  >>> values = multi_similarity(x, jnp.array([0, 0, 1]), negative_scale=2.0)
  >>> [round(v, 4) for v in values.loss.tolist()], values.terms.tolist()
  ([1.249, 1.32, 0.0], [1, 1, 1])
  """
  ranges.check_numbers(
    ranges.POSITIVE,
    positive_scale=positive_scale,
    negative_scale=negative_scale,
  )
  ranges.check_numbers(ranges.Range(-1, 1), base=base)
  ranges.check_numbers(ranges.NOT_NEGATIVE, epsilon=epsilon)
  cosine = anchors.cosines(embeddings, past)
  positive, negative = anchors.pairs(labels, past)
  any_partner = (positive | negative).any(axis=1)
  if epsilon is not None:
    positive, negative = _mined(cosine, positive, negative, epsilon)
  pull = anchors.log_sum_exp(-positive_scale * (cosine - base), positive)
  push = anchors.log_sum_exp(negative_scale * (cosine - base), negative)
  # log(1 + sum of e^z) = softplus(log-sum-exp): 0 where there is nothing.
  value = jax.nn.softplus(pull) / positive_scale
  value += jax.nn.softplus(push) / negative_scale
  return anchors.one_term(value, any_partner)


def _mined(
  cosine: typing.Array,
  positive: typing.Array,
  negative: typing.Array,
  epsilon: float,
) -> tuple[typing.Array, typing.Array]:
  """The pairs that are hard for their anchor; none where one kind lacks."""
  farthest = jnp.where(positive, cosine, jnp.inf).min(axis=1, keepdims=True)
  nearest = jnp.where(negative, cosine, -jnp.inf).max(axis=1, keepdims=True)
  return (
    positive & (cosine < nearest + epsilon),
    negative & (cosine > farthest - epsilon),
  )
