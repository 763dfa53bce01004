"""What crosses the devices of a mesh, and nothing else does.

Each device holds some classes and sees all embeddings of its row of the mesh.
A few numbers an example are summed over the shards: the target's product,
which only its owner knows, and the sums over the other classes. All
collectives of the classification losses are in this file.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from facejax.head import backward, chunked, logits, products, shard_plan
from facejax.head import objective as objective_lib
from facejax.runtime import typing

P = jax.P


class Examples(NamedTuple):
  """A batch as it enters the shards; also how it is split, or its gradient.

  Attributes:
    queries: [batch, dim], s u, split over all devices.
    lengths: [batch], s, split over "data".
    labels: int [batch], split over "data".
    parameters: [batch] each, split over "data".
  """

  queries: Any
  lengths: Any
  labels: Any
  parameters: Any


class Forward(NamedTuple):
  """What the backward pass needs of the forward pass.

  Attributes:
    batch: as this shard sees it.
    target: s n_y c_y and n_y, over all shards.
    sums: of this shard.
  """

  batch: logits.ShardBatch
  target: tuple[typing.Array, typing.Array]
  sums: chunked.Sums


def specs(
  mesh: jax.sharding.Mesh,
) -> tuple[Examples, jax.sharding.PartitionSpec]:
  """How examples enter the shards and how values leave them.

  An axis of one device is left out: XLA keeps a collective over it, and with
  it a copy of what it sums.
  """
  # Shards are copied along "data". Each copy sees its own part of the batch;
  # only the prototypes' gradient is summed over all of it.
  data = ("data",) if mesh.shape["data"] > 1 else ()
  each = P(data)
  # Each device enters with its own s u, dim numbers an example, and they are
  # gathered inside; of what is one number an example, shards get all at once.
  enter = Examples(
    queries=P((*data, "model")), lengths=each, labels=each, parameters=each
  )
  return enter, each


def gather(plan: shard_plan.Plan, queries: typing.Array) -> typing.Array:
  """The queries of all devices along "model"; inside shard_map.

  In the type of the products' operands: what a product would round is rounded
  before it is sent, on one device as on many.
  """
  if plan.head.narrow_operands:
    queries = queries.astype(jnp.bfloat16)
  return jax.lax.all_gather(queries, "model", tiled=True)


def scatter(d_queries: typing.Array) -> typing.Array:
  """The transpose of `gather`: each device's own sum over the shards.

  Sums of gradients are never narrower than float32.
  """
  return jax.lax.psum_scatter(d_queries, "model", tiled=True)


def copies() -> int:
  """How many devices have the same classes; inside shard_map."""
  return jax.lax.axis_size("data")


def sum_over_data(gradient: Any) -> Any:
  """The sum over the copies of a shard; inside shard_map."""
  if copies() == 1:
    return gradient
  return jax.lax.psum(gradient, "data")


def any_over_data(flags: typing.Array) -> typing.Array:
  """Whether bool [...] is true in any copy of a shard; inside shard_map."""
  if copies() == 1:
    return flags
  return jax.lax.pmax(flags.astype(jnp.uint8), "data") > 0


def over_shards(sums: Any) -> Any:
  """The sum over the shards of the classes; inside shard_map."""
  return jax.lax.psum(sums, "model")


def anywhere(flags: typing.Array) -> typing.Array:
  """Whether any of bool [batch] is true on any device; inside shard_map."""
  found = jax.lax.pmax(flags.any().astype(jnp.int32), "model")
  return (jax.lax.pmax(found, "data") if copies() > 1 else found) > 0


def longest(count: typing.Array) -> typing.Array:
  """The largest number of all shards, where blocks wait for their copies.

  So that all devices take as many turns.
  """
  return jax.lax.pmax(count, "model") if copies() > 1 else count


def begin(
  plan: shard_plan.Plan, prototypes: typing.Array, examples: Examples
) -> tuple[logits.ShardBatch, tuple[typing.Array, typing.Array]]:
  """The batch as a shard sees it, and the target's product and norm.

  Args:
    plan: see there.
    prototypes: [rows, (k,) dim], this shard's, as they are kept.
    examples: with the queries of all devices along "model".

  Returns:
    The batch, with labels as rows of this shard; s n_y c_y and n_y, [batch].
  """
  rows = prototypes.shape[0]
  first = jax.lax.axis_index("model") * rows
  # y_i as a row of this shard; below 0 or past its rows in other shards, and
  # below 0 in all of them where the example has no class.
  labels = examples.labels.astype(jnp.int32) - first
  known = objective_lib.has_class(examples.labels, plan.head.num_classes)
  labels = jnp.where(known, labels, -1)
  # Only the owner of class y_i knows w_y; all others add 0.
  dot, norm = jax.lax.psum(
    chunked.target(plan, prototypes, examples.queries, labels), "model"
  )
  # Marked as differing between the shards, which they do not: or every block
  # would sum their gradients over the shards on its own.
  lengths, negative = jax.tree.map(
    lambda leaf: jax.lax.pcast(leaf, "model", to="varying"),
    (examples.lengths, examples.parameters.negative),
  )
  batch = logits.ShardBatch(
    queries=examples.queries,
    operand=products.operand(plan.head, examples.queries),
    lengths=lengths,
    labels=labels,
    valid=plan.head.num_classes - first,
    target_cosine=plan.objective.cosine(dot, examples.lengths, norm),
    parameters=negative,
  )
  return batch, (dot, norm)


def all_others(plan: shard_plan.Plan, sums: chunked.Sums) -> typing.Array:
  r"""`Sums.others` of all shards together, [batch]; differentiable.

  .. math::
    others = m + \log \sum_{\text{shards}} e^{others_{shard} - m}
    \quad\text{or}\quad \sum_{\text{shards}} others_{shard}
  """
  if sums.solved is not None:
    # tau, which is of all shards as it is.
    return sums.others
  if plan.objective.one_vs_all is not None:
    # Sums of softplus terms just add up.
    return jax.lax.psum(sums.others, "model")
  highest = jax.lax.pmax(jax.lax.stop_gradient(sums.highest), "model")
  # m: the largest logit of all shards, 0 for an example without other classes.
  shift = jnp.where(highest > chunked.LOWEST, highest, 0)
  total = jax.lax.psum(jnp.exp(sums.others - shift), "model")
  # Not `total > 0`, which would make a NaN look like no other class.
  none = total == 0
  return jnp.where(none, -jnp.inf, shift + jnp.log(jnp.where(none, 1, total)))


def combine(
  plan: shard_plan.Plan,
  sums: chunked.Sums,
  target: tuple[typing.Array, typing.Array],
  examples: Examples,
) -> objective_lib.HeadOutput:
  """The loss of each example, from what each shard knows; differentiable.

  Args:
    plan: see there.
    sums: of this shard's other classes.
    target: s n_y c_y and n_y, over all shards.
    examples: their lengths s and the margin's parameters.
  """
  nearest = jax.lax.pmax(jax.lax.stop_gradient(sums.nearest), "model")
  others = all_others(plan, sums)
  # L = log(1 + e^(others - z_y)), z_y = s n_y phi(c_y): the margin meets
  # [batch] numbers, in ordinary differentiable code.
  dot, norm = target
  known = objective_lib.has_class(examples.labels, plan.head.num_classes)
  values = plan.objective.loss(
    others,
    dot,
    examples.lengths,
    norm,
    examples.parameters.margin,
    known,
    sums.solved,
  )
  cosine = plan.objective.cosine(dot, examples.lengths, norm)
  return objective_lib.HeadOutput(
    loss=values,
    target_cosine=jax.lax.stop_gradient(cosine),
    # s n_y c_y against the largest s n_j c_j: without margin. A tie is wrong:
    # where all embeddings are 0, all are as near.
    correct=known & (dot > nearest),
    dropped=jnp.zeros_like(values),
    support=None if sums.solved is None else sums.solved.support,
  )


def cotangents(
  plan: shard_plan.Plan,
  forward: Forward,
  examples: Examples,
  d_loss: typing.Array,
) -> tuple[backward.Cotangents, Examples]:
  """Pulls d_loss [batch] back to what blocks say, and to the examples.

  Args:
    plan: see there.
    forward: of this shard.
    examples: as of `combine`.
    d_loss: [batch], the gradient of the total with respect to each loss.

  Returns:
    g, h and k of `backward.block_gradient`, [batch] each; the gradient of
    lengths and of the margin's parameters, as far as it does not come through
    blocks.
  """

  def value(
    others: typing.Array,
    target: tuple[typing.Array, typing.Array],
    lengths: typing.Array,
    margin: dict[str, typing.Array],
  ) -> typing.Array:
    at = examples._replace(
      lengths=lengths, parameters=examples.parameters._replace(margin=margin)
    )
    return combine(plan, forward.sums._replace(others=others), target, at).loss

  # On [batch] numbers alone, so automatic differentiation serves any margin.
  _, pull = jax.vjp(
    value,
    forward.sums.others,
    forward.target,
    examples.lengths,
    examples.parameters.margin,
  )
  d_others, (d_dot, d_norm), d_lengths, d_margin = pull(d_loss)
  found = backward.Cotangents(others=d_others, dot=d_dot, norm=d_norm)
  parameters = objective_lib.Parameters(margin=d_margin)
  return found, Examples(None, d_lengths, None, parameters)


def add_blocks(d_examples: Examples, total: backward.Totals) -> Examples:
  """The gradient of the examples, with the part that came through blocks.

  Queries are those of this device: `scatter` sends each the sum for its own
  examples alone.
  """
  # [batch] numbers of each shard's classes; the same total on all of them.
  parts = jax.lax.psum((total.lengths, total.parameters), "model")
  lengths, negative = parts
  return d_examples._replace(
    queries=scatter(total.queries),
    lengths=d_examples.lengths + lengths,
    parameters=d_examples.parameters._replace(negative=negative),
  )
