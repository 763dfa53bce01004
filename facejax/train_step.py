"""The training step and the embedding function, jitted over the mesh."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from facejax import mesh as mesh_lib
from facejax import train_state, typing
from facejax.head import reference
from facejax.models import functional

# (prototypes, embeddings, labels) -> values for each example.
HeadLoss = Callable[
  [typing.Array, typing.Array, typing.Array], reference.HeadOutput
]
Metrics = dict[str, typing.Array]


def make_train_step(
  backbone: functional.Backbone,
  head_loss: HeadLoss,
  *,
  trunk_tx: optax.GradientTransformation,
  head_tx: optax.GradientTransformation,
  schedule: optax.Schedule,
  like: train_state.TrainState,
  mesh: jax.sharding.Mesh,
  seed: int,
) -> Callable[
  [train_state.TrainState, typing.Array, typing.Array],
  tuple[train_state.TrainState, Metrics],
]:
  """The jitted update: (state, images, labels) -> (state, metrics).

  Images are uint8 [batch, height, width, 3] and labels int32 [batch], both
  split over all devices. `like` is the abstract state, whose placement the
  result keeps. The given state is donated. Metrics are scalars on
  the devices, so that a step waits for nothing: loss, accuracy (share of the
  batch whose own class is nearest), target_cosine, embedding_norm,
  gradient_norm (of the trunk, before clipping) and learning_rate.
  """
  # Apart from the keys of the initial weights, which use the seed itself.
  dropout_key = jax.random.fold_in(jax.random.key(seed), 1)

  def loss_fn(params, prototypes, state, images, labels):
    embeddings, stats = backbone.apply(
      params,
      state.stats,
      images,
      train=True,
      dropout_key=jax.random.fold_in(dropout_key, state.step),
    )
    output = head_loss(prototypes, embeddings, labels)
    norms = jnp.linalg.norm(jax.lax.stop_gradient(embeddings), axis=1)
    metrics = {
      "loss": output.loss.mean(),
      "accuracy": output.correct.mean(),
      "target_cosine": output.target_cosine.mean(),
      "embedding_norm": norms.mean(),
    }
    return metrics["loss"], (stats, metrics)

  def step(state, images, labels):
    gradients, (stats, metrics) = jax.grad(loss_fn, (0, 1), has_aux=True)(
      state.params, state.prototypes, state, images, labels
    )
    trunk_updates, trunk_optimizer = trunk_tx.update(
      gradients[0], state.trunk_optimizer, state.params
    )
    head_updates, head_optimizer = head_tx.update(
      gradients[1], state.head_optimizer, state.prototypes
    )
    metrics["gradient_norm"] = optax.tree.norm(gradients[0])
    metrics["learning_rate"] = jnp.asarray(schedule(state.step))
    prototypes: Any = optax.apply_updates(state.prototypes, head_updates)
    new_state = train_state.TrainState(
      step=state.step + 1,
      params=optax.apply_updates(state.params, trunk_updates),
      stats=stats,
      prototypes=prototypes,
      trunk_optimizer=trunk_optimizer,
      head_optimizer=head_optimizer,
    )
    return new_state, metrics

  placement = jax.tree.map(lambda leaf: leaf.sharding, like)
  replicated = mesh_lib.sharding(mesh, mesh_lib.REPLICATED)
  return jax.jit(step, donate_argnums=0, out_shardings=(placement, replicated))


def make_embed(
  backbone: functional.Backbone, *, mesh: jax.sharding.Mesh
) -> Callable[[typing.Params, typing.Params, typing.Array], typing.Array]:
  """The jitted (params, stats, images) -> embeddings, mirror image included.

  Embeddings of the image and of its mirror image are summed, as the field
  reports verification; they are not normalised.

  References:
    Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face
      Recognition, 2019 (and its public evaluation code).
  """

  def embed(params, stats, images):
    total = 0.0
    for view in (images, images[:, :, ::-1]):
      embeddings, _ = backbone.apply(params, stats, view, train=False)
      total = total + embeddings
    return total

  return jax.jit(
    embed, out_shardings=mesh_lib.sharding(mesh, mesh_lib.REPLICATED)
  )
