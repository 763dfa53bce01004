"""Losses that judge every class on its own: a sum of binary losses.

With z_y the logit of the own class and z_j those of the others:

  L = a log(1 + exp(-z_y)) + b sum over j of log(1 + exp(z_j))

A threshold, learnt with the prototypes, is part of every z.
"""

import dataclasses
import functools
from typing import Annotated, Any, ClassVar

import annotated_types
import jax.numpy as jnp

from facejax.head import objective
from facejax.losses import binary
from facejax.training.objectives import definition as definition_lib


def _with_bias(
  weights: definition_lib.Numbers,
  stats: definition_lib.Numbers,
  batch: definition_lib.Batch,
) -> definition_lib.Prepared:
  """One learnt threshold b, for every example and every class."""
  bias = weights["bias"]
  # A margin's arguments are arrays [batch]; their gradients add up in b.
  each = {"bias": jnp.broadcast_to(bias, batch.embeddings.shape[:1])}
  return definition_lib.Prepared(
    objective.Parameters(margin=each, negative=each),
    stats=stats,
    metrics={"bias": bias},
  )


@dataclasses.dataclass(frozen=True)
class SphereFace2(definition_lib.OverClasses):
  """SphereFace2: one-vs-all, a binary loss for every class."""

  name: ClassVar[str] = "sphereface2"
  has_probabilities: ClassVar[bool] = False
  kind: binary.Kind = "C"
  """Where the margin acts: on the cosine, added to the angle, or as a factor
  of it."""
  scale: Annotated[float, annotated_types.Gt(0)] = 40.0
  """r, the length that embeddings are given."""
  margin: Annotated[float, annotated_types.Interval(ge=0, le=10)] = 0.4
  """m, by kind: a difference of cosines, an angle, a factor."""
  alpha: Annotated[float, annotated_types.Interval(gt=0, lt=1)] = 0.7
  """Weight of the own class; 1 - alpha is that of each other one."""
  power: Annotated[float, annotated_types.Gt(0)] = 3.0
  """t of the map 2 ((cos + 1) / 2)^t - 1."""
  weight: Annotated[float, annotated_types.Gt(0)] = 50.0
  """Factor of the whole loss."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_y = r (g(c_y) - m) + b and z_j = r (g(c_j) + m) + b, for kind C.

    With g(c) = 2 ((c + 1) / 2)^t - 1.

    References:
      Wen et al., SphereFace2: Binary Classification is All You Need for Deep
        Face Recognition, 2022, Eq. 4 to 8.
    """
    options: Any = {
      "margin": self.margin,
      "scale": self.scale,
      "kind": self.kind,
      "power": self.power,
    }
    # b starts where an untrained net, all of whose cosines are 0, has the least
    # loss: elsewhere the C - 1 others would drown the own class at first.
    start = binary.sphereface2_bias(num_classes, alpha=self.alpha, **options)
    # The loss is divided by r, so that r sets its sharpness and not its size.
    share = self.weight / self.scale
    return definition_lib.Definition(
      objective.Objective(
        functools.partial(binary.sphereface2, **options),
        self.scale,
        negative=functools.partial(binary.sphereface2_negative, **options),
        one_vs_all=(share * self.alpha, share * (1 - self.alpha)),
      ),
      weights={"bias": float(start)},
      prepare=_with_bias,
    )


@dataclasses.dataclass(frozen=True)
class UniFace(definition_lib.OverClasses):
  """UniFace (UCE): one-vs-all with one threshold for all pairs."""

  name: ClassVar[str] = "uniface"
  has_probabilities: ClassVar[bool] = False
  scale: Annotated[float, annotated_types.Gt(0)] = 64.0
  """s, the length that embeddings are given."""
  margin: Annotated[float, annotated_types.Interval(ge=0, lt=2)] = 0.4
  """m, a difference of cosines."""
  weight: Annotated[float, annotated_types.Gt(0)] = 1.0
  """l, the weight of each other class."""
  clamp: bool = True
  """Clamp logits to [-s, s] as published; a far outlier gets no gradient."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_y = s (c_y - m) - b and z_j = s c_j - b.

    References:
      Zhou et al., UniFace: Unified Cross-Entropy Loss for Deep Face
        Recognition, 2023, Eq. 7 and 10.
    """
    options: Any = {"scale": self.scale, "clamp": self.clamp}
    # As published: from the number of classes alone, whatever l is.
    start = binary.uniface_bias(num_classes, 1.0)
    return definition_lib.Definition(
      objective.Objective(
        functools.partial(binary.uniface, margin=self.margin, **options),
        self.scale,
        negative=functools.partial(binary.uniface_negative, **options),
        one_vs_all=(1.0, self.weight),
      ),
      weights={"bias": float(start)},
      prepare=_with_bias,
    )
