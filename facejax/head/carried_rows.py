"""Prototypes that come of other prototypes, row by row."""

import functools

import jax
import jax.numpy as jnp

from facejax.head import options as options_lib
from facejax.head import storage
from facejax.runtime import typing

P = jax.P

# Rows a device asks the others for at once: bounds the extra memory.
_BLOCK = 8192


def carried(
  head: options_lib.Options,
  fresh: typing.Array,
  old: typing.Array,
  places: typing.ArrayLike,
) -> typing.Array:
  """Row j is row places[j] of the old prototypes, or stays where that is < 0.

  The devices ask each other for the rows of a block at a time: no device ever
  holds more than its own share of both matrices. All sub-centres of a class
  move together.

  Args:
    head: of the new prototypes.
    fresh: [rows, (k,) dim], as the head keeps them, sharded P("model").
    old: [old rows, (k,) dim], as another head kept them, sharded P("model").
    places: int [num_classes], rows of `old`.

  Returns:
    Like `fresh`.

  Raises:
    ValueError: if a row of one has another shape than of the other.
  """
  if storage.shape(fresh)[1:] != storage.shape(old)[1:]:
    raise ValueError(
      f"a class has {_shape(old)} numbers there and {_shape(fresh)} here"
    )
  wanted = jnp.pad(
    jnp.asarray(places, jnp.int32),
    (0, fresh.shape[0] - len(places)),
    constant_values=-1,
  )
  move = jax.shard_map(
    functools.partial(_on_shard, kept=head.storage),
    mesh=head.mesh,
    in_specs=(P("model"), P("model"), P("model")),
    out_specs=P("model"),
  )
  where = jax.NamedSharding(head.mesh, P("model"))
  return jax.jit(move, donate_argnums=0, out_shardings=where)(
    fresh, old, wanted
  )


def _on_shard(
  fresh: typing.Array,
  old: typing.Array,
  places: typing.Array,
  *,
  kept: storage.Storage,
) -> typing.Array:
  """This device's rows; all devices ask for as many at a time."""
  rows, held = fresh.shape[0], old.shape[0]
  first = jax.lax.axis_index("model") * held
  block = max(1, min(rows, _BLOCK))
  blocks = -(-rows // block)
  wanted = jnp.pad(places, (0, blocks * block - rows), constant_values=-1)

  def ask(places: typing.Array) -> typing.Array:
    # What all devices want of this block, [shards * block].
    asked = jax.lax.all_gather(places, "model", tiled=True) - first
    mine = (asked >= 0) & (asked < held)
    found = storage.load(old[jnp.where(mine, asked, 0)])
    mine = mine.reshape(-1, *(1 for _ in found.shape[1:]))
    # One owner each, all others add 0: the sum is the row.
    return jax.lax.psum_scatter(jnp.where(mine, found, 0), "model", tiled=True)

  found = jax.lax.map(ask, wanted.reshape(blocks, block))
  found = found.reshape(-1, *storage.shape(fresh)[1:])[:rows]
  found = storage.encode(found, kept)
  is_old = (places >= 0).reshape(-1, *(1 for _ in fresh.shape[1:]))
  return jnp.where(is_old, found.astype(fresh.dtype), fresh)


def _shape(prototypes: typing.Array) -> str:
  return " x ".join(map(str, storage.shape(prototypes)[1:]))
