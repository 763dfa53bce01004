"""What one shard's classes say about a batch, found block by block.

Nothing of size [batch, classes] exists, forward or backward: a block of logits
is made, reduced to a few numbers an example, and made again for the gradient.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from facejax.head import blocks, logits, storage
from facejax.runtime import typing

Carry = TypeVar("Carry")

# Below any logit, and finite, so that differences of it are numbers.
LOWEST = -1e30


class Sums(NamedTuple):
  """What a shard's other classes say about each example, [batch] float32.

  Attributes:
    others: log of the sum of e^z_j, -inf where there are none; or the sum of
      softplus(z_j), for a one-vs-all objective.
    highest: the largest z_j, LOWEST where there is none; no gradient.
    nearest: the largest s n_j c_j, likewise.
  """

  others: typing.Array
  highest: typing.Array
  nearest: typing.Array


class Cotangents(NamedTuple):
  """Gradients [batch] of the total loss with respect to what blocks say.

  Attributes:
    others: of `Sums.others`.
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


def target(
  plan: logits.Plan,
  prototypes: typing.Array,
  queries: typing.Array,
  labels: typing.Array,
) -> tuple[typing.Array, typing.Array]:
  """s n_y c_y and n_y, [batch] each; 0 where another shard owns the class."""
  rows = prototypes.shape[0]
  w = storage.load(prototypes[jnp.clip(labels, 0, rows - 1)])
  w = w.reshape(w.shape[0], -1, w.shape[-1])
  dots = (w * queries[:, None]).sum(axis=2)
  norms = jnp.ones_like(dots)
  if plan.objective.unit_prototypes:
    dots = dots * logits.inverse_norms(w)
  else:
    norms = jnp.sqrt((w * w).sum(axis=2))
  best = dots.argmax(axis=1, keepdims=True)
  mine = (labels >= 0) & (labels < rows)
  dot, norm = (
    jnp.where(mine, jnp.take_along_axis(values, best, axis=1)[:, 0], 0)
    for values in (dots, norms)
  )
  return dot, norm


def reduce(
  plan: logits.Plan,
  walk: blocks.Walk,
  *,
  prototypes: typing.Array,
  batch: logits.Batch,
  observe: Callable[[blocks.Block, typing.Array, Carry], Carry] | None = None,
  carry: Any = None,
) -> tuple[Sums, Any]:
  """Reduces the logits of a walk to a few numbers an example.

  Args:
    plan: see there.
    walk: the rows to visit.
    prototypes: [rows, (k,) dim], this shard's.
    batch: see there.
    observe: (block, logits, carry) -> carry, called on every block, or on the
      saved ones only if there are any; the logits [size, batch] are -inf where
      they do not count.
    carry: the start of it.

  Returns:
    The sums and the last carry.
  """
  changed = plan.objective.negative is not None

  def body(block, state, *, observe):
    (total, highest, nearest), carry = state
    w = storage.load(block.take(prototypes))
    dots, _, _ = logits.dots(plan, w, batch.queries)
    counts, is_target = logits.masks(block, batch)
    counts = counts & ~is_target
    if changed:
      found = jnp.where(counts, dots, LOWEST).max(axis=0)
      nearest = jnp.maximum(nearest, found)
      dots = logits.others(plan, batch)(dots, batch.lengths, batch.parameters)
    z = jnp.where(counts, dots, -jnp.inf)
    total, highest = _add(plan, total, highest, z)
    if observe is not None:
      carry = observe(block, z, carry)
    return (total, highest, nearest), carry

  nothing = jnp.zeros_like(batch.queries[:, 0])
  state = (nothing, nothing + LOWEST, nothing + LOWEST), carry
  if plan.saved:
    saving = functools.partial(body, observe=observe)
    state = walk.loop(saving, state, last=plan.saved)
    observe = None
  state = walk.loop(
    functools.partial(body, observe=observe), state, first=plan.saved
  )
  (total, highest, nearest), carry = state
  if plan.objective.one_vs_all is None:
    total = jnp.log(total) + (highest if plan.running else 0.0)
  return Sums(total, highest, nearest if changed else highest), carry


def _add(plan, total, highest, z):
  """Takes a block's logits into the sum and the maximum."""
  new_highest = jnp.maximum(highest, z.max(axis=0))
  if plan.objective.one_vs_all is not None:
    return total + jax.nn.softplus(z).sum(axis=0), new_highest
  if not plan.running:
    return total + jnp.exp(z).sum(axis=0), new_highest
  total = total * jnp.exp(highest - new_highest)
  return total + jnp.exp(z - new_highest[None, :]).sum(axis=0), new_highest


def block_gradient(
  plan: logits.Plan,
  block: blocks.Block,
  w: typing.Array,
  *,
  batch: logits.Batch,
  others: typing.Array,
  cotangents: Cotangents,
  exponentials: typing.Array | None = None,
) -> Gradient:
  r"""Pulls the cotangents back to one block of prototypes.

  With g, h, k the cotangents of others, dot and norm, and rows that do not
  count left out:

  .. math::
    G_{ji} = \begin{cases}
      h_i & j = y_i \\
      \partial z_{ji} / \partial (s n c)_{ji}\; e^{z_{ji} - others_i} g_i
        & \text{else}
    \end{cases} \qquad
    q_j = \sum_i \frac{G_{ji} s_i u_i}{\lVert w_j \rVert} \qquad
    \mathrm{d}w_j = q_j - (q_j \cdot \hat w_j) \hat w_j

  (a sigmoid instead of the exponential for one-vs-all; with prototypes that
  are not normalised, dw_j = sum_i G_ji s_i u_i + sum_{y_i = j} k_i w_j/||w_j||).

  Args:
    plan: see there.
    block: which rows.
    w: [size, (k,) dim] float32, the prototypes of these rows.
    batch: see there.
    others: [batch], `Sums.others` of this shard.
    cotangents: see there.
    exponentials: [size, batch], the e^z of the forward pass, if it saved them.
  """
  dots, best, inverse = logits.dots(plan, w, batch.queries, exponentials)
  counts, is_target = logits.masks(block, batch)
  share = _share(plan, dots, batch, others, exponentials)
  # A share that is not finite belongs to no class that counts.
  share = jnp.where(counts & ~is_target, share, 0)
  g = share * cotangents.others[None, :]
  d_lengths, d_parameters = None, {}
  if plan.objective.negative is not None:
    _, pull = jax.vjp(
      logits.others(plan, batch), dots, batch.lengths, batch.parameters
    )
    g, d_lengths, d_parameters = pull(g)
  is_target = counts & is_target
  g = jnp.where(is_target, cotangents.dot[None, :], g)
  g = logits.spread(g, best, w)
  flat = w.reshape(-1, w.shape[-1])
  if plan.objective.unit_prototypes:
    # One factor of 1 / ||w|| serves both products.
    g = g * inverse[:, None]
  d_flat = logits.matmul(plan, g, batch.queries)
  if plan.objective.unit_prototypes:
    radial = -(d_flat * flat).sum(axis=1) * inverse * inverse
  else:
    chosen = logits.spread(is_target, best, w)
    pulls = jnp.where(chosen, cotangents.norm[None, :], 0).sum(axis=1)
    radial = pulls * inverse
  return Gradient(
    prototypes=(d_flat + radial[:, None] * flat).reshape(w.shape),
    # In this order of factors: with batch < dim the other takes up to a quarter
    # longer on a CPU, and with batch > dim it saves little.
    queries=logits.matmul(plan, g.T, flat),
    lengths=d_lengths,
    parameters=d_parameters,
    share=share.sum(axis=0),
  )


def _share(plan, dots, batch, others, exponentials):
  """The derivative of others by each logit, [size, batch]."""
  if exponentials is not None:
    return exponentials * jnp.exp(-others)[None, :]
  z = logits.others(plan, batch)(dots, batch.lengths, batch.parameters)
  if plan.objective.one_vs_all is not None:
    return jax.nn.sigmoid(z)
  return jnp.exp(z - others[None, :])
