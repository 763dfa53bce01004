"""Prototypes and optimizer state before the first step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from facejax.head import options as options_lib
from facejax.head import rowwise, storage
from facejax.runtime import typing

P = jax.P

# Classes whose random rows are drawn at once: bounds the extra memory.
_BLOCK = 65_536


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

  def on_shard(class_ids: typing.Array) -> typing.Array:
    # In blocks: drawing all rows at once peaks at twice their size.
    block = min(class_ids.shape[0], _BLOCK)
    return jax.lax.map(row, class_ids, batch_size=block)

  draw = jax.shard_map(
    on_shard, mesh=head.mesh, in_specs=P("model"), out_specs=P("model")
  )
  return draw(jnp.arange(head.rows))


def optimizer_state(
  tx: optax.GradientTransformation,
  prototypes: typing.Array,
  *,
  dtype: storage.Storage,
) -> optax.OptState:
  """The optimizer state of prototypes; leaves with class rows in `dtype`."""
  values = storage.load(prototypes)

  def keep(by_class: bool, leaf: Any) -> Any:
    # Step counts and the like are one number for all classes.
    return storage.encode(leaf, dtype) if by_class else leaf

  return jax.tree.map(keep, rowwise.class_leaves(tx, values), tx.init(values))
