"""The training step and the embedding function, jitted over the mesh."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from facejax import goal as goal_lib
from facejax import mesh as mesh_lib
from facejax import train_state, typing
from facejax.head import centers as head_centers
from facejax.head import fused_update
from facejax.head import objective as objective_lib
from facejax.losses import center
from facejax.models import functional

# (prototypes, their optimizer state, embeddings, labels, *, key) -> the step.
HeadUpdate = Callable[..., fused_update.Update]
# (prototypes, embeddings, labels) -> [batch].
TargetCosine = Callable[..., typing.Array]
Metrics = dict[str, typing.Array]


def make_train_step(
  backbone: functional.Backbone,
  head_update: HeadUpdate,
  *,
  goal: goal_lib.Goal,
  target_cosine: TargetCosine,
  trunk_tx: optax.GradientTransformation,
  head_tx: optax.GradientTransformation,
  schedule: optax.Schedule,
  like: train_state.TrainState,
  mesh: jax.sharding.Mesh,
  seed: int,
  center_loss: goal_lib.CenterLoss | None = None,
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
  gradient_norm (of the trunk, before clipping), learning_rate, what the goal
  adds, and if asked for dropped (probability of the classes that got no
  gradient).

  The head takes its step between the trunk's forward and backward pass: from
  the embeddings it makes their gradient, and new prototypes on the way.
  """
  # Apart from the keys of the initial weights, which use the seed itself.
  root = jax.random.key(seed)
  dropout_key, head_key, goal_key = (
    jax.random.fold_in(root, purpose) for purpose in (1, 2, 3)
  )
  prepare = functools.partial(
    _prepare,
    goal=goal,
    target_cosine=target_cosine,
    center_loss=center_loss,
    key=goal_key,
    mesh=mesh,
  )

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
    (parameters, penalty), pull_goal, prepared = jax.vjp(
      functools.partial(prepare, state, labels),
      state.loss.weights,
      embeddings,
      has_aux=True,
    )
    head = head_update(
      state.prototypes,
      state.head_optimizer,
      embeddings,
      labels,
      parameters=parameters,
      key=jax.random.fold_in(head_key, state.step),
    )
    # The mean of the penalty counts like the mean of the loss.
    d_weights, d_embeddings = pull_goal(
      (head.d_parameters, jnp.full_like(penalty, 1 / penalty.size))
    )
    (gradient,) = pull(head.d_embeddings + d_embeddings)
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
      loss=goal_lib.advance(
        state.loss, d_weights, tx=head_tx, stats=prepared.stats
      )._replace(centers=_move(state, embeddings, labels, center_loss, mesh)),
    )
    metrics = {
      "loss": head.output.loss.mean() + penalty.mean(),
      "accuracy": head.output.correct.mean(),
      "target_cosine": head.output.target_cosine.mean(),
      "embedding_norm": jnp.linalg.norm(embeddings, axis=1).mean(),
      "gradient_norm": optax.tree.norm(gradient),
      "learning_rate": jnp.asarray(schedule(state.step)),
      **prepared.metrics,
    }
    if report_dropped:
      metrics["dropped"] = head.output.dropped.mean()
    return new_state, metrics

  placement = jax.tree.map(lambda leaf: leaf.sharding, like)
  replicated = mesh_lib.sharding(mesh, mesh_lib.REPLICATED)
  return jax.jit(step, donate_argnums=0, out_shardings=(placement, replicated))


def _prepare(
  state,
  labels,
  weights,
  embeddings,
  *,
  goal,
  target_cosine,
  center_loss,
  key,
  mesh,
):
  """(what the head needs, the penalty of each example), and the rest."""
  penalty = jnp.zeros_like(embeddings[:, 0])
  prepared = goal_lib.Prepared(objective_lib.Parameters())
  if goal.prepare is not None:
    cosine = None
    if goal.needs_target:
      cosine = target_cosine(
        state.prototypes, jax.lax.stop_gradient(embeddings), labels
      )
    batch = goal_lib.Batch(
      embeddings, cosine, state.step, jax.random.fold_in(key, state.step)
    )
    prepared = goal.prepare(weights, state.loss.stats, batch)
  if prepared.penalty is not None:
    penalty = penalty + prepared.penalty
  if center_loss is not None:
    own = head_centers.take(state.loss.centers, labels, mesh=mesh)
    far = center.center_loss(embeddings, own)
    penalty = penalty + center_loss.weight * far
    metrics = {**prepared.metrics, "center_loss": far.mean()}
    prepared = prepared._replace(metrics=jax.lax.stop_gradient(metrics))
  return (prepared.parameters, penalty), prepared._replace(
    parameters=None, penalty=None
  )


def _move(state, embeddings, labels, center_loss, mesh):
  """The centres of the center loss after this batch."""
  if center_loss is None:
    return None
  return head_centers.update(
    state.loss.centers, embeddings, labels, rate=center_loss.rate, mesh=mesh
  )


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
