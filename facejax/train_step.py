"""The training step and the embedding function, jitted over the mesh."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from facejax import mesh as mesh_lib
from facejax import train_state, typing
from facejax.head import fused_update
from facejax.models import functional

# (prototypes, their optimizer state, embeddings, labels, *, key) -> the step.
HeadUpdate = Callable[..., fused_update.Update]
Metrics = dict[str, typing.Array]


def make_train_step(
  backbone: functional.Backbone,
  head_update: HeadUpdate,
  *,
  trunk_tx: optax.GradientTransformation,
  schedule: optax.Schedule,
  like: train_state.TrainState,
  mesh: jax.sharding.Mesh,
  seed: int,
  report_dropped: bool = False,
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
  gradient_norm (of the trunk, before clipping), learning_rate, and if
  asked for dropped (probability of the classes that got no gradient).

  The head takes its step between the trunk's forward and backward pass: from
  the embeddings it makes their gradient, and new prototypes on the way.
  """
  # Apart from the keys of the initial weights, which use the seed itself.
  dropout_key = jax.random.fold_in(jax.random.key(seed), 1)
  head_key = jax.random.fold_in(jax.random.key(seed), 2)

  def step(state, images, labels):
    def embed(params):
      return backbone.apply(
        params,
        state.stats,
        images,
        train=True,
        dropout_key=jax.random.fold_in(dropout_key, state.step),
      )

    embeddings, pull, stats = jax.vjp(embed, state.params, has_aux=True)
    head = head_update(
      state.prototypes,
      state.head_optimizer,
      embeddings,
      labels,
      key=jax.random.fold_in(head_key, state.step),
    )
    (gradient,) = pull(head.d_embeddings)
    updates, trunk_optimizer = trunk_tx.update(
      gradient, state.trunk_optimizer, state.params
    )
    new_state = train_state.TrainState(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      stats=stats,
      prototypes=head.prototypes,
      trunk_optimizer=trunk_optimizer,
      head_optimizer=head.opt_state,
    )
    metrics = {
      "loss": head.output.loss.mean(),
      "accuracy": head.output.correct.mean(),
      "target_cosine": head.output.target_cosine.mean(),
      "embedding_norm": jnp.linalg.norm(embeddings, axis=1).mean(),
      "gradient_norm": optax.tree.norm(gradient),
      "learning_rate": jnp.asarray(schedule(state.step)),
    }
    if report_dropped:
      metrics["dropped"] = head.output.dropped.mean()
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
