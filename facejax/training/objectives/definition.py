"""What a training step minimises, and what the loss carries between steps."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from facejax.head import objective as objective_lib
from facejax.runtime import typing

Numbers = dict[str, typing.Array]


class Batch(NamedTuple):
  """What a loss may look at before the head takes its step.

  Attributes:
    embeddings: [batch, dim], not normalised.
    target_cosine: [batch], cos theta_y without margin; no gradient. None
      unless `Goal.needs_target`.
    key: of this step.
  """

  embeddings: typing.Array
  target_cosine: typing.Array | None
  key: typing.PRNGKey


class Prepared(NamedTuple):
  """What a loss makes of a batch.

  Attributes:
    parameters: of the objective, for each example; gradients flow back
      through them to embeddings and to the loss's own weights.
    stats: the running numbers after this batch.
    penalty: [batch], added to the loss; or None.
    metrics: scalars to be logged.
  """

  parameters: objective_lib.Parameters
  stats: Numbers = {}  # noqa: RUF012, never written to
  penalty: typing.Array | None = None
  metrics: Numbers = {}  # noqa: RUF012


@dataclasses.dataclass(frozen=True)
class Goal:
  """A loss as it is trained; static.

  Attributes:
    objective: what the head minimises.
    weights: start of numbers that are learnt with the prototypes.
    stats: start of running numbers.
    prepare: (weights, stats, batch) -> what the head needs of a batch; None
      for a loss that is a function of cosines alone.
    needs_target: whether `prepare` looks at the target's cosine.
    centers: sub-centres a class.
  """

  objective: objective_lib.Objective
  weights: dict[str, float] = dataclasses.field(default_factory=dict)
  stats: dict[str, float] = dataclasses.field(default_factory=dict)
  prepare: Callable[[Numbers, Numbers, Batch], Prepared] | None = None
  needs_target: bool = False
  centers: int = 1


class State(NamedTuple):
  """What a loss carries from step to step; part of the train state.

  Attributes:
    weights: learnt numbers.
    optimizer: their optimizer state.
    stats: running numbers.
    centers: [rows, dim], centres of the center loss, split by class; or None.
  """

  weights: Numbers
  optimizer: optax.OptState
  stats: Numbers
  centers: typing.Array | None


@dataclasses.dataclass(frozen=True)
class CenterLoss:
  """The center loss beside a goal: weight lambda > 0, rate alpha."""

  weight: float
  rate: float


def init(
  goal: Goal | None,
  *,
  tx: optax.GradientTransformation,
  dtype: Any,
  centers: tuple[int, int] | None = None,
) -> State:
  """The state at step 0; centres of that shape start at 0, as published."""

  def numbers(values):
    return {name: jnp.asarray(v, dtype) for name, v in values.items()}

  weights = numbers(goal.weights if goal else {})
  return State(
    weights=weights,
    optimizer=tx.init(weights),
    stats=numbers(goal.stats if goal else {}),
    centers=None if centers is None else jnp.zeros(centers, dtype),
  )


def advance(
  state: State,
  gradient: Numbers,
  *,
  tx: optax.GradientTransformation,
  stats: Numbers,
) -> State:
  """The state after a step; the centres stay as they are."""
  updates, optimizer = tx.update(gradient, state.optimizer, state.weights)
  weights: Any = optax.apply_updates(state.weights, updates)
  return state._replace(weights=weights, optimizer=optimizer, stats=stats)


def chance_loss(goal: Goal, *, num_classes: int) -> float:
  """The loss of a net that has learnt nothing: where all cosines are 0.

  >>> from facejax.losses import margins
  >>> goal = Goal(objective_lib.Objective(margins.nsl, 64.0))
  >>> round(chance_loss(goal, num_classes=1183), 4) == round(math.log(1183), 4)
  True
  """
  objective = goal.objective
  # Two unit vectors: a standard deviation of norms needs more than one.
  units = jnp.eye(2)
  nothing = jnp.zeros(2)
  prepared = Prepared(objective_lib.Parameters())
  if goal.prepare is not None:
    state = init(goal, tx=optax.identity(), dtype=jnp.float32)
    batch = Batch(units, nothing, jax.random.key(0))
    prepared = goal.prepare(state.weights, state.stats, batch)
  _, lengths = dataclasses.replace(objective, bias=False).queries(units)
  other = objective.others(
    nothing, lengths, nothing, prepared.parameters.negative
  )
  if objective.one_vs_all is not None:
    others = (num_classes - 1) * jax.nn.softplus(other)
  else:
    others = math.log(num_classes - 1) + other
  loss = objective.loss(
    others, nothing, lengths, jnp.ones(2), prepared.parameters.margin
  )
  return float(loss.mean())
