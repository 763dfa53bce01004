"""Losses in which each class says yes or no on its own; no softmax.

  L = a softplus(-s phi(c_y)) + b (sum over j != y of softplus(s t(c_j)))

phi and t hold one learnt number, the threshold that is common to all classes:
a weight of the loss's own, which the optimizer of the prototypes moves.
"""

import dataclasses
import functools
from typing import Annotated, Any, ClassVar

import annotated_types
import jax.numpy as jnp

from facejax.head import objective
from facejax.losses import binary, margins
from facejax.training.objectives import definition as definition_lib


def with_bias(
  weights: definition_lib.Numbers,
  stats: definition_lib.Numbers,
  batch: definition_lib.Batch,
) -> definition_lib.Prepared:
  """One learnt threshold, for every example."""
  bias = weights["bias"]
  # As an array [batch] its gradient comes back from the head for each example;
  # that of the one number is their sum, by the transpose of the broadcast.
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
  gradient: margins.Gradient = "detached"
  """detached: the same value with the gradient of the plain cosine, as
  published."""

  def check(self) -> None:
    """Refuses a margin that its kind cannot have."""
    try:
      binary.check_kind(
        self.kind, scale=self.scale, margin=self.margin, power=self.power
      )
    except ValueError as error:
      raise ValueError(f"loss.kind={self.kind}: loss.{error}") from None

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z = r g(c) + b, less r m for the own class and more for others (kind C).

    References:
      Wen et al., SphereFace2: Binary Classification is All You Need for Deep
        Face Recognition, 2022, Eq. 5, 7 and Sec. 3.3.
    """
    options: Any = {
      "margin": self.margin,
      "scale": self.scale,
      "kind": self.kind,
      "power": self.power,
    }
    # b starts where one own class pulls as hard as C - 1 others push.
    start = binary.sphereface2_bias(num_classes, alpha=self.alpha, **options)
    # L = w / r (alpha softplus(-z_y) + (1 - alpha) sum softplus(z_j)).
    share = self.weight / self.scale
    options["gradient"] = self.gradient
    return definition_lib.Definition(
      objective.Objective(
        functools.partial(binary.sphereface2, **options),
        self.scale,
        negative=functools.partial(binary.sphereface2_negative, **options),
        one_vs_all=(share * self.alpha, share * (1 - self.alpha)),
      ),
      weights={"bias": float(start)},
      prepare=with_bias,
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
  gradient: margins.Gradient = "exact"
  """detached: the clamped value with the gradient of the plain cosine."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_y = s (c_y - m) - b and z_j = s c_j - b.

    References:
      Zhou et al., UniFace: Unified Cross-Entropy Loss for Deep Face
        Recognition, 2023.
    """
    options: Any = {
      "scale": self.scale,
      "clamp": self.clamp,
      "gradient": self.gradient,
    }
    # b = ln(10 C r), with r = 1 whatever share of the classes is sampled.
    start = binary.uniface_bias(num_classes, 1.0)
    return definition_lib.Definition(
      objective.Objective(
        functools.partial(binary.uniface, margin=self.margin, **options),
        self.scale,
        negative=functools.partial(binary.uniface_negative, **options),
        # L = softplus(-z_y) + l sum softplus(z_j).
        one_vs_all=(1.0, self.weight),
      ),
      weights={"bias": float(start)},
      prepare=with_bias,
    )
