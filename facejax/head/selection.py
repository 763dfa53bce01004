"""Which classes a step counts, and which it updates."""

import functools
from typing import Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp

from facejax.head import (
  blocks,
  chunked,
  collectives,
  logits,
  sampling,
  sparse,
)
from facejax.head import objective as objective_lib
from facejax.runtime import typing

Classes: TypeAlias = Literal["all", "sampled", "probable"]


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


def check(plan: logits.Plan, classes: Classes, rate: float) -> None:
  """Raises ValueError if the selection is impossible."""
  if classes not in get_args(Classes):
    raise ValueError(f"classes={classes!r}: choose one of {get_args(Classes)}")
  sampling.stratum(rate)
  if classes == "probable" and plan.objective.one_vs_all is not None:
    raise ValueError(
      "classes='probable' needs a softmax: one-vs-all losses have no"
      " probabilities over the classes"
    )


def select(
  prototypes: typing.Array,
  batch: logits.Batch,
  target: tuple[typing.Array, typing.Array],
  examples: collectives.Examples,
  all_labels: typing.Array,
  key: typing.PRNGKey,
  *,
  plan: logits.Plan,
  classes: Classes,
  rate: float,
  mesh: jax.sharding.Mesh,
) -> Selected:
  """The forward pass over the classes that count; inside shard_map.

  Args:
    prototypes: this shard's.
    batch: as the shard sees it.
    target: of `collectives.begin`.
    examples: with the queries of all devices along "model".
    all_labels: int [batch], of the whole batch.
    key: of the step.
    plan: see there.
    classes: as of `fused_update.value_and_update`.
    rate: likewise.
    mesh: the mesh.
  """
  rows = prototypes.shape[0]
  reduce = functools.partial(
    chunked.reduce, plan, prototypes=prototypes, batch=batch
  )
  every = blocks.Walk(rows, plan.size)
  if classes == "sampled":
    drawn = sampling.draw(
      jax.random.fold_in(key, 0),
      all_labels,
      rate=rate,
      first=jax.lax.axis_index("model") * rows,
      rows=rows,
      num_classes=plan.num_classes,
    )
    walk = blocks.walk_listed(rows, plan.size, drawn)
    return Selected(reduce(walk)[0], walk)
  if classes == "probable":
    log_total = sparse.normalizer(plan, prototypes, batch, target, examples)
    sums, scores = reduce(
      every,
      observe=sparse.note_scores(log_total),
      carry=_empty((rows,), batch),
    )
    scores = sparse.correct(plan, scores, log_total, sums, target, examples)
    listed = sparse.choose(plan, scores, all_labels, rate=rate, mesh=mesh)
    walk = blocks.walk_listed(rows, plan.size, listed)
    return Selected(sums, walk, is_exact=False)
  if not plan.saved:
    return Selected(reduce(every)[0], every)

  def keep(block, z, saved):
    return blocks.put(saved, jnp.exp(z), block.place)

  room = _empty((plan.saved * plan.size, batch.queries.shape[0]), batch)
  sums, saved = reduce(every, observe=keep, carry=room)
  return Selected(sums, every, saved=saved, saved_blocks=plan.saved)


def dropped(
  plan: logits.Plan,
  selected: Selected,
  share: typing.Array,
  output: objective_lib.HeadOutput,
) -> typing.Array:
  """`HeadOutput.dropped`, from the share [batch] of what was updated."""
  if selected.is_exact:
    return output.dropped
  return sparse.dropped(plan, selected.sums, share, output.loss)


def _empty(shape, batch) -> typing.Array:
  """Zeros that differ between the shards, as far as types go."""
  return jnp.zeros(shape) + 0 * batch.queries[0, 0]
