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
# Steps of Newton's method on the maxima: the list hardly gets shorter by more.
_FEW = 4


class Found(NamedTuple):
  """What the forward pass of a shard found.

  Attributes:
    sums: with `solved`.
    listed: int32 [rows], the rows with a probability for some example of the
      whole batch, and those of its targets; -1 behind them.
    count: int32, how many these are.
  """

  sums: chunked.Sums
  listed: typing.Array
  count: typing.Array


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

  def line(self, tau: typing.Array) -> typing.Array:
    """The z_j [batch] up to which a class has no probability."""
    slack = _ROUNDING * jnp.maximum(self.batch.lengths, 1)
    return tau - self.form.width - slack

  def logits(self, block: blocks.Block) -> typing.Array:
    """z_j of a block's other classes [size, batch], -inf of what counts not."""
    w = storage.load(block.take(self.prototypes))
    dots, _, _ = logits.dots(self.plan, w, self.batch.queries)
    counts, is_target = logits.masks(block, self.batch)
    near = self.plan.objective.counts(dots, self.batch.lengths[None, :])
    return jnp.where(counts & ~is_target & near, dots, -jnp.inf)

  def solve(self, sums: Any, between: Any, **options: Any) -> typing.Array:
    """tau, from tau -> the moments of this shard's other classes."""

    def evaluate(tau: typing.Array) -> divergence.Moments:
      mine = divergence.target_moments(self.target - tau, self.form, self.known)
      return jax.tree.map(jnp.add, collectives.over_shards(sums(tau)), mine)

    return divergence.solve(
      evaluate, between, self.form, anywhere=collectives.anywhere, **options
    )


def find(
  plan: shard_plan.Plan,
  prototypes: typing.Array,
  batch: logits.ShardBatch,
  target: tuple[typing.Array, typing.Array],
  examples: collectives.Examples,
) -> Found:
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
  # A tau that is not too large, of one class a group.
  low = problem.solve(
    functools.partial(_of_groups, problem, maxima), between, turns=_FEW
  )
  low = low - _ROUNDING * jnp.maximum(jnp.abs(low), 1)
  # Exactly this where the target is alone.
  nothing = jnp.full_like(highest, chunked.LOWEST)
  low = jnp.maximum(
    low, divergence.bracket(nothing, own, problem.form, known)[0]
  )
  listed, count = _probable(problem, maxima, low)
  walk = blocks.walk_listed(prototypes.shape[0], plan.size, listed, count)
  sums = functools.partial(_of_rows, problem, walk)
  tau = problem.solve(sums, (low, between[1]))
  others = collectives.over_shards(sums(tau))
  solved = alpha.value(tau, own, others, problem.form, known)
  found = chunked.Sums(tau, maxima.highest, maxima.highest, solved)
  return Found(found, listed, count)


def _of_groups(
  problem: _Problem, maxima: group_maxima.Maxima, tau: typing.Array
) -> divergence.Moments:
  """As if each group had one class, with the least logit that it can have."""
  lowest, _ = maxima.bounds()
  return divergence.moments(lowest - tau[None, :], problem.form, axis=0)


def _of_rows(
  problem: _Problem, walk: blocks.Walk, tau: typing.Array
) -> divergence.Moments:
  """Of the rows of a walk, this shard's other classes among them."""

  def body(
    block: blocks.Block, total: divergence.Moments
  ) -> divergence.Moments:
    gaps = problem.logits(block) - tau[None, :]
    found = divergence.moments(gaps, problem.form, axis=0)
    return jax.tree.map(jnp.add, total, found)

  nothing = 0 * problem.batch.lengths
  return walk.loop(body, divergence.Moments(*[nothing] * 4))


def _probable(
  problem: _Problem, maxima: group_maxima.Maxima, low: typing.Array
) -> tuple[typing.Array, typing.Array]:
  """`Found.listed` and `Found.count`, from a tau that is not too large."""
  rows = problem.prototypes.shape[0]
  line = problem.line(low)
  _, upper = maxima.bounds()
  above = collectives.any_over_data((upper > line[None, :]).any(axis=1))
  (groups,) = jnp.nonzero(above, size=above.shape[0], fill_value=-1)
  walk = blocks.walk_listed(
    rows,
    problem.plan.size,
    maxima.rows(groups.astype(jnp.int32)),
    above.sum(dtype=jnp.int32) * maxima.width,
  )

  def body(block: blocks.Block, is_listed: typing.Array) -> typing.Array:
    found = (problem.logits(block) > line[None, :]).any(axis=1)
    return blocks.put(is_listed, found, block.place)

  is_listed = jnp.zeros((rows,), bool) | (problem.batch.lengths[0] < 0)
  is_listed = walk.loop(body, is_listed)
  # The target always, be its own probability 0.
  labels = problem.batch.labels
  labels = jnp.where(labels >= 0, labels, rows)
  is_listed = is_listed.at[labels].set(True, mode="drop")
  is_listed = collectives.any_over_data(is_listed)
  (listed,) = jnp.nonzero(is_listed, size=rows, fill_value=-1)
  return listed.astype(jnp.int32), is_listed.sum(dtype=jnp.int32)
