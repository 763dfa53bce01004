"""The blockwise head with its prototypes split by class over "model"."""

import jax
import jax.numpy as jnp

from facejax.head import blocks, chunked, collectives, logits
from facejax.head import objective as objective_lib
from facejax.runtime import typing

P = jax.P
_NONE = objective_lib.Parameters()


def loss(
  prototypes: typing.Array,
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  objective: objective_lib.Objective,
  num_classes: int,
  mesh: jax.sharding.Mesh,
  parameters: objective_lib.Parameters = _NONE,
  block_size: int | None = None,
  bfloat16: bool = False,
) -> objective_lib.HeadOutput:
  """Same values and gradients as `reference.loss`, in blocks, on a mesh.

  Args:
    prototypes: [padded_classes, (k,) dim], sharded P("model"). Rows from
      `num_classes` on are padding and take no part.
    embeddings: [batch, dim], sharded P(("data", "model")).
    labels: int [batch].
    objective: see there.
    num_classes: the true number of classes.
    mesh: a mesh with axes "data" and "model".
    parameters: see there.
    block_size: classes a block; None for the rule of `blocks.block_size`.
    bfloat16: operands of the matmuls in bfloat16; sums stay float32.

  Returns:
    Values for each example, in the order of the batch.
  """
  plan = logits.make_plan(
    prototypes.shape,
    embeddings.shape[0],
    objective=objective,
    num_classes=num_classes,
    mesh=mesh,
    block_size=block_size,
    bfloat16=bfloat16,
  )

  def on_shard(prototypes, examples):
    examples = examples._replace(queries=collectives.gather(examples.queries))
    return _loss(plan, prototypes, examples)

  enter, leave = collectives.specs(mesh)
  return jax.shard_map(
    on_shard,
    mesh=mesh,
    in_specs=(P("model"), enter),
    out_specs=leave,
  )(
    prototypes,
    collectives.Examples(*objective.queries(embeddings), labels, parameters),
  )


def target_cosine(
  prototypes: typing.Array,
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  objective: objective_lib.Objective,
  num_classes: int,
  mesh: jax.sharding.Mesh,
) -> typing.Array:
  """cos theta_y alone, [batch]: costs the rows of the batch's classes.

  For losses whose margins depend on it. Arguments as for `loss`; prototypes may
  be the bits of bfloat16. Carries no gradient.
  """
  plan = logits.make_plan(
    prototypes.shape,
    embeddings.shape[0],
    objective=objective,
    num_classes=num_classes,
    mesh=mesh,
  )

  def on_shard(prototypes, examples):
    examples = examples._replace(queries=collectives.gather(examples.queries))
    return collectives.begin(plan, prototypes, examples)[0].target_cosine

  enter, leave = collectives.specs(mesh)
  examples = collectives.Examples(*objective.queries(embeddings), labels, _NONE)
  cosine = jax.shard_map(
    on_shard, mesh=mesh, in_specs=(P("model"), enter), out_specs=leave
  )(prototypes, examples)
  return jax.lax.stop_gradient(cosine)


def _reduce(plan, prototypes, examples):
  return _forward(plan, prototypes, examples)[0]


def _forward(plan, prototypes, examples):
  batch, target = collectives.begin(plan, prototypes, examples)
  walk = blocks.Walk(prototypes.shape[0], plan.size)
  sums, _ = chunked.reduce(plan, walk, prototypes=prototypes, batch=batch)
  output = collectives.combine(plan, sums, target, examples)
  return output, (
    prototypes,
    examples,
    collectives.Forward(batch, target, sums),
  )


def _backward(plan, residuals, d_output):
  prototypes, examples, forward = residuals
  found, d_examples = collectives.cotangents(
    plan, forward, examples, d_output.loss
  )
  walk = blocks.Walk(prototypes.shape[0], plan.size)

  def body(block, carry):
    d_prototypes, totals = carry
    gradient = chunked.block_gradient(
      plan,
      block,
      block.take(prototypes),
      batch=forward.batch,
      others=forward.sums.others,
      cotangents=found,
    )
    d_block = block.keep_stale(
      collectives.sum_over_data(gradient.prototypes), block.take(d_prototypes)
    )
    d_prototypes = blocks.put(d_prototypes, d_block, block.place)
    return d_prototypes, totals.add(gradient)

  start = jnp.zeros_like(prototypes), collectives.Totals.zero(forward.batch)
  d_prototypes, totals = walk.loop(body, start)
  return d_prototypes, collectives.add_blocks(d_examples, totals)


_loss = jax.custom_vjp(_reduce, nondiff_argnums=(0,))
_loss.defvjp(_forward, _backward)
