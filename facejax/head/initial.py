"""Prototypes and optimizer state before the first step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from facejax.head import blocks, row_updates, rowwise, storage
from facejax.head import options as options_lib
from facejax.runtime import typing

P = jax.P

# Classes whose random rows are drawn at once: bounds the extra memory.
_BLOCK = 8192


def prototypes(
  head: options_lib.Options, key: typing.PRNGKey, *, dim: int
) -> typing.Array:
  """Prototypes N(0, 0.01^2), row j drawn from (key, class id j) alone.

  So the start does not depend on the mesh. Each device draws its own rows, in
  blocks: no more than the result itself is ever held.

  Args:
    head: its options.
    key: of the run.
    dim: size of the embeddings.

  Returns:
    [rows, dim], or with k > 1 centers [rows, k, dim], as `head.storage` says,
    sharded P("model"); with a bias, one more column, of zeros. Rows beyond
    num_classes are zero and stay so in training.
  """

  def row(class_id: typing.Array) -> typing.Array:
    shape = (dim,) if head.centers == 1 else (head.centers, dim)
    value = 0.01 * jax.random.normal(jax.random.fold_in(key, class_id), shape)
    # Padding is 0: its norm is 0, so is its gradient, and decay leaves it.
    value = jnp.where(class_id < head.num_classes, value, 0)
    bias = int(head.objective.bias)
    value = jnp.pad(value, [(0, 0)] * (value.ndim - 1) + [(0, bias)])
    return storage.encode(value, head.storage)

  rows = head.rows // head.shards

  def on_shard() -> typing.Array:
    first = jax.lax.axis_index("model") * rows
    (drawn,) = _by_blocks(
      rows, lambda block: [jax.vmap(row)(first + block.rows)]
    )
    return drawn

  return jax.shard_map(
    on_shard, mesh=head.mesh, in_specs=(), out_specs=P("model")
  )()


def optimizer_state(
  head: options_lib.Options,
  tx: optax.GradientTransformation,
  prototypes: typing.Array,
) -> optax.OptState:
  """The optimizer state of prototypes, leaves with class rows kept as told."""
  values = storage.load(prototypes)
  by_class = rowwise.class_leaves(tx, values)

  def start(values: typing.Array) -> optax.OptState:
    # Behind a barrier: XLA would round a block of zeros while it compiles.
    state = jax.lax.optimization_barrier(tx.init(values))
    # Step counts and the like are one number for all classes.
    return jax.tree.map(
      lambda has_rows, leaf: (
        storage.encode(leaf, head.optimizer_storage) if has_rows else leaf
      ),
      by_class,
      state,
    )

  if head.optimizer_storage != "float8":
    return start(values)
  # Codes and scales of all rows would be made apart and put together: held twice.
  state = start(jnp.zeros_like(values[:1]))

  def on_shard(prototypes: typing.Array) -> list[typing.Array]:
    return _by_blocks(
      prototypes.shape[0],
      lambda block: rowwise.class_rows(
        start(storage.rows(block, prototypes)), by_class
      ),
    )

  rows = jax.shard_map(
    on_shard, mesh=head.mesh, in_specs=P("model"), out_specs=P("model")
  )(prototypes)
  return rowwise.with_class_rows(state, by_class, rows)


def _by_blocks(
  rows: int, make: Callable[[blocks.Block], list[typing.Array]]
) -> list[typing.Array]:
  """Arrays [rows, ...] of what is made of each block; inside shard_map.

  Blocks are written where they stay: made at once, or put together in the end,
  arrays would be held twice.
  """
  walk = blocks.Walk(rows, min(rows, _BLOCK))

  def body(block: blocks.Block, made: list[typing.Array]) -> list[typing.Array]:
    # What a last block shares with the one before it is made alike again.
    return row_updates.put(made, make(block), block.place)

  return walk.loop(body, [_room(rows, new) for new in make(walk.block(0))])


def _room(rows: int, block: typing.Array) -> typing.Array:
  """Where all rows [rows, ...] will be written, of which this is a block.

  Of a number that XLA does not know: zeros for several arrays would be made once,
  held, and copied for each.
  """
  return jnp.broadcast_to(block.ravel()[0], (rows, *block.shape[1:]))
