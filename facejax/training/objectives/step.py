"""A training step between embeddings and their gradient: the loss's part."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from facejax.head import api as head_api
from facejax.head import centers as head_centers
from facejax.head import objective as objective_lib
from facejax.losses import center
from facejax.runtime import typing, unit_vectors
from facejax.training import state as train_state
from facejax.training.objectives import definition as definition_lib
from facejax.training.objectives import memory as memory_lib


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
  loss: definition_lib.LossState
  metrics: definition_lib.Numbers


LossStep: TypeAlias = Callable[
  [train_state.TrainState, typing.Array, typing.Array], Done
]


def within_batch(
  loss_of: definition_lib.BatchLoss, *, seed: int, memory_from: int = 0
) -> LossStep:
  """The step of a loss that compares the embeddings of a batch.

  Metrics: loss, spread (0 where all embeddings are the same), what it adds.

  Where the state has a memory, it gives partners from step `memory_from` on,
  and the batch is written into it afterwards.
  """
  key = jax.random.fold_in(jax.random.key(seed), 3)

  def step(
    state: train_state.TrainState,
    embeddings: typing.Array,
    labels: typing.Array,
  ) -> Done:
    memory, more = state.loss.memory, {}
    if memory is not None:
      used = state.step >= memory_from
      more["past"] = memory_lib.past(memory, used=used)

    def value(
      embeddings: typing.Array,
    ) -> tuple[typing.Array, definition_lib.Numbers]:
      # Its choice of partners may be drawn, anew in each step.
      return loss_of(
        embeddings, labels, key=jax.random.fold_in(key, state.step), **more
      )

    (loss, metrics), d_embeddings = jax.value_and_grad(value, has_aux=True)(
      embeddings
    )
    # 1 - ||mean_i u_i||
    centre = unit_vectors.l2_normalize(embeddings).mean(axis=0)
    spread = 1 - jnp.linalg.norm(centre)
    metrics = {"loss": loss, "spread": spread, **metrics}
    carried = state.loss
    if memory is not None:
      new = memory_lib.remember(memory, embeddings, labels)
      carried = carried._replace(memory=new)
    return Done(d_embeddings, None, None, carried, metrics)

  return step


def over_classes(
  head: head_api.Head,
  *,
  definition: definition_lib.Definition,
  seed: int,
  center_loss: definition_lib.CenterLoss | None = None,
  skip_nonfinite: bool = False,
) -> LossStep:
  """The step of a loss over classes, with its head.

  With the head's loss L_i and a penalty r_i of each example, it minimises
  mean_i (L_i + r_i). The head gives the gradient of its own part, for
  embeddings and for the parameters m_i = m(w, x_i) of each example; what w, the
  loss's own weights, and x get through m and r is added by the chain rule.

  Metrics: loss, accuracy (share of the batch whose own class is nearest),
  target_cosine, what the definition adds, of a sparse head dropped (probability
  of the classes that got no gradient), and of a sparse softmax support (classes
  that have any), of which no head drops one.

  With `skip_nonfinite`, prototypes, their optimizer state and centres stay as
  they are where the loss is not finite; the rest of what it carries does not.
  """
  root = jax.random.key(seed)
  # Apart from each other and from the keys of weights and dropout.
  head_key, loss_key = (jax.random.fold_in(root, n) for n in (2, 3))
  prepare = functools.partial(
    _prepare,
    definition=definition,
    head=head,
    center_loss=center_loss,
    key=loss_key,
  )

  return functools.partial(
    _step,
    head=head,
    prepare=prepare,
    center_loss=center_loss,
    key=head_key,
    skip_nonfinite=skip_nonfinite,
  )


def _step(
  state: train_state.TrainState,
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  head: head_api.Head,
  prepare: Callable[..., Any],
  center_loss: definition_lib.CenterLoss | None,
  key: typing.PRNGKey,
  skip_nonfinite: bool,
) -> Done:
  """A step of `over_classes`; `prepare` is `_prepare` with its options."""
  # m_i and r_i, and how to pull their gradients back to w and x.
  (parameters, penalty), pull, prepared = jax.vjp(
    functools.partial(prepare, state, labels),
    state.loss.weights,
    embeddings,
    has_aux=True,
  )
  # L_i, d mean(L) / dx at fixed m, d mean(L) / dm, and the new prototypes.
  done = head.update(
    _head_state(state),
    embeddings,
    labels,
    parameters=parameters,
    key=jax.random.fold_in(key, state.step),
    finite_with=penalty.mean() if skip_nonfinite else None,
  )
  # dw and the rest of dx: through m by the head's gradient for it, through r by
  # 1 / batch, for the mean of the penalty counts like that of the loss.
  d_weights, d_embeddings = pull(
    (done.d_parameters, jnp.full_like(penalty, 1 / penalty.size))
  )
  # The loss's own weights move with the optimizer of the prototypes.
  tx: Any = head.tx
  loss = definition_lib.advance(
    state.loss, d_weights, tx=tx, stats=prepared.stats
  )
  if skip_nonfinite and center_loss is not None:
    # No centre follows an image without a class.
    good = jnp.isfinite(done.output.loss.mean() + penalty.mean())
    labels = jnp.where(good, labels, -1)
  # Centres are no part of the gradient: they follow their classes.
  centers = _move(state, embeddings, labels, center_loss, head)
  return Done(
    d_embeddings=done.d_embeddings + d_embeddings,
    prototypes=done.state.prototypes,
    head_optimizer=done.state.optimizer,
    loss=loss._replace(centers=centers),
    metrics={
      "loss": done.output.loss.mean() + penalty.mean(),
      **_metrics(head, done.output),
      **prepared.metrics,
    },
  )


def _metrics(
  head: head_api.Head, output: objective_lib.HeadOutput
) -> definition_lib.Numbers:
  """What the head tells of a batch beside the loss; see `over_classes`."""
  metrics = {
    "accuracy": output.correct.mean(),
    "target_cosine": output.target_cosine.mean(),
  }
  if output.support is not None:
    metrics["support"] = output.support.mean()
  elif head.implementation == "sparse":
    metrics["dropped"] = output.dropped.mean()
  return metrics


def _head_state(state: train_state.TrainState) -> head_api.HeadState:
  """The head's part of a train state, which must have one."""
  assert state.prototypes is not None and state.head_optimizer is not None
  return head_api.HeadState(state.prototypes, state.head_optimizer)


def _prepare(
  state: train_state.TrainState,
  labels: typing.Array,
  weights: definition_lib.Numbers,
  embeddings: typing.Array,
  *,
  definition: definition_lib.Definition,
  head: head_api.Head,
  center_loss: definition_lib.CenterLoss | None,
  key: typing.PRNGKey,
) -> tuple[
  tuple[objective_lib.Parameters, typing.Array], definition_lib.Prepared
]:
  """What depends on a batch beside the head: its parameters, and the penalty.

  Differentiated with respect to `weights` and `embeddings`.

  Args:
    state: before the step.
    labels: int [batch].
    weights: w, numbers that the loss learns.
    embeddings: x [batch, dim], not normalised.
    definition, center_loss: the loss, and the one beside it.
    head: for the cosine of the target.
    key: of the run.

  Returns:
    (m_i, r_i [batch]), and running numbers and metrics, without gradient.
  """
  penalty = jnp.zeros_like(embeddings[:, 0])
  prepared = definition_lib.Prepared(objective_lib.Parameters())
  if definition.prepare is not None:
    cosine = None
    if definition.needs_target:
      # cos theta_y before the step: the rows of the batch's classes alone. A
      # margin depends on its value; its gradient is not followed.
      held = jax.lax.stop_gradient(embeddings)
      cosine = head.target_cosine(_head_state(state).prototypes, held, labels)
    # m_i from norms, cosines, running numbers or chance, as the paper has it.
    batch = definition_lib.Batch(
      embeddings, cosine, jax.random.fold_in(key, state.step), state.step
    )
    prepared = definition.prepare(weights, state.loss.stats, batch)
  # r_i = the loss's own penalty + lambda ||x_i - c_y||^2 / 2.
  if prepared.penalty is not None:
    penalty = penalty + prepared.penalty
  if center_loss is not None:
    assert state.loss.centers is not None
    own = head_centers.take(state.loss.centers, labels, mesh=head.mesh)
    far = center.center_loss(embeddings, own)
    # Who has no class has no centre.
    known = objective_lib.has_class(labels, head.num_classes)
    far = jnp.where(known, far, 0)
    penalty = penalty + center_loss.weight * far
    metrics = {**prepared.metrics, "center_loss": far.mean()}
    prepared = prepared._replace(metrics=jax.lax.stop_gradient(metrics))
  # What is differentiated stands apart from what jax.vjp is to hand through.
  rest = prepared._replace(parameters=None, penalty=None)
  return (prepared.parameters, penalty), rest


def _move(
  state: train_state.TrainState,
  embeddings: typing.Array,
  labels: typing.Array,
  center_loss: definition_lib.CenterLoss | None,
  head: head_api.Head,
) -> typing.Array | None:
  """The centres of the center loss after this batch."""
  if center_loss is None:
    return None
  assert state.loss.centers is not None
  # c_j <- c_j - alpha sum_{y_i = j} (c_j - x_i) / (1 + n_j)
  rate, mesh = center_loss.rate, head.mesh
  return head_centers.update(
    state.loss.centers, embeddings, labels, rate=rate, mesh=mesh
  )
