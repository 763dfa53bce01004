"""A net as a function of images, jitted over the mesh."""

from collections.abc import Callable

import jax

from facejax.models import functional
from facejax.runtime import jit, typing
from facejax.runtime import mesh as mesh_lib


def make_embed(
  backbone: functional.Backbone, *, mesh: jax.sharding.Mesh, flip: bool = True
) -> Callable[[typing.Params, typing.Params, typing.Array], typing.Array]:
  """The jitted (params, stats, images) -> embeddings, mirror image included.

  Embeddings of the image and of its mirror image are summed, as the field
  reports verification; they are not normalised. Without `flip` they are those
  of the image alone.

  References:
    Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face
      Recognition, 2019 (and its public evaluation code).
  """

  def embed(params, stats, images):
    views = (images, images[:, :, ::-1]) if flip else (images,)
    total = 0.0
    for view in views:
      embeddings, _ = backbone.apply(params, stats, view, train=False)
      total = total + embeddings
    return total

  return jit.jit(
    embed,
    mesh=mesh,
    out_shardings=mesh_lib.sharding(mesh, mesh_lib.REPLICATED),
  )


def make_draws(
  backbone: functional.Backbone,
  *,
  mesh: jax.sharding.Mesh,
  draws: int,
  seed: int = 0,
) -> Callable[[typing.Params, typing.Params, typing.Array], typing.Array]:
  """The jitted (params, stats, images) -> embeddings under dropout.

  Every image sees the same draws of what is dropped, alone and with running
  statistics: [batch, draws * dim], float32. What does not follow the draw is
  computed once an image.

  Args:
    backbone: the net, built with dropout.
    mesh: the devices.
    draws: how many.
    seed: of them.
  """

  def embed(params, stats, images):
    keys = jax.random.split(jax.random.key(seed), draws)

    def drawn(image, key):
      embeddings, _ = backbone.apply(
        params, stats, image[None], train=False, dropout_key=key
      )
      return embeddings[0]

    of_image = jax.vmap(drawn, in_axes=(None, 0))
    found = jax.vmap(of_image, in_axes=(0, None))(images, keys)
    return found.reshape(len(images), -1)

  return jit.jit(
    embed,
    mesh=mesh,
    out_shardings=mesh_lib.sharding(mesh, mesh_lib.REPLICATED),
  )
