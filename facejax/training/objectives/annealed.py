"""A factor of the angle, blended in over time: L-Softmax and A-Softmax."""

import dataclasses
import functools
from typing import Annotated, ClassVar

import annotated_types
import jax.numpy as jnp

from facejax.head import objective
from facejax.losses import bounds, margins, multiplicative
from facejax.training.objectives import definition as definition_lib


class _Annealed:
  """Of L-Softmax and A-Softmax: the plain cosine counts ever less.

  phi = (lambda c + psi(c)) / (1 + lambda), lambda falling with the steps. At 90
  degrees, where an untrained net has all its angles, psi is flat for an even m:
  the large lambda of the first steps is what makes the loss move at all.
  """

  margin: int
  base: float
  gamma: float
  power: float
  minimum: float
  gradient: margins.Gradient

  def _annealed(self, *, unit_prototypes: bool) -> definition_lib.Definition:
    def prepare(weights, stats, batch):
      del weights
      # n: published counts start at 1.
      step = stats["step"] + 1
      # lambda = max(minimum, base (1 + gamma n)^-power).
      strength = multiplicative.annealed_strength(
        step,
        base=self.base,
        gamma=self.gamma,
        power=self.power,
        minimum=self.minimum,
      )
      # One lambda for all: a margin's arguments are arrays [batch].
      each = jnp.broadcast_to(strength, batch.embeddings.shape[:1])
      return definition_lib.Prepared(
        objective.Parameters(margin={"strength": each}),
        stats={"step": step},
        metrics={"lambda": strength},
      )

    return definition_lib.Definition(
      objective.Objective(
        functools.partial(
          multiplicative.a_softmax, margin=self.margin, gradient=self.gradient
        ),
        None,
        unit_prototypes=unit_prototypes,
      ),
      # A counter of its own: it starts anew where only the trunk is taken over.
      stats={"step": 0.0},
      prepare=prepare,
    )


@dataclasses.dataclass(frozen=True)
class LSoftmax(_Annealed, definition_lib.OverClasses):
  """L-Softmax: |w_y| |x| psi(theta), annealed; nothing normalised."""

  name: ClassVar[str] = "l_softmax"
  margin: Annotated[int, annotated_types.Interval(ge=1, le=10)] = 2
  """m, the factor of the angle."""
  base: Annotated[float, annotated_types.Ge(0)] = 1000.0
  """The plain cosine's weight is max(minimum, base (1 + gamma step)^-power)."""
  gamma: Annotated[float, annotated_types.Ge(0)] = 2.5e-5
  """See base."""
  power: Annotated[float, annotated_types.Gt(0)] = 35.0
  """See base."""
  minimum: Annotated[float, annotated_types.Ge(0)] = 0.0
  """See base."""
  gradient: margins.Gradient = "exact"
  """detached: the same value with the gradient of the plain cosine."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_y = |w_y| |x| (lambda c_y + psi(c_y)) / (1 + lambda).

    References:
      Liu et al., Large-Margin Softmax Loss for Convolutional Neural Networks,
        2016, Eq. 6 and Sec. 4.3.
    """
    return self._annealed(unit_prototypes=False)


@dataclasses.dataclass(frozen=True)
class ASoftmax(_Annealed, definition_lib.OverClasses):
  """A-Softmax (SphereFace): |x| psi(theta), annealed; prototypes normalised."""

  name: ClassVar[str] = "a_softmax"
  margin: Annotated[int, annotated_types.Interval(ge=1, le=10)] = 4
  """m, the factor of the angle."""
  base: Annotated[float, annotated_types.Ge(0)] = 1000.0
  """The plain cosine's weight is max(minimum, base (1 + gamma step)^-power)."""
  gamma: Annotated[float, annotated_types.Ge(0)] = 0.12
  """See base."""
  power: Annotated[float, annotated_types.Gt(0)] = 1.0
  """See base."""
  minimum: Annotated[float, annotated_types.Ge(0)] = 5.0
  """See base."""
  gradient: margins.Gradient = "exact"
  """detached: the same value with the gradient of the plain cosine."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_y = |x| (lambda c_y + psi(c_y)) / (1 + lambda).

    References:
      Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition,
        2017, Eq. 7 and Appendix F.
    """
    return self._annealed(unit_prototypes=True)

  def advice(self, *, num_classes: int, dim: int) -> list[str]:
    """Against an m that cannot separate people it never saw.

    References:
      Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition,
        2017, Property 3.
    """
    # The widest angle within a class, theta_12 / (m + 1) to either side, is to
    # be under the least between two, (m - 1) / (m + 1) theta_12: m >= 3.
    least = bounds.sphereface_min_margin("multiclass")
    if self.margin >= least:
      return []
    return [
      f"loss.margin={self.margin} is below {least:g}, from which on the largest"
      " angle within a class is under the smallest between classes (SphereFace,"
      " 2017, Sec. 3.4)"
    ]
