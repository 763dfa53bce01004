"""A step of the head with the gradient of all prototypes: the specification.

`fused_update` does the same without ever holding that gradient.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from facejax.head import objective as objective_lib
from facejax.runtime import gating, typing


class HeadState(NamedTuple):
  """What a step of the head changes.

  Attributes:
    prototypes: [rows, (k,) dim], float32 or bits (see `storage`),
      sharded P("model").
    optimizer: their optimizer state; leaves with class rows are sharded alike,
      and float32 or bits.
  """

  prototypes: typing.Array
  optimizer: optax.OptState


class Update(NamedTuple):
  """A step of the head.

  Attributes:
    output: the values of each example, before the step.
    d_embeddings: [batch, dim], gradient of their mean loss.
    d_parameters: the same for the parameters of the objective.
    state: after the step.
  """

  output: objective_lib.HeadOutput
  d_embeddings: typing.Array
  d_parameters: objective_lib.Parameters
  state: HeadState


def value_and_update(
  loss: Callable[..., objective_lib.HeadOutput],
  state: HeadState,
  embeddings: typing.Array,
  parameters: objective_lib.Parameters,
  *,
  tx: optax.GradientTransformation,
  finite_with: typing.Array | None = None,
) -> Update:
  """One step on the mean loss of a batch: gradient, then `tx.update`.

  Args:
    loss: (prototypes, embeddings, parameters) -> values of each example.
    state: float32.
    embeddings: [batch, dim].
    parameters: of the objective.
    tx: the optimizer; it may mix classes.
    finite_with: see `api.Head.update`.
  """

  def mean_loss(
    prototypes: typing.Array,
    embeddings: typing.Array,
    parameters: objective_lib.Parameters,
  ) -> tuple[typing.Array, objective_lib.HeadOutput]:
    output = loss(prototypes, embeddings, parameters)
    return output.loss.mean(), output

  # dL/dW [rows, (k,) dim]: as large as the prototypes, and held as a whole.
  gradients, output = jax.grad(mean_loss, (0, 1, 2), has_aux=True)(
    state.prototypes, embeddings, parameters
  )
  d_prototypes, d_embeddings, d_parameters = gradients
  # All classes at once, so that even a global norm can be clipped.
  updates, optimizer = tx.update(
    d_prototypes, state.optimizer, state.prototypes
  )
  moved: Any = optax.apply_updates(state.prototypes, updates)
  after = HeadState(moved, optimizer)
  if finite_with is not None:
    good = jnp.isfinite(output.loss.mean() + finite_with)
    after = gating.taken_if(good, after, state)
  return Update(output, d_embeddings, d_parameters, after)
