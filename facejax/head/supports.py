r"""Which classes have any probability, where most have none, and their tau.

For objectives with a `divergence`: class j has a probability for example i if

.. math::
  z_{ji} > \tau_i - \frac{1}{\alpha - 1}

One pass over all classes keeps, of every few consecutive classes and each
example, the largest cosine. These maxima alone, as if there were no other
classes, give a tau that is not too large: so every class with a probability lies
in a group whose maximum is above that line for some example. The logits of these
groups are made again, and of those classes above the line, which are few, as
often as tau takes to be found. The lists have room for all classes, and loops
end where a list does: nothing is left out, ever, and whoever has few classes
with a probability waits for few.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from facejax.head import (
  blocks,
  chunked,
  collectives,
  group_maxima,
  logits,
  shard_plan,
  storage,
)
from facejax.head import objective as objective_lib
from facejax.losses import alpha, divergence
from facejax.runtime import typing

# Of a logit, for products of the same vectors in blocks of another shape; it
# costs a few needless rows.
_ROUNDING = 2e-5
# Groups that are looked at together, and rows: lists are short on a CPU, and
# what fills up their last blocks is work for nothing.
_GROUPS = 512
_ROWS = {"cpu": 256}
_MANY_ROWS = 4096
# For logits of listed rows.
_KEPT_BYTES = 2**23


class Supports(NamedTuple):
  """What the forward pass of a shard found.

  Attributes:
    sums: with `solved`.
    walk: over the rows with a probability for some example of the whole batch,
      and those of its targets.
  """

  sums: chunked.Sums
  walk: blocks.Walk


class _Problem(NamedTuple):
  """What all passes are given.

  Attributes:
    plan, prototypes, batch: as everywhere.
    target: [batch], z_y, 0 of an example without a class.
    known: bool [batch], whether it has one.
  """

  plan: shard_plan.Plan
  prototypes: typing.Array
  batch: logits.ShardBatch
  target: typing.Array
  known: typing.Array

  @property
  def form(self) -> divergence.Divergence:
    """Of the objective."""
    found = self.plan.objective.divergence
    assert found is not None
    return found

  @property
  def size(self) -> int:
    """Listed rows a block."""
    return min(self.plan.size, _ROWS.get(self.plan.platform, _MANY_ROWS))

  def no_moments(self) -> divergence.Moments:
    """Before the first class; as it differs between the shards."""
    return divergence.Moments(*[0 * self.batch.lengths] * 4)

  def line(self, tau: typing.Array) -> typing.Array:
    """The z_j [batch] up to which a class has no probability."""
    slack = _ROUNDING * jnp.maximum(self.batch.lengths, 1)
    return tau - self.form.width - slack

  def logits(self, block: blocks.Block) -> typing.Array:
    """z_j of a block's other classes [size, batch], -inf of what counts not."""
    w = storage.rows(block, self.prototypes)
    dots, _, _ = logits.dots(self.plan, w, self.batch.operand)
    counts, is_target = logits.masks(block, self.batch)
    near = self.plan.objective.counts(dots, self.batch.lengths[None, :])
    return jnp.where(counts & ~is_target & near, dots, -jnp.inf)

  def solve(self, sums: Any, between: Any) -> typing.Array:
    """tau, from tau -> the moments of this shard's other classes."""

    def evaluate(tau: typing.Array) -> divergence.Moments:
      mine = divergence.target_moments(self.target - tau, self.form, self.known)
      return jax.tree.map(jnp.add, collectives.over_shards(sums(tau)), mine)

    return divergence.solve(
      evaluate, between, self.form, anywhere=collectives.anywhere
    )


def find(
  plan: shard_plan.Plan,
  prototypes: typing.Array,
  batch: logits.ShardBatch,
  target: tuple[typing.Array, typing.Array],
  examples: collectives.Examples,
) -> Supports:
  """The forward pass over all classes; inside shard_map.

  Args:
    plan: see there.
    prototypes: this shard's.
    batch: as the shard sees it.
    target: of `collectives.begin`.
    examples: with the queries of all devices along "model".
  """
  dot, norm = target
  known = objective_lib.has_class(examples.labels, plan.head.num_classes)
  own = plan.objective.target(
    dot, examples.lengths, norm, examples.parameters.margin
  )
  own = jax.lax.stop_gradient(jnp.where(known, own, 0))
  problem = _Problem(plan, prototypes, batch, own, known)
  maxima = group_maxima.find(plan, batch, prototypes.shape[0], problem.logits)
  highest = jax.lax.pmax(maxima.highest, "model")
  between = divergence.bracket(highest, own, problem.form, known)
  low, groups = _groups(problem, maxima, between)
  walk = _rows(problem, maxima, groups, problem.line(low))
  kept = _keep(problem, walk)
  sums = functools.partial(_of_rows, problem, walk, kept)
  tau = problem.solve(sums, (low, between[1]))
  others = collectives.over_shards(sums(tau))
  solved = alpha.value(tau, own, others, problem.form, known)
  return Supports(
    chunked.Sums(tau, maxima.highest, maxima.highest, solved), walk
  )


def _groups(
  problem: _Problem,
  maxima: group_maxima.Maxima,
  between: tuple[typing.Array, typing.Array],
) -> tuple[typing.Array, typing.Array]:
  """A tau [batch] that is not too large, and the groups that may pass its line.

  Of the groups that pass the line of the bracket's lower end, as if each had one
  class, with the least logit that it can have.
  """
  above = maxima.above(problem.line(between[0]))
  walk = _walk(above, _GROUPS)

  def sums(tau: typing.Array) -> divergence.Moments:
    def body(
      block: blocks.Block, total: divergence.Moments
    ) -> divergence.Moments:
      low, _ = maxima.bounds(block)
      gaps = jnp.where(block.fresh[:, None], low - tau[None, :], -jnp.inf)
      found = divergence.moments(gaps, problem.form, axis=0)
      return jax.tree.map(jnp.add, total, found)

    return walk.loop(body, problem.no_moments())

  low = problem.solve(sums, between)
  low = low - _ROUNDING * jnp.maximum(jnp.abs(low), 1)
  # Exactly where the target alone would have it, which it may be.
  low = jnp.maximum(
    low, problem.target - jnp.where(problem.known, problem.form.full_gap, 0)
  )
  line = problem.line(low)

  def body(block: blocks.Block, above: typing.Array) -> typing.Array:
    found = (maxima.bounds(block)[1] > line[None, :]).any(axis=1)
    return blocks.put(above, found, block.place)

  above = walk.loop(body, jnp.zeros_like(above))
  return low, collectives.any_over_data(above)


def _rows(
  problem: _Problem,
  maxima: group_maxima.Maxima,
  groups: typing.Array,
  line: typing.Array,
) -> blocks.Walk:
  """The rows above the line for some example, and the targets.

  Args:
    problem: see there.
    maxima: see there.
    groups: bool [groups], where to look.
    line: [batch].
  """
  rows, size = problem.prototypes.shape[0], problem.size
  (listed,) = jnp.nonzero(groups, size=groups.shape[0], fill_value=-1)
  within = maxima.rows(listed.astype(jnp.int32))
  count = groups.sum(dtype=jnp.int32) * maxima.width
  walk = blocks.walk_listed(rows, size, within, count)

  def body(block: blocks.Block, above: typing.Array) -> typing.Array:
    found = (problem.logits(block) > line[None, :]).any(axis=1)
    return blocks.put(above, found, block.place)

  # Differing between the shards, as far as types go.
  above = jnp.zeros((rows,), bool) | (problem.batch.lengths[0] < 0)
  above = walk.loop(body, above)
  # The target always, be its own probability 0.
  labels = problem.batch.labels
  labels = jnp.where(labels >= 0, labels, rows)
  above = above.at[labels].set(True, mode="drop")
  return _walk(collectives.any_over_data(above), size)


def _walk(listed: typing.Array, size: int) -> blocks.Walk:
  """Over the rows where bool [rows] is true, and no further."""
  rows = listed.shape[0]
  (numbers,) = jnp.nonzero(listed, size=rows, fill_value=-1)
  count = collectives.longest(listed.sum(dtype=jnp.int32))
  return blocks.walk_listed(rows, size, numbers.astype(jnp.int32), count)


def _keep(problem: _Problem, walk: blocks.Walk) -> typing.Array:
  """The logits [n, batch] of the first blocks, which tau is sought with.

  As many as there is room for; the others are made again each time.
  """
  batch = problem.batch.lengths.shape[0]
  count = max(1, min(walk.count, _KEPT_BYTES // (4 * walk.size * batch)))

  def body(
    block: blocks.Block, carry: tuple[typing.Array, typing.Array]
  ) -> tuple[typing.Array, typing.Array]:
    kept, place = carry
    z = problem.logits(block)
    kept = jax.lax.dynamic_update_slice_in_dim(kept, z, place, 0)
    return kept, place + walk.size

  varying = 0 * problem.batch.lengths
  kept = jnp.zeros((count * walk.size, 1)) + varying[None, :]
  last = jnp.minimum(_turns(walk), count)
  return walk.loop(body, (kept, jnp.int32(0)), last=last)[0]


def _turns(walk: blocks.Walk) -> typing.Array:
  """How many blocks a walk of `_walk` has."""
  assert walk.turns is not None
  return walk.turns


def _of_rows(
  problem: _Problem,
  walk: blocks.Walk,
  kept: typing.Array,
  tau: typing.Array,
) -> divergence.Moments:
  """Of the rows of a walk, this shard's other classes among them."""
  saved = kept.shape[0] // walk.size

  def add(z: typing.Array, total: divergence.Moments) -> divergence.Moments:
    found = divergence.moments(z - tau[None, :], problem.form, axis=0)
    return jax.tree.map(jnp.add, total, found)

  def again(
    index: typing.Array, total: divergence.Moments
  ) -> divergence.Moments:
    place = index * walk.size
    z = jax.lax.dynamic_slice_in_dim(kept, place, walk.size)
    return add(z, total)

  total = jax.lax.fori_loop(
    0, jnp.minimum(_turns(walk), saved), again, problem.no_moments()
  )
  return walk.loop(
    lambda block, total: add(problem.logits(block), total),
    total,
    first=saved,
  )
