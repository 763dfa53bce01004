"""The training step, jitted over the mesh."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from facejax.models import functional
from facejax.runtime import gating, jit, typing
from facejax.runtime import mesh as mesh_lib
from facejax.training import extra_terms, passes
from facejax.training import state as train_state
from facejax.training.objectives import step as loss_step_lib

Metrics = dict[str, typing.Array]
# (the average so far, new weights, new state of their optimizer) -> the average.
Average = Callable[
  [typing.Params, typing.Params, optax.OptState], typing.Params
]


def make_train_step(
  backbone: functional.Backbone,
  loss_step: loss_step_lib.LossStep,
  *,
  trunk_tx: optax.GradientTransformation,
  schedules: Mapping[str, optax.Schedule],
  like: train_state.TrainState,
  mesh: jax.sharding.Mesh,
  seed: int,
  accumulate: int = 1,
  average: Average | None = None,
  terms: Sequence[extra_terms.Gradient] = (),
  skip_nonfinite: bool = False,
) -> Callable[..., tuple[train_state.TrainState, Metrics]]:
  """The jitted update: (state, images, labels) -> (state, metrics).

  Images are uint8 [batch, height, width, 3] and labels int32 [batch], both
  split over all devices. `like` is the abstract state, whose placement the
  result keeps. The given state is donated. Metrics are scalars on the devices,
  so that a step waits for nothing: those of the loss, embedding_norm,
  gradient_norm (of the trunk, before clipping), learning rates.

  The loss takes its step between the trunk's forward and backward pass: from
  the embeddings it makes their gradient, and new prototypes on the way.

  Args:
    backbone: the net.
    loss_step: of `facejax.training.objectives.step`.
    trunk_tx: the net's optimizer.
    schedules: learning rates by step, to be logged by these names.
    like: see above.
    mesh: the devices.
    seed: of dropout.
    accumulate: parts of the batch that go through the net one after the other,
      see `passes`.
    average: how the average of the weights that is verified goes on; None for
      none.
    terms: of other runs; the step has an argument more for each, what is
      frozen of it.
    skip_nonfinite: where the loss or the norm of the gradient is not finite the
      trunk and what the loss carries stay as they are; the loss step sees to
      prototypes and centres, by the loss alone. Adds the metric skipped, 0 or 1.
  """
  # Apart from the keys of the initial weights, which use the seed itself.
  dropout_key = jax.random.fold_in(jax.random.key(seed), 1)

  def step(state, images, labels, *frozen):
    def embed(params, images, part):
      key = jax.random.fold_in(dropout_key, state.step)
      return backbone.apply(
        params,
        state.stats,
        images,
        train=True,
        dropout_key=jax.random.fold_in(key, part) if accumulate > 1 else key,
      )

    embeddings, pull, stats = passes.there(
      embed, state.params, images, parts=accumulate, mesh=mesh
    )
    done = loss_step(state, embeddings, labels)
    d_embeddings, told = done.d_embeddings, {}
    for term, arrays in zip(terms, frozen, strict=True):
      more, numbers = term(images, embeddings, labels, arrays)
      d_embeddings, told = d_embeddings + more, told | numbers
    gradient = pull(d_embeddings)
    updates, trunk_optimizer = trunk_tx.update(
      gradient, state.trunk_optimizer, state.params
    )
    params = optax.apply_updates(state.params, updates)
    new_state = train_state.TrainState(
      step=state.step + 1,
      params=params,
      stats=stats,
      average=average and average(state.average, params, trunk_optimizer),
      trunk_optimizer=trunk_optimizer,
      prototypes=done.prototypes,
      head_optimizer=done.head_optimizer,
      loss=done.loss,
    )
    metrics = {
      **done.metrics,
      **told,
      "embedding_norm": jnp.linalg.norm(embeddings, axis=1).mean(),
      "gradient_norm": optax.tree.norm(gradient),
      **{n: jnp.asarray(rate(state.step)) for n, rate in schedules.items()},
    }
    if skip_nonfinite:
      good = jnp.isfinite(metrics["loss"] + metrics["gradient_norm"])
      new_state = _left_unless(good, new_state, state)
      metrics["skipped"] = 1.0 - good.astype(jnp.float32)
    return new_state, metrics

  placement = jax.tree.map(lambda leaf: leaf.sharding, like)
  replicated = mesh_lib.sharding(mesh, mesh_lib.REPLICATED)
  return jit.jit(
    step,
    mesh=mesh,
    donate_argnums=0,
    out_shardings=(placement, replicated),
  )


def _left_unless(
  good: typing.Array,
  new: train_state.TrainState,
  old: train_state.TrainState,
) -> train_state.TrainState:
  """The new state where `good`, else the old, but for what is kept by class."""
  kept: Any = gating.taken_if(
    good,
    (new.params, new.stats, new.average, new.trunk_optimizer),
    (old.params, old.stats, old.average, old.trunk_optimizer),
  )
  params, stats, average, trunk_optimizer = kept
  loss = gating.taken_if(
    good, new.loss._replace(centers=None), old.loss._replace(centers=None)
  )
  return dataclasses.replace(
    new,
    params=params,
    stats=stats,
    average=average,
    trunk_optimizer=trunk_optimizer,
    loss=loss._replace(centers=new.loss.centers),
  )
