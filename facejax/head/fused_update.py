"""A step of the head in which the gradient of all prototypes never exists.

Beside prototypes and optimizer state, it holds a few arrays of a block's size.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from facejax.head import (
  backward,
  collectives,
  in_place,
  kernel_update,
  narrow,
  plain_update,
  row_updates,
  rowwise,
  selection,
  shard_plan,
  storage,
)
from facejax.head import objective as objective_lib
from facejax.head import options as options_lib
from facejax.runtime import typing

P = jax.P


def value_and_update(
  head: options_lib.Options,
  state: plain_update.HeadState,
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  tx: optax.GradientTransformation,
  parameters: objective_lib.Parameters,
  key: typing.PRNGKey | None = None,
  finite_with: typing.Array | None = None,
) -> plain_update.Update:
  """One step on the mean loss of a batch.

  For a fused head equal to `plain_update.value_and_update` of `sharded.loss`.
  Donate the state to the enclosing jit, or it is copied.

  Args:
    head: its options: fused, partial_fc or sparse.
    state: prototypes and optimizer state, as they are kept.
    embeddings: [batch, dim] float32, sharded P(("data", "model")).
    labels: int [batch].
    tx: the optimizer, which passed `rowwise.require`.
    parameters: of the objective.
    key: of this step; for sampling and for storage in bits.
    finite_with: see `api.Head.update`.

  Raises:
    ValueError: if a key is missing.
  """
  _check_key(head, state, key)
  shape = storage.shape(state.prototypes)
  plan = shard_plan.make_plan(head, shape, embeddings.shape[0])
  by_class = rowwise.class_leaves(tx, state.prototypes)
  # Like the state: split by class, or one for all.
  state_spec = jax.tree.map(
    lambda rows: P("model") if rows else P(), (True, by_class)
  )
  state_spec = plain_update.HeadState(*state_spec)
  enter, leave = collectives.specs(head.mesh)
  on_shard = functools.partial(
    _on_shard,
    plan=plan,
    tx=tx,
    by_class=by_class,
    batch_size=embeddings.shape[0],
  )
  # s u and s, outside the shards: each device makes those of its own examples.
  (queries, lengths), pull = jax.vjp(head.objective.queries, embeddings)
  output, d_examples, state = jax.shard_map(
    on_shard,
    mesh=head.mesh,
    # Labels twice: by rows of the mesh for the loss, whole for the selection.
    in_specs=(state_spec, enter, P(), P(), P()),
    out_specs=(leave, enter, state_spec),
  )(
    state,
    collectives.Examples(queries, lengths, labels, parameters),
    labels,
    jax.random.key(0) if key is None else key,
    finite_with,
  )
  # Through u = x / ||x||, back to the embeddings.
  (d_embeddings,) = pull((d_examples.queries, d_examples.lengths))
  return plain_update.Update(output, d_embeddings, d_examples.parameters, state)


def _on_shard(
  state: plain_update.HeadState,
  examples: collectives.Examples,
  all_labels: typing.Array,
  key: typing.PRNGKey,
  finite_with: typing.Array | None,
  *,
  plan: shard_plan.Plan,
  tx: optax.GradientTransformation,
  by_class: Any,
  batch_size: int,
) -> tuple[
  objective_lib.HeadOutput, collectives.Examples, plain_update.HeadState
]:
  """The step of one shard; inside shard_map.

  Args:
    state: this shard's rows of prototypes and optimizer state.
    examples: this device's queries; the rest by rows of the mesh.
    all_labels: int [batch], of all devices.
    key: of the step.
    finite_with: see `api.Head.update`.
    plan: see there.
    tx: the optimizer.
    by_class: the tree of `rowwise.class_leaves`.
    batch_size: on all devices, which the loss is a mean over.

  Returns:
    The values of each example, the gradient of the examples, the new state.
  """
  # s u of all devices along "model".
  examples = examples._replace(
    queries=collectives.gather(plan, examples.queries)
  )
  # The target: s n_y c_y and n_y, from the shard that owns y.
  batch, target = collectives.begin(plan, state.prototypes, examples)
  words = _words(key, state.prototypes.shape[0])
  # The others: log sum_{j != y} e^z_j over the classes that count, and which
  # of them get a gradient.
  chosen = selection.select(
    plan, state.prototypes, batch, target, examples, all_labels, key
  )
  # L = log(1 + e^(others - z_y)), z_y = s n_y phi(c_y).
  output = collectives.combine(plan, chosen.sums, target, examples)
  if finite_with is not None:
    # Decided before anything is overwritten, for there is no copy of it.
    total = collectives.sum_over_data(output.loss.sum())
    good = jnp.isfinite(total / batch_size + finite_with)
    walk = dataclasses.replace(chosen.walk, only_if=good)
    chosen = chosen._replace(walk=walk)
  # d mean(L) = sum_i dL_i / batch, as g, h and k of each example ...
  forward = collectives.Forward(batch, target, chosen.sums)
  d_loss = jnp.full_like(output.loss, 1 / batch_size)
  found, d_examples = collectives.cotangents(plan, forward, examples, d_loss)
  # ... which make a gradient of each block, that the optimizer uses up at once.
  if plan.head.implementation == "pallas":
    totals, state = kernel_update.update(
      plan, state, forward, found, tx=tx, by_class=by_class
    )
  else:
    # (block, w) -> G_ji, and with it dw_j and d(s u)_i, from the saved
    # log-sum-exp.
    totals, state = in_place.update_blocks(
      state,
      backward.Totals.zero(batch),
      gradient=functools.partial(
        backward.block_gradient,
        plan,
        batch=batch,
        others=chosen.sums.others,
        cotangents=found,
      ),
      chosen=chosen,
      tx=tx,
      by_class=by_class,
      words=words,
      prepare=functools.partial(narrow.prepare, plan, batch=batch)
      if plan.narrow_gradient
      else None,
      # A pass less; a CPU's programs write in place as a GPU's do.
      at_once=plan.platform == "cpu",
    )
  # The probability mass that got no gradient.
  output = output._replace(
    dropped=selection.dropped(plan, chosen, totals.share, output)
  )
  # What came through blocks joins what came through the target.
  return output, collectives.add_blocks(d_examples, totals), state


def _words(key: typing.PRNGKey, rows: int) -> row_updates.Words:
  """The random word of each row, for rounding: of (key, class id) alone."""
  first = jax.lax.axis_index("model") * rows
  return lambda block: storage.row_words(
    jax.random.fold_in(key, 1), first + block.rows
  )


def _check_key(
  head: options_lib.Options,
  state: plain_update.HeadState,
  key: typing.PRNGKey | None,
) -> None:
  """Refuses a step that draws, by sampling or by rounding, without a key."""
  rounds = any(storage.bits_of(leaf) for leaf in jax.tree.leaves(state))
  if key is None and (rounds or head.implementation == "partial_fc"):
    raise ValueError("key=None: sampling and narrow storage need one a step")
