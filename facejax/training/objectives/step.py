"""A training step between embeddings and their gradient: the loss's part."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from facejax.head import centers as head_centers
from facejax.head import fused_update
from facejax.head import objective as objective_lib
from facejax.losses import center
from facejax.runtime import typing, unit_vectors
from facejax.training import state as train_state
from facejax.training.objectives import definition as goal_lib

# (prototypes, their optimizer state, embeddings, labels, *, parameters, key).
HeadUpdate: TypeAlias = Callable[..., fused_update.Update]
# (prototypes, embeddings, labels) -> [batch].
TargetCosine: TypeAlias = Callable[..., typing.Array]
# (embeddings, labels, *, key) -> the loss and scalars to be logged.
PairLoss: TypeAlias = Callable[..., tuple[typing.Array, goal_lib.Numbers]]


class Done(NamedTuple):
  """What the loss made of a batch.

  Attributes:
    d_embeddings: [batch, dim], gradient of the mean loss.
    prototypes: after the step; None for a loss without classes.
    head_optimizer: likewise.
    loss: what it carries.
    metrics: scalars.
  """

  d_embeddings: typing.Array
  prototypes: typing.Array | None
  head_optimizer: Any
  loss: goal_lib.State
  metrics: goal_lib.Numbers


LossStep: TypeAlias = Callable[
  [train_state.TrainState, typing.Array, typing.Array], Done
]


def within_batch(pair_loss: PairLoss, *, seed: int) -> LossStep:
  """The step of a loss that compares the embeddings of a batch."""
  key = jax.random.fold_in(jax.random.key(seed), 3)

  def step(state, embeddings, labels):
    def value(embeddings):
      return pair_loss(
        embeddings, labels, key=jax.random.fold_in(key, state.step)
      )

    (loss, metrics), d_embeddings = jax.value_and_grad(value, has_aux=True)(
      embeddings
    )
    centre = unit_vectors.l2_normalize(embeddings).mean(axis=0)
    # 0 where all embeddings are the same.
    spread = 1 - jnp.linalg.norm(centre)
    return Done(
      d_embeddings,
      None,
      None,
      state.loss,
      {"loss": loss, "spread": spread, **metrics},
    )

  return step


def over_classes(
  head_update: HeadUpdate,
  *,
  goal: goal_lib.Goal,
  target_cosine: TargetCosine,
  head_tx: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
  seed: int,
  center_loss: goal_lib.CenterLoss | None = None,
  report_dropped: bool = False,
) -> LossStep:
  """The step of a loss over classes, with its head.

  Metrics: loss, accuracy (share of the batch whose own class is nearest),
  target_cosine, what the goal adds, and if asked for dropped (probability of
  the classes that got no gradient).
  """
  root = jax.random.key(seed)
  head_key, goal_key = (jax.random.fold_in(root, n) for n in (2, 3))
  prepare = functools.partial(
    _prepare,
    goal=goal,
    target_cosine=target_cosine,
    center_loss=center_loss,
    key=goal_key,
    mesh=mesh,
  )

  def step(state, embeddings, labels):
    (parameters, penalty), pull, prepared = jax.vjp(
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
    d_weights, d_embeddings = pull(
      (head.d_parameters, jnp.full_like(penalty, 1 / penalty.size))
    )
    loss = goal_lib.advance(
      state.loss, d_weights, tx=head_tx, stats=prepared.stats
    )
    metrics = {
      "loss": head.output.loss.mean() + penalty.mean(),
      "accuracy": head.output.correct.mean(),
      "target_cosine": head.output.target_cosine.mean(),
      **prepared.metrics,
    }
    if report_dropped:
      metrics["dropped"] = head.output.dropped.mean()
    return Done(
      d_embeddings=head.d_embeddings + d_embeddings,
      prototypes=head.prototypes,
      head_optimizer=head.opt_state,
      loss=loss._replace(
        centers=_move(state, embeddings, labels, center_loss, mesh)
      ),
      metrics=metrics,
    )

  return step


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
      embeddings, cosine, jax.random.fold_in(key, state.step)
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
