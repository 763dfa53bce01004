"""What other runs add to the loss of this one: a teacher, prototypes to keep to."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from facejax.runtime import typing

# (images, embeddings, labels, frozen) -> gradient of the embeddings, metrics.
Gradient: TypeAlias = Callable[
  [typing.Array, typing.Array, typing.Array, Any],
  tuple[typing.Array, dict[str, typing.Array]],
]


class Term(NamedTuple):
  """A term beside the loss, of arrays that another run has trained.

  It is added to the gradient of the embeddings, between the trunk's forward and
  backward pass; the prototypes of the run see nothing of it.

  Attributes:
    like: shapes and places of what is frozen; the step is given the arrays.
    gradient: to be called within the step.
    read: names of the run's classes -> the arrays, on the devices.
  """

  like: Any
  gradient: Gradient
  read: Callable[[Sequence[str]], Any]
