"""Which classes a step counts, and which it updates."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from facejax.head import (
  blocks,
  chunked,
  collectives,
  kernels,
  logits,
  sampling,
  shard_plan,
  sparse,
  supports,
)
from facejax.head import objective as objective_lib
from facejax.runtime import typing


class Selected(NamedTuple):
  """The forward pass of a shard, and what the backward pass is to visit.

  Attributes:
    sums: over the classes that count.
    walk: over the rows to update.
    is_exact: whether these are all that count.
    saved: e^z [rows of the first `saved_blocks` blocks, batch], or None.
    saved_blocks: how many blocks.
  """

  sums: chunked.Sums
  walk: blocks.Walk
  is_exact: bool = True
  saved: typing.Array | None = None
  saved_blocks: int = 0


def select(
  plan: shard_plan.Plan,
  prototypes: typing.Array,
  batch: logits.ShardBatch,
  target: tuple[typing.Array, typing.Array],
  examples: collectives.Examples,
  all_labels: typing.Array,
  key: typing.PRNGKey,
) -> Selected:
  """The forward pass over the classes that count; inside shard_map.

  Args:
    plan: see there; `Options.implementation` decides.
    prototypes: this shard's.
    batch: as the shard sees it.
    target: of `collectives.begin`.
    examples: with the queries of all devices along "model".
    all_labels: int [batch], of the whole batch.
    key: of the step.
  """
  if plan.objective.divergence is not None:
    return _supported(plan, prototypes, batch, target, examples)
  if plan.head.implementation == "partial_fc":
    return _sampled(plan, prototypes, batch, all_labels, key)
  if plan.head.implementation == "sparse":
    return _probable(plan, prototypes, batch, target, examples, all_labels)
  return _all(plan, prototypes, batch)


def _all(
  plan: shard_plan.Plan, prototypes: typing.Array, batch: logits.ShardBatch
) -> Selected:
  """Every class counts and is updated."""
  if plan.head.implementation == "pallas":
    sums = kernels.reduce(plan, prototypes, batch)
    return Selected(sums, blocks.Walk(prototypes.shape[0], plan.size))
  reduce = functools.partial(
    chunked.reduce, plan, prototypes=prototypes, batch=batch
  )
  every = blocks.Walk(prototypes.shape[0], plan.size)
  if not plan.saved:
    return Selected(reduce(every)[0], every)

  # Saving e^z_ji turns 8BCD operations into 6BCD for the blocks that have room.
  def keep(
    block: blocks.Block, z: typing.Array, saved: typing.Array
  ) -> typing.Array:
    return blocks.put(saved, jnp.exp(z), block.place)

  room = _empty((plan.saved * plan.size, batch.queries.shape[0]), batch)
  sums, saved = reduce(every, observe=keep, carry=room)
  return Selected(sums, every, saved=saved, saved_blocks=plan.saved)


def _sampled(
  plan: shard_plan.Plan,
  prototypes: typing.Array,
  batch: logits.ShardBatch,
  all_labels: typing.Array,
  key: typing.PRNGKey,
) -> Selected:
  """Partial FC: only the classes of the batch and drawn ones count."""
  rows = prototypes.shape[0]
  # Apart from the key of rounding, which is number 1.
  drawn = sampling.draw(
    jax.random.fold_in(key, 0),
    all_labels,
    rate=plan.head.rate,
    first=jax.lax.axis_index("model") * rows,
    rows=rows,
    num_classes=plan.head.num_classes,
  )
  # The loss is that of a problem without the other classes, and exact for it.
  walk = blocks.walk_listed(rows, plan.size, drawn)
  sums, _ = chunked.reduce(plan, walk, prototypes=prototypes, batch=batch)
  return Selected(sums, walk)


def _probable(
  plan: shard_plan.Plan,
  prototypes: typing.Array,
  batch: logits.ShardBatch,
  target: tuple[typing.Array, typing.Array],
  examples: collectives.Examples,
  all_labels: typing.Array,
) -> Selected:
  """Certified sparse: all classes count, the most probable are updated."""
  rows = prototypes.shape[0]
  every = blocks.Walk(rows, plan.size)
  # Near log sum_j e^z_ji, from a sample: scores are needed in the very pass
  # that finds the true one.
  log_total = sparse.normalizer(plan, prototypes, batch, target, examples)
  # others_i over all classes, and max_i log p_ij for each class j on the way.
  sums, scores = chunked.reduce(
    plan,
    every,
    prototypes=prototypes,
    batch=batch,
    observe=sparse.note_scores(log_total),
    carry=_empty((rows,), batch),
  )
  scores = sparse.correct(plan, scores, log_total, sums, target, examples)
  listed = sparse.choose(plan, scores, all_labels)
  walk = blocks.walk_listed(rows, plan.size, listed)
  return Selected(sums, walk, is_exact=False)


def _supported(
  plan: shard_plan.Plan,
  prototypes: typing.Array,
  batch: logits.ShardBatch,
  target: tuple[typing.Array, typing.Array],
  examples: collectives.Examples,
) -> Selected:
  """All classes count; "sparse" visits those that have a gradient alone."""
  found = supports.find(plan, prototypes, batch, target, examples)
  if plan.head.implementation == "sparse":
    return Selected(found.sums, found.walk)
  return Selected(found.sums, blocks.Walk(prototypes.shape[0], plan.size))


def dropped(
  plan: shard_plan.Plan,
  selected: Selected,
  share: typing.Array,
  output: objective_lib.HeadOutput,
) -> typing.Array:
  """`HeadOutput.dropped`, from the share [batch] of what was updated.

  Args:
    plan: see there.
    selected: of `select`.
    share: [batch], the part of this shard's e^others that got a gradient.
    output: with the loss over all classes that count.
  """
  # All that count were updated, or only those that were drawn did count.
  if selected.is_exact:
    return output.dropped
  return sparse.dropped(plan, selected.sums, share, output.loss)


def _empty(shape: tuple[int, ...], batch: logits.ShardBatch) -> typing.Array:
  """Zeros that differ between the shards, as far as types go.

  What a loop carries must have one type; what it writes here varies.
  """
  return jnp.zeros(shape) + 0 * batch.lengths[0]
