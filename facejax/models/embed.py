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
