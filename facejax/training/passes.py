"""Through the trunk and back: with the whole batch, or with parts of it.

The loss stands between the two ways, and always sees the embeddings of the
whole batch.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from facejax.models import batch_norm
from facejax.runtime import mesh as mesh_lib
from facejax.runtime import typing

# (params, images, number of the part) -> (embeddings, statistics).
Embed = Callable[..., tuple[typing.Array, typing.Params]]
# Gradient of the embeddings -> that of the parameters.
Pull = Callable[[typing.Array], typing.Params]


def there(
  embed: Embed,
  params: typing.Params,
  images: typing.Array,
  *,
  parts: int,
  mesh: jax.sharding.Mesh,
) -> tuple[typing.Array, Pull, typing.Params]:
  """Embeds a batch; the way back is a function of the embeddings' gradient.

  With several parts only one of them has its activations in memory, and each is
  embedded a second time on the way back: four thirds of the work. A part is
  that many images in the order of the batch, split over all devices. The new
  statistics are the mean of the parts', each from the old ones: as those of
  groups of that size in one pass.

  Args:
    embed: the trunk; sees each part by itself.
    params: its parameters.
    images: uint8 [batch, height, width, 3], split over all devices.
    parts: how many; they divide the batch, and the devices a part.
    mesh: the devices.

  Returns:
    Embeddings [batch, dim], the way back, new statistics.
  """

  def embed_part(params: typing.Params, images: typing.Array, number: Any):
    with batch_norm.split_over(mesh):
      return embed(params, images, number)

  def with_way_back(images: typing.Array, number: Any):
    return jax.vjp(
      lambda params: embed_part(params, images, number), params, has_aux=True
    )

  if parts == 1:
    found, pull, stats = with_way_back(images, 0)
    return found, lambda gradient: pull(gradient)[0], stats

  split = functools.partial(_split, parts=parts, mesh=mesh)
  numbers, images = jnp.arange(parts), split(images)

  def pull_part(total: typing.Params, part: Any):
    number, images, gradient = part
    _, pull, _ = with_way_back(images, number)
    return optax.tree.add(total, pull(gradient)[0]), None

  def back(gradient: typing.Array) -> typing.Params:
    whole = numbers, images, split(gradient)
    return jax.lax.scan(pull_part, optax.tree.zeros_like(params), whole)[0]

  embeddings, stats = jax.lax.map(
    lambda part: embed_part(params, *part), (images, numbers)
  )
  stats = jax.tree.map(lambda leaf: leaf.mean(0), stats)
  return _joined(embeddings, mesh), back, stats


def in_parts(
  embed: Callable[[typing.Array], typing.Array],
  images: typing.Array,
  *,
  parts: int,
  mesh: jax.sharding.Mesh,
) -> typing.Array:
  """Embeds a batch that is not learnt from, no more of it at once than `there`.

  Args:
    embed: a frozen net.
    images: uint8 [batch, height, width, 3], split over all devices.
    parts: see `there`.
    mesh: the devices.

  Returns:
    Embeddings [batch, dim], without gradient.
  """
  if parts == 1:
    found = embed(images)
  else:
    split = _split(images, parts=parts, mesh=mesh)
    found = _joined(jax.lax.map(embed, split), mesh)
  return jax.lax.stop_gradient(found)


def _split(
  values: typing.Array, *, parts: int, mesh: jax.sharding.Mesh
) -> typing.Array:
  """[batch, …] to [parts, batch / parts, …], each part over all devices."""
  # Each device has an equal share of each part: images, which are bytes, and
  # embeddings move between them for it.
  where = mesh_lib.sharding(mesh, mesh_lib.PARTS)
  apart = values.reshape(parts, -1, *values.shape[1:])
  return jax.lax.with_sharding_constraint(apart, where)


def _joined(embeddings: typing.Array, mesh: jax.sharding.Mesh) -> typing.Array:
  """[parts, part, dim] to [batch, dim], split as a batch is."""
  return jax.lax.with_sharding_constraint(
    embeddings.reshape(-1, embeddings.shape[-1]),
    mesh_lib.sharding(mesh, mesh_lib.BATCH),
  )
