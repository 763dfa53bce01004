"""The optimizer's step inside the backward loop over the classes.

The gradient of a block of prototypes is used up as soon as it is made, so that
of all prototypes never exists: beside prototypes and optimizer state, a step
holds a few arrays of a block's size.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from facejax import typing
from facejax.head import (
  blocks,
  chunked,
  reference,
  rowwise,
  sharded,
  statistics,
)

P = jax.P


def value_and_update(
  prototypes: typing.Array,
  opt_state: optax.OptState,
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  tx: optax.GradientTransformation,
  margin: Callable[[typing.Array], typing.Array],
  scale: float,
  num_classes: int,
  mesh: jax.sharding.Mesh,
  block_size: int | None = None,
) -> tuple[reference.HeadOutput, typing.Array, typing.Array, optax.OptState]:
  """One step on the mean loss of a batch, exact over all classes.

  Equal to `chunked.margin_softmax`, its gradient and `tx.update` in turn.
  Donate prototypes and opt_state to the enclosing jit, or they are copied.

  Args:
    prototypes: [padded_classes, dim], sharded P("model").
    opt_state: of `tx.init(prototypes)`, leaves with class rows sharded alike.
    embeddings: [batch, dim] float32, sharded P(("data", "model")).
    labels: int [batch], sharded like the embeddings.
    tx: the optimizer; what it does to a row must not depend on other rows.
      Schedules inside advance once a call.
    margin: phi, maps [batch] cosines to [batch].
    scale: s > 0.
    num_classes: the true number of classes; later rows are padding.
    mesh: a mesh with axes "data" and "model".
    block_size: classes a block; None for the rule of `blocks.block_size`.

  Returns:
    The values for each example, the gradient of their mean loss with respect
    to the embeddings, new prototypes and new optimizer state.

  Raises:
    ValueError: if the optimizer mixes classes (clipping by a global norm).
  """
  rowwise.require(tx, dim=prototypes.shape[1])
  plan = chunked.make_plan(
    prototypes.shape,
    embeddings.shape[0],
    scale=scale,
    num_classes=num_classes,
    mesh=mesh,
    block_size=block_size,
  )
  by_class = rowwise.class_leaves(tx, prototypes)
  state_spec = jax.tree.map(lambda rows: P("model") if rows else P(), by_class)
  batch_spec, value_spec = sharded.specs(mesh)
  on_shard = functools.partial(
    _on_shard,
    plan=plan,
    tx=tx,
    by_class=by_class,
    loss=functools.partial(
      sharded.combine, margin=margin, scale=scale, num_classes=num_classes
    ),
    num_classes=num_classes,
    batch_size=embeddings.shape[0],
  )
  return jax.shard_map(
    on_shard,
    mesh=mesh,
    in_specs=(P("model"), state_spec, batch_spec, batch_spec),
    out_specs=(value_spec, batch_spec, P("model"), state_spec),
  )(prototypes, opt_state, embeddings, labels)


def _on_shard(
  prototypes,
  opt_state,
  embeddings,
  labels,
  *,
  plan,
  tx,
  by_class,
  loss,
  num_classes,
  batch_size,
):
  units, pull_units = jax.vjp(sharded.gather_units, embeddings)
  batch = statistics.Batch(
    units,
    *sharded.to_shard(
      labels, rows=prototypes.shape[0], num_classes=num_classes
    ),
  )
  found = statistics.of_shard(plan, prototypes, batch)

  def mean_loss(found):
    output = loss(*found)
    return output.loss.sum() / batch_size, output

  cotangents, output = jax.grad(mean_loss, has_aux=True)(found)
  gradient = functools.partial(
    statistics.block_gradient,
    plan,
    batch=batch,
    log_sum=found.log_sum,
    cotangents=cotangents,
  )
  d_units, prototypes, opt_state = _update_blocks(
    prototypes,
    opt_state,
    jnp.zeros_like(units),
    gradient=gradient,
    size=plan.size,
    tx=tx,
    by_class=by_class,
  )
  return output, *pull_units(d_units), prototypes, opt_state


def _update_blocks(
  prototypes, opt_state, d_units, *, gradient, size, tx, by_class
):
  """Gradient and update, a block at a time, in place.

  What a block becomes waits in the loop's carry and is written at the start of
  the next turn. Written at once, new prototypes and new optimizer state would
  each need the old values of the other while both are overwritten, and XLA
  would copy all of them in every turn.
  """

  def state_of(rows):
    # Leaves without class rows stay what they were until the step is done.
    return rowwise.with_class_rows(opt_state, by_class, rows)

  def body(block, carry):
    arrays, d_units, waiting, where = carry
    arrays = _put(arrays, waiting, where)
    w, *rows = old = [block.take(array) for array in arrays]
    d_w, d_partial = gradient(block, w)
    updates, state = tx.update(d_w, state_of(rows), w)
    new = [
      optax.apply_updates(w, updates),
      *rowwise.class_rows(state, by_class),
    ]
    waiting = [block.keep_stale(*pair) for pair in zip(new, old, strict=True)]
    return arrays, d_units + d_partial, waiting, block.start

  arrays = [prototypes, *rowwise.class_rows(opt_state, by_class)]
  waiting = [array[:size] for array in arrays]
  arrays, d_units, waiting, where = blocks.loop(
    body,
    (arrays, d_units, waiting, jnp.int32(0)),
    rows=prototypes.shape[0],
    size=size,
  )
  prototypes, *rows = _put(arrays, waiting, where)
  # Step counts move on now; what they become depends on no gradient.
  one, *none = (jnp.zeros_like(array[:1]) for array in (prototypes, *rows))
  _, state = tx.update(one, state_of(none), one)
  return d_units, prototypes, rowwise.with_class_rows(state, by_class, rows)


def _put(arrays, rows, start):
  return [
    jax.lax.dynamic_update_slice_in_dim(array, row, start, 0)
    for array, row in zip(arrays, rows, strict=True)
  ]
