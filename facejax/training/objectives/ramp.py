"""A number of a loss that moves from one value to another while it is trained."""

import dataclasses
import functools
from typing import NamedTuple

import jax.numpy as jnp

from facejax.head import objective as objective_lib
from facejax.runtime import typing
from facejax.training.objectives import definition as definition_lib

# Classes that stand for all: what moves does not depend on their number.
_CLASSES = 2


class Ramp(NamedTuple):
  """A straight line over steps.

  Attributes:
    name: a field of the loss that is an argument of its margin, such as margin.
    start: its value before the step after `first`.
    end: its value from step `last` on.
    first: steps done where it begins to move.
    last: steps done where it has arrived.
  """

  name: str
  start: float
  end: float
  first: int
  last: int

  def at(self, step: typing.Array | int) -> typing.Array:
    """The value for the update that comes after `step` others.

    start + (end - start) (step - first) / (last - first - 1), so that the last
    step of the ramp has its end.

    >>> line = Ramp("margin", 0.0, 0.4, first=10, last=15)
    >>> [round(float(line.at(step)), 6) for step in (0, 10, 12, 14, 99)]
    [0.0, 0.0, 0.2, 0.4, 0.4]
    """
    count = max(1, self.last - self.first - 1)
    share = jnp.clip((jnp.asarray(step) - self.first) / count, 0, 1)
    return self.start + (self.end - self.start) * share


def check(loss: definition_lib.Loss, name: str) -> None:
  """Refuses a number that cannot move.

  Raises:
    ValueError: naming those that can.
  """
  movable = _movable(loss)
  if name not in movable:
    able = ", ".join(f"loss.{each}" for each in movable) or "none"
    raise ValueError(
      f"loss.{name} of {loss.name} cannot move from step to step; of its numbers"
      f" these can: {able}"
    )


def applied(
  definition: definition_lib.Definition, ramps: tuple[Ramp, ...]
) -> definition_lib.Definition:
  """The same loss, its margin's arguments by the step.

  Each becomes an argument [batch] of the margin, as those that depend on the
  example are.
  """
  if not ramps:
    return definition
  margin = definition.objective.margin
  assert isinstance(margin, functools.partial)
  moving = {ramp.name for ramp in ramps}
  rest = {k: v for k, v in margin.keywords.items() if k not in moving}

  def prepare(weights, stats, batch):
    if definition.prepare is None:
      prepared = definition_lib.Prepared(objective_lib.Parameters())
    else:
      prepared = definition.prepare(weights, stats, batch)
    now = {ramp.name: ramp.at(batch.step) for ramp in ramps}
    each = {
      name: jnp.full(batch.embeddings.shape[:1], value)
      for name, value in now.items()
    }
    parameters = prepared.parameters
    return prepared._replace(
      parameters=parameters._replace(margin={**parameters.margin, **each}),
      metrics={**prepared.metrics, **now},
    )

  return dataclasses.replace(
    definition,
    objective=dataclasses.replace(
      definition.objective, margin=functools.partial(margin.func, **rest)
    ),
    prepare=prepare,
  )


def _movable(loss: definition_lib.Loss) -> list[str]:
  """Numbers of a loss that are arguments of its margin, and real."""
  if not isinstance(loss, definition_lib.OverClasses):
    return []
  margin = loss.definition(_CLASSES).objective.margin
  if not isinstance(margin, functools.partial):
    return []
  return [
    name
    for name, value in margin.keywords.items()
    if type(value) is float and getattr(loss, name, None) == value
  ]
