"""Losses of a softmax that gives most classes no probability at all.

With theta_y = s phi(c_y) and theta_j = s c_j, and q_j = 1 but for the target's:

  p_j = q_j [1 + (alpha - 1) (theta_j - tau)]_+^(1 / (alpha - 1)), with sum 1

and dL / d theta = p - e_y; see `losses.alpha`. The loss is 0, and an image asks
for nothing more, once theta_y is above all others by 1 / (alpha - 1).
"""

import dataclasses
import functools
from typing import Annotated, ClassVar, Literal, TypeAlias

import annotated_types
import jax.numpy as jnp

from facejax.head import objective
from facejax.losses import divergence, margins
from facejax.runtime import ranges
from facejax.training.objectives import definition as definition_lib

Place: TypeAlias = Literal["logit", "reference"]
# 1 is the softmax, without a support; near it, that has no end in sight.
_ALPHA = ranges.Range(1.01, 2)


@dataclasses.dataclass(frozen=True)
class AlphaCosFace(definition_lib.OverClasses):
  """CosFace over a sparse softmax: far classes get no gradient, exactly."""

  name: ClassVar[str] = "alpha_cosface"
  is_sparse: ClassVar[bool] = True
  scale: Annotated[float, annotated_types.Gt(0)] = 64.0
  """s, the length that embeddings are given."""
  margin: Annotated[float, annotated_types.Interval(ge=0, lt=2)] = 0.35
  """m, a difference of cosines."""
  alpha: Annotated[float, _ALPHA] = 1.5
  """How sparse: classes s (alpha - 1) cosines below the best have no part. Near
  1 it is CosFace, 2 is sparsemax."""
  place: Place = "logit"
  """Where the margin is: s (cos - m), or the own class's share e^(-s m) of the
  reference measure (Q-Margin), for which s m must be small."""

  def check(self) -> None:
    """Refuses a reference measure that leaves float32."""
    try:
      self._divergence()
    except ValueError as error:
      raise ValueError(
        f"loss.place={self.place} with loss.scale={self.scale:g} and"
        f" loss.margin={self.margin:g}: {error}; use a smaller loss.scale or"
        " loss.margin, or loss.place=logit"
      ) from None

  def _divergence(self) -> divergence.Divergence:
    at_reference = self.place == "reference"
    # log q_y = -s m
    log_reference = -self.scale * self.margin if at_reference else 0.0
    return divergence.Divergence(self.alpha, log_reference)

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_y = s (c_y - m), or s c_y with q_y = e^(-s m).

    References:
      Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition,
        2018, Eq. 4 (the margin).
      Blondel, Martins, Niculae, Learning with Fenchel-Young Losses, 2020.
      Koutsianos et al., Sparsity-Inducing Divergence Losses for Biometric
        Verification, 2026 (Q-Margin: the margin in the reference measure).
    """
    margin = margins.nsl
    if self.place == "logit":
      margin = functools.partial(margins.cosface, margin=self.margin)
    return definition_lib.Definition(
      objective.Objective(margin, self.scale, divergence=self._divergence())
    )

  def advice(self, *, num_classes: int, dim: int) -> list[str]:
    """Against a loss that cannot become 0."""
    del dim
    best = 1 - (self.margin if self.place == "logit" else 0)
    return _out_of_reach(self._divergence(), self.scale, best, num_classes)


@dataclasses.dataclass(frozen=True)
class AlphaArcFace(definition_lib.OverClasses):
  """ArcFace over a sparse softmax: far classes get no gradient, exactly."""

  name: ClassVar[str] = "alpha_arcface"
  is_sparse: ClassVar[bool] = True
  scale: Annotated[float, annotated_types.Gt(0)] = 64.0
  """s, the length that embeddings are given."""
  margin: Annotated[float, ranges.ANGLE] = 0.5
  """m, an angle in radians."""
  alpha: Annotated[float, _ALPHA] = 1.5
  """How sparse: classes s (alpha - 1) cosines below the best have no part. Near
  1 it is ArcFace, 2 is sparsemax."""
  guard: margins.Guard = "fallback"
  """What is done where theta + m exceeds pi."""
  gradient: margins.Gradient = "exact"
  """detached: the same value with the gradient of the plain cosine."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_y = s cos(theta_y + m).

    References:
      Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face
        Recognition, 2019, Eq. 3 (the margin).
      Koutsianos et al., Alpha Divergence Losses for Biometric Verification,
        2025 (A3M: an angular margin in the logit).
    """
    margin = functools.partial(
      margins.arcface,
      margin=self.margin,
      guard=self.guard,
      gradient=self.gradient,
    )
    form = divergence.Divergence(self.alpha)
    return definition_lib.Definition(
      objective.Objective(margin, self.scale, divergence=form)
    )

  def advice(self, *, num_classes: int, dim: int) -> list[str]:
    """Against a loss that cannot become 0."""
    del dim
    best = margins.arcface(jnp.float32(1), margin=self.margin, guard=self.guard)
    form = divergence.Divergence(self.alpha)
    return _out_of_reach(form, self.scale, float(best), num_classes)


def _out_of_reach(
  form: divergence.Divergence, scale: float, best: float, num_classes: int
) -> list[str]:
  """A sentence if not even embeddings on their prototypes have the loss 0.

  Args:
    form: see there.
    scale: s.
    best: phi(1).
    num_classes: C.
  """
  if num_classes < 2:
    return []
  # p = e_y where theta_y is above tau by full_gap, and all others, which are
  # spread as evenly as can be, c_j = -1 / (C - 1), are below it by width.
  needed = (form.full_gap + form.width) / (best + 1 / (num_classes - 1))
  if 0 < needed <= scale:
    return []
  return [
    f"loss.scale={scale:g} with loss.alpha={form.alpha:g} and this margin: the"
    " loss stays above 0 even for embeddings on their prototypes"
    + (f", below loss.scale={needed:.3g}" if needed > 0 else "")
  ]
