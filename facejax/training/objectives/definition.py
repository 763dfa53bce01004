"""What a loss is to the trainer, and what it carries between steps.

A loss of the configuration is a class with one of two bases. `OverClasses`
compares embeddings with the prototypes of classes and gives a `Definition`;
`WithinBatch` compares the embeddings of a batch and gives a function.
"""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from facejax.head import objective as objective_lib
from facejax.losses import alpha
from facejax.runtime import typing
from facejax.training.objectives import memory as memory_lib

Numbers = dict[str, typing.Array]
# (embeddings, labels, *, key) -> the loss and scalars to be logged.
BatchLoss: TypeAlias = Callable[..., tuple[typing.Array, Numbers]]


class Batch(NamedTuple):
  """What a loss may look at before the head takes its step.

  Attributes:
    embeddings: [batch, dim], not normalised.
    target_cosine: [batch], cos theta_y without margin; no gradient. None
      unless `Definition.needs_target`.
    key: of this step.
    step: updates done before it.
  """

  embeddings: typing.Array
  target_cosine: typing.Array | None
  key: typing.PRNGKey
  step: typing.Array | int = 0


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
class Definition:
  """A loss over classes as it is trained; static.

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


class Loss(abc.ABC):
  """What every loss of the configuration tells about itself.

  Attributes:
    name: in recipes, messages and config.json.
    needs_lengths: whether it learns from the embeddings' lengths, so that a
      net must not end in a normalisation.
  """

  name: ClassVar[str]
  needs_lengths: ClassVar[bool] = False

  def check(self) -> None:  # noqa: B027, most have nothing to refuse
    """Refuses fields that contradict each other; ranges are seen to before.

    Raises:
      ValueError: naming the fields.
    """

  def advice(self, *, num_classes: int, dim: int) -> list[str]:
    """What theory says against these settings; usually nothing.

    Args:
      num_classes: C.
      dim: size of the embeddings.
    """
    del num_classes, dim
    return []


class OverClasses(Loss):
  """A loss between embeddings and the prototypes of classes.

  Attributes:
    has_probabilities: whether it is a softmax, whose probabilities say which
      classes matter; not so where each class answers on its own.
    needs_table: whether it looks at all cosines at once, so that only a dense
      head will do.
    is_sparse: whether its softmax gives most classes no probability: their
      gradients are 0, and a head need not choose among them.
  """

  has_probabilities: ClassVar[bool] = True
  needs_table: ClassVar[bool] = False
  is_sparse: ClassVar[bool] = False

  @abc.abstractmethod
  def definition(self, num_classes: int) -> Definition:
    """What is trained, over this many classes."""


class WithinBatch(Loss):
  """A loss between the embeddings of a batch, without prototypes.

  Attributes:
    takes_past: whether its function takes `past`, partners of earlier batches.
  """

  takes_past: ClassVar[bool] = False

  @abc.abstractmethod
  def function(self, *, mesh: jax.sharding.Mesh) -> BatchLoss:
    """(embeddings, labels, *, key) -> (the loss, scalars to be logged).

    With `takes_past` it has an argument `past`, an `anchors.Past`, as well.
    """


class LossState(NamedTuple):
  """What a loss carries from step to step; part of the train state.

  Attributes:
    weights: learnt numbers.
    optimizer: their optimizer state.
    stats: running numbers.
    centers: [rows, dim], centres of the center loss, split by class; or None.
    memory: of past embeddings, for a loss within batches; or None.
  """

  weights: Numbers
  optimizer: optax.OptState
  stats: Numbers
  centers: typing.Array | None
  memory: memory_lib.Memory | None = None


@dataclasses.dataclass(frozen=True)
class CenterLoss:
  """The center loss beside another: weight lambda > 0, rate alpha."""

  weight: float
  rate: float


def init(
  wanted: Definition | None,
  *,
  tx: optax.GradientTransformation,
  dtype: Any,
  centers: tuple[int, int] | None = None,
  memory: tuple[int, int] | None = None,
) -> LossState:
  """The state at step 0.

  Args:
    wanted: the loss over classes; None for one within batches.
    tx: the optimizer of what it learns.
    dtype: of all numbers.
    centers: [rows, dim] of the centres, which start at 0 as published; or None.
    memory: [rows, dim] of the memory, which starts empty; or None.
  """

  def numbers(values):
    return {name: jnp.asarray(v, dtype) for name, v in values.items()}

  weights = numbers(wanted.weights if wanted else {})
  return LossState(
    weights=weights,
    optimizer=tx.init(weights),
    stats=numbers(wanted.stats if wanted else {}),
    centers=None if centers is None else jnp.zeros(centers, dtype),
    memory=None if memory is None else memory_lib.empty(*memory, dtype),
  )


def advance(
  state: LossState,
  gradient: Numbers,
  *,
  tx: optax.GradientTransformation,
  stats: Numbers,
) -> LossState:
  """The state after a step; the centres stay as they are."""
  # The rule of the prototypes, whose logits these numbers shift.
  updates, optimizer = tx.update(gradient, state.optimizer, state.weights)
  weights: Any = optax.apply_updates(state.weights, updates)
  return state._replace(weights=weights, optimizer=optimizer, stats=stats)


def chance_loss(wanted: Definition, *, num_classes: int) -> float | None:
  """The loss of a net that has learnt nothing: where all cosines are 0.

  None of a loss of all cosines at once, which may depend on the batch.

  >>> from facejax.losses import margins
  >>> nsl = Definition(objective_lib.Objective(margins.nsl, 64.0))
  >>> round(chance_loss(nsl, num_classes=1183), 4) == round(math.log(1183), 4)
  True
  """
  objective = wanted.objective
  if objective.table is not None:
    return None
  # Two unit vectors: a standard deviation of norms needs more than one.
  units = jnp.eye(2)
  nothing = jnp.zeros(2)
  # What the loss makes of such a batch at its first step.
  prepared = Prepared(objective_lib.Parameters())
  if wanted.prepare is not None:
    state = init(wanted, tx=optax.identity(), dtype=jnp.float32)
    batch = Batch(units, nothing, jax.random.key(0))
    prepared = wanted.prepare(state.weights, state.stats, batch)
  # z_j = s t(0), the same for all other classes. A bias starts at 0.
  _, lengths = dataclasses.replace(objective, bias=False).queries(units)
  other = objective.others(
    nothing, lengths, nothing, prepared.parameters.negative
  )
  if objective.one_vs_all is not None:
    # The sum over j != y of log(1 + e^z_j): C - 1 times the same.
    others = (num_classes - 1) * jax.nn.softplus(other)
  else:
    # log of the sum over j != y of e^z_j = log(C - 1) + z_j.
    others = math.log(num_classes - 1) + other
  solved = None
  if objective.divergence is not None:
    own = objective.target(
      nothing, lengths, jnp.ones(2), prepared.parameters.margin
    )
    logits = jnp.broadcast_to(other[:, None], (2, num_classes - 1))
    solved = alpha.solve_all(logits, own, objective.divergence)
  loss = objective.loss(
    others,
    nothing,
    lengths,
    jnp.ones(2),
    prepared.parameters.margin,
    solved=solved,
  )
  return float(loss.mean())
