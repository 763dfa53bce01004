"""What crosses the devices of a mesh, and nothing else does.

Each device holds some classes and sees all embeddings of its row of the mesh.
A few numbers an example are summed over the shards: the target's product,
which only its owner knows, and the sums over the other classes. All
collectives of the classification losses are in this file.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from facejax.head import chunked, logits
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

  batch: logits.Batch
  target: tuple[typing.Array, typing.Array]
  sums: chunked.Sums


def specs(
  mesh: jax.sharding.Mesh,
) -> tuple[Examples, jax.sharding.PartitionSpec]:
  """How examples enter the shards and how values leave them.

  An axis of one device is left out: XLA keeps a collective over it, and with
  it a copy of what it sums.
  """
  data = ("data",) if mesh.shape["data"] > 1 else ()
  each = P(data)
  enter = Examples(
    queries=P((*data, "model")), lengths=each, labels=each, parameters=each
  )
  return enter, each


def gather(queries: typing.Array) -> typing.Array:
  """The queries of all devices along "model"; inside shard_map."""
  return jax.lax.all_gather(queries, "model", tiled=True)


def sum_over_data(gradient: Any) -> Any:
  """The sum over the copies of a shard; inside shard_map."""
  if jax.lax.axis_size("data") == 1:
    return gradient
  return jax.lax.psum(gradient, "data")


def begin(
  plan: logits.Plan, prototypes: typing.Array, examples: Examples
) -> tuple[logits.Batch, tuple[typing.Array, typing.Array]]:
  """The batch as a shard sees it, and the target's product and norm."""
  rows = prototypes.shape[0]
  first = jax.lax.axis_index("model") * rows
  labels = examples.labels.astype(jnp.int32) - first
  dot, norm = jax.lax.psum(
    chunked.target(plan, prototypes, examples.queries, labels), "model"
  )
  # Or every block would sum their gradients over the shards on its own.
  lengths, negative = jax.tree.map(
    lambda leaf: jax.lax.pcast(leaf, "model", to="varying"),
    (examples.lengths, examples.parameters.negative),
  )
  batch = logits.Batch(
    queries=examples.queries,
    lengths=lengths,
    labels=labels,
    valid=plan.num_classes - first,
    target_cosine=plan.objective.cosine(dot, examples.lengths, norm),
    parameters=negative,
  )
  return batch, (dot, norm)


def all_others(plan: logits.Plan, sums: chunked.Sums) -> typing.Array:
  """`Sums.others` of all shards together; differentiable."""
  if plan.objective.one_vs_all is not None:
    return jax.lax.psum(sums.others, "model")
  highest = jax.lax.pmax(jax.lax.stop_gradient(sums.highest), "model")
  shift = jnp.where(highest > chunked.LOWEST, highest, 0)
  total = jax.lax.psum(jnp.exp(sums.others - shift), "model")
  # Not `total > 0`, which would make a NaN look like no other class.
  none = total == 0
  return jnp.where(none, -jnp.inf, shift + jnp.log(jnp.where(none, 1, total)))


def combine(
  plan: logits.Plan,
  sums: chunked.Sums,
  target: tuple[typing.Array, typing.Array],
  examples: Examples,
) -> objective_lib.HeadOutput:
  """The loss, from what each shard knows; differentiable."""
  nearest = jax.lax.pmax(jax.lax.stop_gradient(sums.nearest), "model")
  others = all_others(plan, sums)
  dot, norm = target
  values = plan.objective.loss(
    others, dot, examples.lengths, norm, examples.parameters.margin
  )
  cosine = plan.objective.cosine(dot, examples.lengths, norm)
  return objective_lib.HeadOutput(
    loss=values,
    target_cosine=jax.lax.stop_gradient(cosine),
    correct=dot >= nearest,
    dropped=jnp.zeros_like(values),
  )


def cotangents(
  plan: logits.Plan,
  forward: Forward,
  examples: Examples,
  d_loss: typing.Array,
) -> tuple[chunked.Cotangents, Examples]:
  """Pulls d_loss [batch] back to what blocks say, and to the examples."""

  def value(others, target, lengths, margin):
    at = examples._replace(
      lengths=lengths, parameters=examples.parameters._replace(margin=margin)
    )
    return combine(plan, forward.sums._replace(others=others), target, at).loss

  _, pull = jax.vjp(
    value,
    forward.sums.others,
    forward.target,
    examples.lengths,
    examples.parameters.margin,
  )
  d_others, (d_dot, d_norm), d_lengths, d_margin = pull(d_loss)
  found = chunked.Cotangents(others=d_others, dot=d_dot, norm=d_norm)
  parameters = objective_lib.Parameters(margin=d_margin)
  return found, Examples(None, d_lengths, None, parameters)


def add_blocks(d_examples: Examples, total: "Totals") -> Examples:
  """The gradient of the examples, with the part that came through blocks."""
  parts = jax.lax.psum((total.lengths, total.parameters), "model")
  lengths, negative = parts
  return d_examples._replace(
    queries=total.queries,
    lengths=d_examples.lengths + lengths,
    parameters=d_examples.parameters._replace(negative=negative),
  )


class Totals(NamedTuple):
  """Sums over blocks, in a loop's carry; fields as of `chunked.Gradient`."""

  queries: typing.Array
  lengths: typing.Array
  parameters: dict[str, typing.Array]
  share: typing.Array

  @classmethod
  def zero(cls, batch: logits.Batch) -> "Totals":
    """Before the first block."""
    nothing = jnp.zeros_like(batch.queries[:, 0])
    parameters = dict.fromkeys(batch.parameters, nothing)
    queries = jnp.zeros_like(batch.queries)
    return cls(queries, nothing, parameters, nothing)

  def add(self, block: chunked.Gradient) -> "Totals":
    """After one more block."""
    new = self._replace(
      queries=self.queries + block.queries, share=self.share + block.share
    )
    if block.lengths is None:
      return new
    return new._replace(
      lengths=self.lengths + block.lengths,
      parameters=jax.tree.map(jnp.add, self.parameters, block.parameters),
    )
