"""The gradient of one block of prototypes, from logits that are made again."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from facejax.head import blocks, logits, narrow, products, shard_plan
from facejax.losses import divergence
from facejax.runtime import typing


class Cotangents(NamedTuple):
  """Gradients [batch] of the total loss with respect to what blocks say.

  Attributes:
    others: of `chunked.Sums.others`.
    dot: of the target's s n_y c_y.
    norm: of n_y.
  """

  others: typing.Array
  dot: typing.Array
  norm: typing.Array


class Gradient(NamedTuple):
  """A block's share of the gradient.

  Attributes:
    prototypes: [size, (k,) dim].
    queries: [batch, dim].
    lengths: [batch], or None where blocks do not depend on them.
    parameters: of `Objective.negative`, [batch] each.
    share: [batch], the part of e^others that lies in the block.
  """

  prototypes: typing.Array
  queries: typing.Array
  lengths: typing.Array | None
  parameters: dict[str, typing.Array]
  share: typing.Array


class Totals(NamedTuple):
  """Sums over blocks, in a loop's carry; fields as of `Gradient`.

  What belongs to a class leaves the loop block by block; what belongs to an
  example adds up here.
  """

  queries: typing.Array
  lengths: typing.Array
  parameters: dict[str, typing.Array]
  share: typing.Array

  @classmethod
  def zero(cls, batch: logits.ShardBatch) -> "Totals":
    """Before the first block."""
    nothing = jnp.zeros_like(batch.lengths)
    parameters = dict.fromkeys(batch.parameters, nothing)
    # Sums, not narrower than float32 where the queries are.
    queries = jnp.zeros_like(batch.queries, nothing.dtype)
    return cls(queries, nothing, parameters, nothing)

  def add(self, block: Gradient) -> "Totals":
    """After one more block."""
    new = self._replace(
      queries=self.queries + block.queries, share=self.share + block.share
    )
    # Only logits that `Objective.negative` made depend on lengths themselves.
    if block.lengths is None:
      return new
    return new._replace(
      lengths=self.lengths + block.lengths,
      parameters=jax.tree.map(jnp.add, self.parameters, block.parameters),
    )


def block_gradient(
  plan: shard_plan.Plan,
  block: blocks.Block,
  w: typing.Array,
  *,
  batch: logits.ShardBatch,
  others: typing.Array,
  cotangents: Cotangents,
  exponentials: typing.Array | None = None,
  ready: narrow.Ready | None = None,
) -> Gradient:
  r"""Pulls the cotangents back to one block of prototypes.

  With g, h, k the cotangents of others, dot and norm, and what does not count
  left out:

  .. math::
    G_{ji} = \begin{cases}
      h_i & j = y_i \\
      \partial z_{ji} / \partial (s n c)_{ji}\; e^{z_{ji} - others_i} g_i
        & \text{else}
    \end{cases} \qquad
    q_j = \sum_i \frac{G_{ji} s_i u_i}{\lVert w_j \rVert} \qquad
    \mathrm{d}w_j = q_j - (q_j \cdot \hat w_j) \hat w_j

  (a sigmoid instead of the exponential for one-vs-all, p_ji of a divergence;
  with prototypes that are not normalised, dw_j = sum_i G_ji s_i u_i +
  sum_{y_i = j} k_i w_j / ||w_j||).

  Args:
    plan: see there.
    block: which rows.
    w: [size, (k,) dim] float32, the prototypes of these rows.
    batch: see there.
    others: [batch], `chunked.Sums.others` of this shard.
    cotangents: see there.
    exponentials: [size, batch], the e^z of the forward pass, if it saved them.
    ready: for a block that is bfloat16; its `share` is not made then, but 0.
  """
  if ready is not None:
    d_w, d_queries = narrow.gradient(
      plan,
      block,
      w,
      ready,
      batch=batch,
      others=others,
      d_others=cotangents.others,
      d_dot=cotangents.dot,
    )
    return Gradient(d_w, d_queries, None, {}, jnp.zeros_like(others))
  # (s n c)_ji once more, or what the forward pass saved of it.
  dots, best, inverse = logits.dots(plan, w, batch.operand, exponentials)
  counts, is_target = logits.masks(block, batch)
  # d others_i / d z_ji = e^(z_ji - others_i), from the saved log-sum-exp.
  share = _share(plan, dots, batch, others, exponentials)
  # A share that is not finite belongs to no class that counts.
  is_other = counts & ~is_target
  is_other = is_other & plan.objective.counts(dots, batch.lengths[None, :])
  share = jnp.where(is_other, share, 0)
  # G_ji = e^(z_ji - others_i) g_i for j != y_i, with respect to z, and to s n c.
  g, d_lengths, d_parameters = _through_negative(
    plan, share * cotangents.others[None, :], dots, batch
  )
  # The target's entry is what its own path asks for: G_ji = h_i at j = y_i.
  is_target = counts & is_target
  g = jnp.where(is_target, cotangents.dot[None, :], g)
  flat = w.reshape(-1, w.shape[-1])
  each = logits.spread(g, best, w)
  if plan.objective.unit_prototypes:
    # One factor of 1 / ||w|| serves both products.
    each = each * inverse[:, None]
  # q_j = sum_i G_ji s_i u_i / ||w_j||
  d_flat = products.gradients(plan.head, each, batch.queries)
  # dw_j = q_j - (q_j . w_j / ||w_j||) w_j / ||w_j||: a change of length alone
  # does nothing to a normalised w_j. (1 / ||w_j||^2 could leave float32.)
  if not plan.objective.unit_prototypes:
    # The norm n_y enters the margin: dw_j += k_i w_j / ||w_j|| for y_i = j.
    own = logits.spread(is_target, best, w)
    radial = jnp.where(own, cotangents.norm[None, :], 0).sum(axis=1)
  elif plan.platform != "cpu" and exponentials is None:
    # q_j . w_j / ||w_j|| = sum_i G_ji (s n c)_ji / ||w_j||, from the logits that
    # are there. The product of rows below makes XLA lay out all prototypes anew
    # on a TPU, at every step; on a CPU it needs one array less.
    radial = -logits.spread(g * dots, best, w).sum(axis=1) * inverse
  else:
    radial = -(d_flat * flat).sum(axis=1) * inverse
  units = flat * inverse[:, None]
  return Gradient(
    prototypes=(d_flat + radial[:, None] * units).reshape(w.shape),
    # d(s_i u_i) = sum_j G_ji w_j / ||w_j||, over this block.
    # In this order of factors: with batch < dim the other takes up to a quarter
    # longer on a CPU, and with batch > dim it saves little.
    queries=products.gradients(plan.head, each.T, flat),
    lengths=d_lengths,
    parameters=d_parameters,
    share=share.sum(axis=0),
  )


def _through_negative(
  plan: shard_plan.Plan,
  d_z: typing.Array,
  dots: typing.Array,
  batch: logits.ShardBatch,
) -> tuple[typing.Array, typing.Array | None, dict[str, typing.Array]]:
  """From d z_ji [size, batch] to d (s n c)_ji, d s_i and d parameters_i."""
  if plan.objective.negative is None:
    # z_ji is (s n c)_ji itself.
    return d_z, None, {}
  # z_ji = s_i t(c_ji, c_y), c_ji = (s n c)_ji / s_i
  _, pull = jax.vjp(
    logits.others(plan, batch), dots, batch.lengths, batch.parameters
  )
  return pull(d_z)


def _share(
  plan: shard_plan.Plan,
  dots: typing.Array,
  batch: logits.ShardBatch,
  others: typing.Array,
  exponentials: typing.Array | None,
) -> typing.Array:
  """The derivative of others by each logit, [size, batch].

  Arguments as of `block_gradient`; `dots` is not read where e^z was saved.
  """
  if exponentials is not None:
    # e^(z - others), of the e^z that the forward pass saved.
    return exponentials * jnp.exp(-others)[None, :]
  z = logits.others(plan, batch)(dots, batch.lengths, batch.parameters)
  if plan.objective.divergence is not None:
    # p_ji, of z - tau.
    return divergence.probabilities(
      z - others[None, :], plan.objective.divergence
    )
  if plan.objective.one_vs_all is not None:
    # d log(1 + e^z) / dz = 1 / (1 + e^-z)
    return jax.nn.sigmoid(z)
  return jnp.exp(z - others[None, :])
