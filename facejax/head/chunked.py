"""What one shard's classes say about a batch, found block by block.

Nothing of size [batch, classes] exists: a block of logits is made, reduced to a
few numbers an example, and made again for the gradient (see `backward`).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from facejax.head import blocks, logits, narrow, shard_plan, storage
from facejax.losses import alpha
from facejax.runtime import typing

Carry = TypeVar("Carry")

# Below any logit, and finite, so that differences of it are numbers.
LOWEST = -1e30


class Sums(NamedTuple):
  """What a shard's other classes say about each example, [batch] float32.

  Attributes:
    others: log of the sum of e^z_j, -inf where there are none; or the sum of
      softplus(z_j), for a one-vs-all objective; or tau of a divergence, over
      all shards.
    highest: the largest z_j, LOWEST where there is none; no gradient.
    nearest: the largest s n_j c_j, likewise.
    solved: of a divergence, over all shards; else None.
  """

  others: typing.Array
  highest: typing.Array
  nearest: typing.Array
  solved: alpha.Solved | None = None


def target(
  plan: shard_plan.Plan,
  prototypes: typing.Array,
  queries: typing.Array,
  labels: typing.Array,
) -> tuple[typing.Array, typing.Array]:
  """s n_y c_y and n_y, [batch] each; 0 where another shard owns the class.

  Args:
    plan: see there.
    prototypes: [rows, (k,) dim], this shard's, as they are kept.
    queries: [batch, dim], s u, of the type that they were gathered in.
    labels: int32 [batch], rows of this shard, or outside [0, rows).
  """
  rows = prototypes.shape[0]
  # The batch's own rows of W, gathered: B rows out of all. A label of another
  # shard reads some row, whose result is struck out below.
  w = storage.some(prototypes, jnp.clip(labels, 0, rows - 1))
  w = w.reshape(w.shape[0], -1, w.shape[-1])
  # s n_y c_y = w_y . s u, [batch, k]; divided by ||w_y||, n_y is 1.
  dots = (w * queries[:, None]).sum(axis=2)
  norms = jnp.ones_like(dots)
  if plan.objective.unit_prototypes:
    dots = dots * logits.inverse_norms(w)
  else:
    # ||w_y|| = w_y . w_y / ||w_y||: its square could leave float32.
    norms = (w * (w * logits.inverse_norms(w)[..., None])).sum(axis=2)
  # The nearest sub-centre stands for its class.
  best = dots.argmax(axis=1, keepdims=True)
  mine = (labels >= 0) & (labels < rows)
  dot, norm = (
    jnp.where(mine, jnp.take_along_axis(values, best, axis=1)[:, 0], 0)
    for values in (dots, norms)
  )
  return dot, norm


def reduce(
  plan: shard_plan.Plan,
  walk: blocks.Walk,
  *,
  prototypes: typing.Array,
  batch: logits.ShardBatch,
  observe: Callable[[blocks.Block, typing.Array, Carry], Carry] | None = None,
  carry: Any = None,
) -> tuple[Sums, Any]:
  r"""Reduces the logits of a walk to a few numbers an example.

  .. math::
    others_i = \log \sum_{j \ne y_i} e^{z_{ji}}
    \quad\text{or}\quad
    others_i = \sum_{j \ne y_i} \log(1 + e^{z_{ji}})

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
  if plan.narrow:
    return _reduce_narrow(plan, walk, prototypes, batch, observe, carry)
  changed = plan.objective.negative is not None

  def body(
    block: blocks.Block, state: tuple[Sums, Any], *, observe: Any
  ) -> tuple[Sums, Any]:
    (total, highest, nearest, _), carry = state
    # (s n c)_ji of the block's classes.
    w = storage.rows(block, prototypes)
    dots, _, _ = logits.dots(plan, w, batch.operand)
    # The target has a path of its own (`target`), where it gets its margin.
    counts, is_target = logits.masks(block, batch)
    counts = counts & ~is_target
    # c_ji <= tau, where classes that are too near are left out.
    counts = counts & plan.objective.counts(dots, batch.lengths[None, :])
    if changed:
      # z_ji = s t(c_ji, c_y) is another order than that of the cosines.
      found = jnp.where(counts, dots, LOWEST).max(axis=0)
      nearest = jnp.maximum(nearest, found)
      dots = logits.others(plan, batch)(dots, batch.lengths, batch.parameters)
    # e^-inf = 0 = softplus(-inf): what does not count adds nothing.
    z = jnp.where(counts, dots, -jnp.inf)
    total, highest = _add(plan, total, highest, z)
    if observe is not None:
      carry = observe(block, z, carry)
    return Sums(total, highest, nearest), carry

  state = _nothing(batch), carry
  if plan.saved:
    # Two loops, so that the blocks without room do not carry the branch.
    saving = functools.partial(body, observe=observe)
    state = walk.loop(saving, state, last=plan.saved)
    observe = None
  state = walk.loop(
    functools.partial(body, observe=observe), state, first=plan.saved
  )
  (total, highest, nearest, _), carry = state
  if plan.objective.one_vs_all is None:
    # log sum e^z = m + log sum e^(z - m); without a running maximum m is 0.
    total = jnp.log(total) + (highest if plan.running else 0.0)
  return Sums(total, highest, nearest if changed else highest), carry


def _nothing(batch: logits.ShardBatch) -> Sums:
  """Before the first block."""
  nothing = jnp.zeros_like(batch.lengths)
  return Sums(nothing, nothing + LOWEST, nothing + LOWEST)


def _reduce_narrow(
  plan: shard_plan.Plan,
  walk: blocks.Walk,
  prototypes: typing.Array,
  batch: logits.ShardBatch,
  observe: Callable[[blocks.Block, typing.Array, Any], Any] | None,
  carry: Any,
) -> tuple[Sums, Any]:
  """`reduce` of blocks that are bfloat16."""

  def prepare(block: blocks.Block, _: Any) -> narrow.Ready:
    return narrow.prepare(plan, block, storage.rows(block, prototypes), batch)

  def body(
    block: blocks.Block, state: tuple[Sums, Any], ready: narrow.Ready
  ) -> tuple[Sums, Any]:
    (total, highest, _, _), carry = state
    # e^z_ji itself, of which all else is made.
    e = narrow.exponentials(plan, block, ready, batch)
    total, highest = narrow.add(total, highest, e)
    if observe is not None:
      carry = observe(block, jnp.log(e), carry)
    return Sums(total, highest, highest), carry

  state = _nothing(batch), carry
  (total, highest, _, _), carry = walk.loop_ahead(prepare, body, state)
  return Sums(jnp.log(total), highest, highest), carry


def _add(
  plan: shard_plan.Plan,
  total: typing.Array,
  highest: typing.Array,
  z: typing.Array,
) -> tuple[typing.Array, typing.Array]:
  """Takes a block's logits z [size, batch] into sum and maximum, [batch]."""
  new_highest = jnp.maximum(highest, z.max(axis=0))
  if plan.objective.one_vs_all is not None:
    # total += sum_j log(1 + e^z_j)
    return total + jax.nn.softplus(z).sum(axis=0), new_highest
  if not plan.running:
    # total += sum_j e^z_j: |z_j| <= s is known, and the sum fits float32.
    return total + jnp.exp(z).sum(axis=0), new_highest
  # With m the maximum so far, total = sum_j e^(z_j - m): what was summed by an
  # older m is first brought to the new one.
  total = total * jnp.exp(highest - new_highest)
  return total + jnp.exp(z - new_highest[None, :]).sum(axis=0), new_highest
