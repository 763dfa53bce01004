"""The optimizer's step inside the backward loop over the classes.

The gradient of a block of prototypes is used up as soon as it is made, so that
of all prototypes never exists: beside prototypes and optimizer state, a step
holds a few arrays of a block's size.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from facejax.head import (
  blocks,
  chunked,
  collectives,
  logits,
  rowwise,
  selection,
  storage,
)
from facejax.head import objective as objective_lib
from facejax.runtime import typing

P = jax.P

_NONE = objective_lib.Parameters()


class Update(NamedTuple):
  """A step of the head.

  Attributes:
    output: the values of each example, before the step.
    d_embeddings: [batch, dim], gradient of their mean loss.
    d_parameters: the same for the parameters of the objective.
    prototypes: after the step.
    opt_state: after the step.
  """

  output: objective_lib.HeadOutput
  d_embeddings: typing.Array
  d_parameters: objective_lib.Parameters
  prototypes: typing.Array
  opt_state: optax.OptState


def value_and_update(
  prototypes: typing.Array,
  opt_state: optax.OptState,
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  tx: optax.GradientTransformation,
  objective: objective_lib.Objective,
  num_classes: int,
  mesh: jax.sharding.Mesh,
  parameters: objective_lib.Parameters = _NONE,
  classes: selection.Classes = "all",
  rate: float = 1.0,
  key: typing.PRNGKey | None = None,
  block_size: int | None = None,
  saved_bytes: int = 0,
  bfloat16: bool = False,
) -> Update:
  """One step on the mean loss of a batch.

  With classes="all" equal to `sharded.loss`, its gradient and `tx.update` in
  turn. Donate prototypes and opt_state to the enclosing jit, or they are
  copied.

  Args:
    prototypes: [padded_classes, (k,) dim], float32 or the bits of bfloat16
      (see `storage`), sharded P("model").
    opt_state: of `tx.init(prototypes)`; leaves with class rows are sharded
      alike, and float32 or bits.
    embeddings: [batch, dim] float32, sharded P(("data", "model")).
    labels: int [batch].
    tx: the optimizer; what it does to a row must not depend on other rows.
      Schedules inside advance once a call.
    objective: see there.
    num_classes: the true number of classes; later rows are padding.
    mesh: a mesh with axes "data" and "model".
    parameters: see there.
    classes: "all"; "sampled" counts and updates the classes of the batch and a
      share `rate` of the others, drawn by `key` (see `sampling`); "probable"
      counts all, and updates the classes of the batch and a share `rate` of
      the most probable others (see `sparse`). Rows that are not updated keep
      their optimizer state, weight decay included.
    rate: see above.
    key: of this step; for sampling and for bfloat16.
    block_size: classes a block; None for the rule of `blocks.block_size`.
    saved_bytes: room on each device for exponentials of the forward pass,
      which then need not be computed again: up to a quarter of the time.
    bfloat16: operands of the matmuls in bfloat16; sums stay float32.

  Raises:
    ValueError: if the optimizer mixes classes (clipping by a global norm), the
      rate is outside (0, 1], or a key or softmax is missing where needed.
  """
  rowwise.require(tx, dim=prototypes.shape[-1])
  plan = logits.make_plan(
    prototypes.shape,
    embeddings.shape[0],
    objective=objective,
    num_classes=num_classes,
    mesh=mesh,
    block_size=block_size,
    bfloat16=bfloat16,
    saved_bytes=saved_bytes if classes == "all" else 0,
  )
  selection.check(plan, classes, rate)
  _check_key(classes, key, (prototypes, opt_state))
  by_class = rowwise.class_leaves(tx, prototypes)
  state_spec = jax.tree.map(lambda rows: P("model") if rows else P(), by_class)
  enter, leave = collectives.specs(mesh)
  on_shard = functools.partial(
    _on_shard,
    plan=plan,
    select=functools.partial(
      selection.select, plan=plan, classes=classes, rate=rate, mesh=mesh
    ),
    tx=tx,
    by_class=by_class,
    batch_size=embeddings.shape[0],
  )
  (queries, lengths), pull = jax.vjp(objective.queries, embeddings)
  output, d_examples, *state = jax.shard_map(
    on_shard,
    mesh=mesh,
    in_specs=(P("model"), state_spec, enter, P(), P()),
    out_specs=(leave, enter, P("model"), state_spec),
  )(
    prototypes,
    opt_state,
    collectives.Examples(queries, lengths, labels, parameters),
    labels,
    jax.random.key(0) if key is None else key,
  )
  (d_embeddings,) = pull((d_examples.queries, d_examples.lengths))
  return Update(output, d_embeddings, d_examples.parameters, *state)


def _on_shard(
  prototypes,
  opt_state,
  examples,
  all_labels,
  key,
  *,
  plan,
  select,
  tx,
  by_class,
  batch_size,
):
  queries, pull = jax.vjp(collectives.gather, examples.queries)
  examples = examples._replace(queries=queries)
  batch, target = collectives.begin(plan, prototypes, examples)
  first = jax.lax.axis_index("model") * prototypes.shape[0]
  chosen = select(prototypes, batch, target, examples, all_labels, key)
  output = collectives.combine(plan, chosen.sums, target, examples)
  forward = collectives.Forward(batch, target, chosen.sums)
  cotangents, d_examples = collectives.cotangents(
    plan, forward, examples, jnp.full_like(output.loss, 1 / batch_size)
  )
  gradient = functools.partial(
    chunked.block_gradient,
    plan,
    batch=batch,
    others=chosen.sums.others,
    cotangents=cotangents,
  )

  def words(block):
    return storage.row_words(jax.random.fold_in(key, 1), first + block.rows)

  totals, prototypes, opt_state = _update_blocks(
    prototypes,
    opt_state,
    collectives.Totals.zero(batch),
    gradient=gradient,
    chosen=chosen,
    tx=tx,
    by_class=by_class,
    words=words,
  )
  output = output._replace(
    dropped=selection.dropped(plan, chosen, totals.share, output)
  )
  d_examples = collectives.add_blocks(d_examples, totals)
  d_examples = d_examples._replace(queries=pull(d_examples.queries)[0])
  return output, d_examples, prototypes, opt_state


def _update_blocks(
  prototypes, opt_state, totals, *, gradient, chosen, tx, by_class, words
):
  """Gradient and update, a block at a time, in place.

  What a block becomes waits in the loop's carry and is written at the start of
  the next turn. Written at once, new prototypes and new optimizer state would
  each need the old values of the other while both are overwritten, and XLA
  would copy all of them in every turn.
  """
  walk, saved = chosen.walk, chosen.saved
  arrays = [prototypes, *rowwise.class_rows(opt_state, by_class)]

  def state_of(rows):
    # Leaves without class rows stay what they were until the step is done.
    return rowwise.with_class_rows(opt_state, by_class, rows)

  def body(block, carry, *, exponentials=None):
    arrays, totals, waiting, place = carry
    arrays = _put(arrays, waiting, place)
    old = [block.take(array) for array in arrays]
    w, *rows = map(storage.load, old)
    if exponentials is not None:
      exponentials = block.take(exponentials)
    found = gradient(block, w, exponentials=exponentials)
    d_w = collectives.sum_over_data(found.prototypes)
    updates, state = tx.update(d_w, state_of(rows), w)
    new = [
      optax.apply_updates(w, updates),
      *rowwise.class_rows(state, by_class),
    ]
    noise = words(block) if any(a.dtype == jnp.uint16 for a in arrays) else None
    waiting = [
      block.keep_stale(storage.store(value, like, noise, salt=salt), like)
      for salt, (value, like) in enumerate(zip(new, old, strict=True))
    ]
    return arrays, totals.add(found), waiting, block.place

  start = walk.block(0)
  carry = arrays, totals, [start.take(array) for array in arrays], start.place
  if chosen.saved is not None:
    with_saved = functools.partial(body, exponentials=saved)
    carry = walk.loop(with_saved, carry, last=chosen.saved_blocks)
  carry = walk.loop(body, carry, first=chosen.saved_blocks)
  arrays, totals, waiting, place = carry
  prototypes, *rows = _put(arrays, waiting, place)
  # Step counts move on now; what they become depends on no gradient.
  one, *none = (
    jnp.zeros_like(storage.load(array[:1])) for array in (prototypes, *rows)
  )
  _, state = tx.update(one, state_of(none), one)
  return totals, prototypes, rowwise.with_class_rows(state, by_class, rows)


def _put(arrays, rows, place):
  return [
    blocks.put(array, row, place)
    for array, row in zip(arrays, rows, strict=True)
  ]


def _check_key(classes, key, state) -> None:
  narrow = any(leaf.dtype == jnp.uint16 for leaf in jax.tree.leaves(state))
  if key is None and (narrow or classes == "sampled"):
    raise ValueError("key=None: sampling and bfloat16 storage need one a step")
