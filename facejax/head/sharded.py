"""The blockwise head with its prototypes split by class over "model"."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from facejax.head import (
  backward,
  blocks,
  chunked,
  collectives,
  narrow,
  shard_plan,
  storage,
  supports,
)
from facejax.head import objective as objective_lib
from facejax.head import options as options_lib
from facejax.runtime import typing

P = jax.P
_NONE = objective_lib.Parameters()


def loss(
  head: options_lib.Options,
  prototypes: typing.Array,
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  parameters: objective_lib.Parameters = _NONE,
) -> objective_lib.HeadOutput:
  """Same values and gradients as `reference.loss`, in blocks, on a mesh.

  Args:
    head: its options.
    prototypes: [rows, (k,) dim] float32, sharded P("model").
    embeddings: [batch, dim], sharded P(("data", "model")).
    labels: int [batch].
    parameters: of the objective.

  Returns:
    Values for each example, in the order of the batch.
  """
  plan = shard_plan.make_plan(head, prototypes.shape, embeddings.shape[0])
  # Its backward pass may come much later, or never: nothing is kept for it.
  plan = plan._replace(saved=0)
  enter, leave = collectives.specs(head.mesh)
  # s u and s.
  queries, lengths = head.objective.queries(embeddings)
  return jax.shard_map(
    functools.partial(_loss, plan),
    mesh=head.mesh,
    in_specs=(P("model"), enter),
    out_specs=leave,
  )(
    prototypes,
    collectives.Examples(queries, lengths, labels, parameters),
  )


def target_cosine(
  head: options_lib.Options,
  prototypes: typing.Array,
  embeddings: typing.Array,
  labels: typing.Array,
) -> typing.Array:
  """cos theta_y alone, [batch]; see `Head.target_cosine`.

  Arguments as for `loss`; prototypes may be bits, as they are kept.
  """
  shape = storage.shape(prototypes)
  plan = shard_plan.make_plan(head, shape, embeddings.shape[0])

  def on_shard(
    prototypes: typing.Array, examples: collectives.Examples
  ) -> typing.Array:
    examples = examples._replace(
      queries=collectives.gather(plan, examples.queries)
    )
    return collectives.begin(plan, prototypes, examples)[0].target_cosine

  enter, leave = collectives.specs(head.mesh)
  queries, lengths = head.objective.queries(embeddings)
  examples = collectives.Examples(queries, lengths, labels, _NONE)
  cosine = jax.shard_map(
    on_shard, mesh=head.mesh, in_specs=(P("model"), enter), out_specs=leave
  )(prototypes, examples)
  return jax.lax.stop_gradient(cosine)


_Residuals = tuple[typing.Array, collectives.Examples, collectives.Forward]


def _reduce(
  plan: shard_plan.Plan,
  prototypes: typing.Array,
  examples: collectives.Examples,
) -> objective_lib.HeadOutput:
  """The values of each example; inside shard_map, with its own queries."""
  return _forward(plan, prototypes, examples)[0]


def _forward(
  plan: shard_plan.Plan,
  prototypes: typing.Array,
  examples: collectives.Examples,
) -> tuple[objective_lib.HeadOutput, _Residuals]:
  """`_reduce`, and what `_backward` needs: a few numbers an example.

  Beside the arguments themselves, which are alive anyhow.
  """
  # Every shard compares its classes with all embeddings.
  examples = examples._replace(
    queries=collectives.gather(plan, examples.queries)
  )
  # s n_y c_y of the target, from its owner.
  batch, target = collectives.begin(plan, prototypes, examples)
  # others_i = log sum_{j != y_i} e^z_ji over this shard, block by block.
  if plan.objective.divergence is not None:
    sums = supports.find(plan, prototypes, batch, target, examples).sums
  else:
    walk = blocks.Walk(prototypes.shape[0], plan.size)
    sums, _ = chunked.reduce(plan, walk, prototypes=prototypes, batch=batch)
  # L_i = log(1 + e^(others_i - z_y)), over all shards.
  output = collectives.combine(plan, sums, target, examples)
  return output, (
    prototypes,
    examples,
    collectives.Forward(batch, target, sums),
  )


def _backward(
  plan: shard_plan.Plan,
  residuals: _Residuals,
  d_output: objective_lib.HeadOutput,
) -> tuple[typing.Array, collectives.Examples]:
  """The gradient of prototypes and examples, each block made once more."""
  prototypes, examples, forward = residuals
  # g, h, k: from the losses to others, s n_y c_y and n_y.
  found, d_examples = collectives.cotangents(
    plan, forward, examples, d_output.loss
  )
  walk = blocks.Walk(prototypes.shape[0], plan.size)

  def prepare(block: blocks.Block, _: Any) -> narrow.Ready:
    return narrow.prepare(plan, block, block.take(prototypes), forward.batch)

  def body(
    block: blocks.Block,
    carry: tuple[typing.Array, backward.Totals],
    ready: narrow.Ready | None = None,
  ) -> tuple[typing.Array, backward.Totals]:
    d_prototypes, totals = carry
    # dw_j of this block, and its part of d(s u).
    gradient = backward.block_gradient(
      plan,
      block,
      block.take(prototypes),
      batch=forward.batch,
      others=forward.sums.others,
      cotangents=found,
      ready=ready,
    )
    # Copies of the shard saw other examples. A last block that starts early
    # must not overwrite the rows that it shares with the one before it.
    d_block = block.keep_stale(
      collectives.sum_over_data(gradient.prototypes), block.take(d_prototypes)
    )
    d_prototypes = blocks.put(d_prototypes, d_block, block.place)
    return d_prototypes, totals.add(gradient)

  start = jnp.zeros_like(prototypes), backward.Totals.zero(forward.batch)
  if plan.narrow_gradient:
    d_prototypes, totals = walk.loop_ahead(prepare, body, start)
  else:
    d_prototypes, totals = walk.loop(body, start)
  return d_prototypes, collectives.add_blocks(d_examples, totals)


_loss = jax.custom_vjp(_reduce, nondiff_argnums=(0,))
_loss.defvjp(_forward, _backward)
