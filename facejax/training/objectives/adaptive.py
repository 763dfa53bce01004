"""Softmax losses whose margin follows the example, or the state of training.

Each has a function `prepare` that runs before the head. It turns what it sees
of a batch (lengths of the embeddings, cosines to their own prototypes) into an
array [batch] for each further argument of the margin.
"""

import dataclasses
import functools
from typing import Annotated, ClassVar, Literal

import annotated_types
import jax
import jax.numpy as jnp

from facejax.head import objective
from facejax.losses import adaptive, curricular, elastic, margins
from facejax.runtime import ranges
from facejax.training.objectives import definition as definition_lib
from facejax.training.objectives import theory


@dataclasses.dataclass(frozen=True)
class AdaFace(theory.ScaledSoftmax):
  """AdaFace: margins by image quality, read off the embedding's norm."""

  name: ClassVar[str] = "adaface"
  needs_lengths: ClassVar[bool] = True
  scale: Annotated[float, annotated_types.Gt(0)] = 64.0
  """s, the length that embeddings are given."""
  margin: Annotated[float, ranges.ANGLE] = 0.4
  """m, an angle (low quality) to a difference of cosines (high quality)."""
  concentration: Annotated[float, annotated_types.Ge(0)] = 0.333
  """h, how far the norm's deviation moves the margin."""
  rate: Annotated[float, annotated_types.Interval(ge=0, le=1)] = 0.01
  """Weight of a batch in the running mean and deviation of the norms."""
  guard: adaptive.AdaFaceGuard = "clip"
  """clip: angles are kept 0.001 from 0 and pi; none: as CVLface."""
  gradient: margins.Gradient = "exact"
  """detached: the same value with the gradient of the plain cosine, as
  CVLface."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_y = s (cos(theta_y - m k) - m - m k), k from the embedding's length.

    References:
      Kim et al., AdaFace: Quality Adaptive Margin for Face Recognition, 2022,
        Eq. 13 to 15 and Sec. 3.3.
    """

    def prepare(weights, stats, batch):
      del weights
      # n = |x|, a measure of quality: without the stop an embedding could get
      # an easier margin by its length alone.
      norms = jnp.linalg.norm(jax.lax.stop_gradient(batch.embeddings), axis=1)
      # mu <- a mean(n) + (1 - a) mu, and likewise sigma: this batch included.
      mean, std = adaptive.adaface_statistics(
        norms, stats["mean"], stats["std"], rate=self.rate
      )
      # k = clip(h (n - mu) / sigma, -1, 1).
      quality = adaptive.adaface_quality(
        norms, mean, std, concentration=self.concentration
      )
      return definition_lib.Prepared(
        objective.Parameters(margin={"quality": quality}),
        stats={"mean": mean, "std": std},
        metrics={"norm_mean": mean, "norm_std": std},
      )

    margin = functools.partial(
      adaptive.adaface,
      margin=self.margin,
      guard=self.guard,
      gradient=self.gradient,
    )
    return definition_lib.Definition(
      objective.Objective(margin, self.scale),
      # Where the published code starts; a wide sigma makes all k near 0.
      stats={"mean": 20.0, "std": 100.0},
      prepare=prepare,
    )


@dataclasses.dataclass(frozen=True)
class MagFace(theory.ScaledSoftmax):
  """MagFace: an angle that grows with the embedding's norm."""

  name: ClassVar[str] = "magface"
  needs_lengths: ClassVar[bool] = True
  scale: Annotated[float, annotated_types.Gt(0)] = 64.0
  """s, the length that embeddings are given for the logits."""
  lower_norm: Annotated[float, annotated_types.Gt(0)] = 10.0
  """l_a: norms are clipped to [l_a, u_a]."""
  upper_norm: Annotated[float, annotated_types.Gt(0)] = 110.0
  """u_a."""
  lower_margin: Annotated[float, ranges.ANGLE] = 0.45
  """l_m: the margin at norm l_a, radians."""
  upper_margin: Annotated[float, ranges.ANGLE] = 0.8
  """u_m: the margin at norm u_a, radians."""
  weight: Annotated[float, annotated_types.Ge(0)] = 35.0
  """lambda_g, of the term that rewards large norms."""
  guard: margins.Guard = "easy"
  """What is done where theta + m exceeds pi."""
  gradient: margins.Gradient = "exact"
  """detached: the same value with the gradient of the plain cosine; lengths
  follow their margin as ever."""

  def check(self) -> None:
    """Refuses a line from (l_a, l_m) to (u_a, u_m) that does not rise."""
    for name, lower, upper in (
      ("norm", self.lower_norm, self.upper_norm),
      ("margin", self.lower_margin, self.upper_margin),
    ):
      if not lower < upper:
        raise ValueError(
          f"loss.lower_{name}={lower:g} must be below"
          f" loss.upper_{name}={upper:g}"
        )

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_y = s cos(theta_y + m(a)), and a further loss lambda_g g(a), a = |x|.

    References:
      Meng et al., MagFace: A Universal Representation for Face Recognition and
        Quality Assessment, 2021, Eq. 3 and Sec. 3.2.
    """
    norms_range = {"l_a": self.lower_norm, "u_a": self.upper_norm}

    def prepare(weights, stats, batch):
      del weights
      # a = |x|, followed by the gradient: a harder margin makes an unclear
      # image shorter. At a zero vector the gradient is 0, not 0 / 0.
      square = (batch.embeddings**2).sum(axis=1)
      norms = jnp.sqrt(jnp.maximum(square, 1e-24))
      # m(a), a line from l_m at l_a to u_m at u_a.
      margin = adaptive.magface_margin(
        norms, l_m=self.lower_margin, u_m=self.upper_margin, **norms_range
      )
      return definition_lib.Prepared(
        objective.Parameters(margin={"margin": margin}),
        stats=stats,
        # g(a) = 1 / a + a / u_a^2, least at u_a: clear images grow longer.
        penalty=self.weight
        * adaptive.magface_regularizer(norms, **norms_range),
        metrics={"margin": jax.lax.stop_gradient(margin.mean())},
      )

    margin = functools.partial(
      adaptive.magface, guard=self.guard, gradient=self.gradient
    )
    return definition_lib.Definition(
      objective.Objective(margin, self.scale),
      prepare=prepare,
    )

  def advice(self, *, num_classes: int, dim: int) -> list[str]:
    """Against an s or a lambda_g that is too small."""
    found = super().advice(num_classes=num_classes, dim=dim)
    # s K u_a^2 l_a^2 / (u_a^2 - l_a^2), with K the slope of m(a).
    least = adaptive.magface_weight_bound(
      scale=self.scale,
      l_a=self.lower_norm,
      u_a=self.upper_norm,
      l_m=self.lower_margin,
      u_m=self.upper_margin,
    )
    if self.weight < least:
      found.append(
        f"loss.weight={self.weight:g} is below {float(least):.3g}, the least"
        " for which every image has one best norm (MagFace, 2021)"
      )
    return found


@dataclasses.dataclass(frozen=True)
class CurricularFace(theory.ScaledSoftmax):
  """CurricularFace: ArcFace with hard negatives weighted up over time."""

  name: ClassVar[str] = "curricularface"
  scale: Annotated[float, annotated_types.Gt(0)] = 64.0
  """s, the length that embeddings are given."""
  margin: Annotated[float, ranges.ANGLE] = 0.5
  """m, an angle in radians."""
  decay: Annotated[float, annotated_types.Interval(ge=0, le=1)] = 0.99
  """How much of the running mean cosine t a step keeps."""
  gradient: margins.Gradient = "exact"
  """detached: the own class has the gradient of the plain cosine; the others
  keep theirs."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_y = s cos(theta_y + m); z_j = s c_j (t + c_j) where that class is hard.

    References:
      Huang et al., CurricularFace: Adaptive Curriculum Learning Loss for Deep
        Face Recognition, 2020, Eq. 8, 9, 13.
    """

    def prepare(weights, stats, batch):
      del weights
      # t <- decay t + (1 - decay) mean(c_y): about how far training has come.
      average = curricular.curricularface_average(
        stats["average"], batch.target_cosine, decay=self.decay
      )
      each = jnp.broadcast_to(average, batch.embeddings.shape[:1])
      return definition_lib.Prepared(
        objective.Parameters(negative={"average": each}),
        stats={"average": average},
        metrics={"t": average},
      )

    return definition_lib.Definition(
      objective.Objective(
        functools.partial(
          margins.arcface, margin=self.margin, gradient=self.gradient
        ),
        self.scale,
        # Hard is c_j > cos(theta_y + m): nearer than the margin allows.
        negative=functools.partial(
          curricular.curricularface_negative, margin=self.margin
        ),
      ),
      stats={"average": 0.0},
      prepare=prepare,
      needs_target=True,
    )


@dataclasses.dataclass(frozen=True)
class ElasticFace(theory.ScaledSoftmax):
  """ElasticFace: a margin drawn for each image."""

  name: ClassVar[str] = "elasticface"
  kind: Literal["arc", "cos"] = "arc"
  """ArcFace's margin or CosFace's."""
  scale: Annotated[float, annotated_types.Gt(0)] = 64.0
  """s, the length that embeddings are given."""
  margin: Annotated[float, ranges.ANGLE] = 0.5
  """Mean of the margins."""
  std: Annotated[float, annotated_types.Ge(0)] = 0.05
  """Their standard deviation."""
  order: Literal["none", "code", "rank"] = "none"
  """Which image gets which of the drawn margins (ElasticFace+): rank matches
  ranks; code is the permutation of the published code, which does not."""
  gradient: margins.Gradient = "exact"
  """detached: the same value with the gradient of the plain cosine; of the kind
  cos both are the same."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_y = s cos(theta_y + m_i) or s (c_y - m_i), with m_i ~ N(m, std^2).

    References:
      Boutros et al., ElasticFace: Elastic Margin Loss for Deep Face
        Recognition, 2022, Eq. 6, 7 and Sec. 3.4.
    """

    def prepare(weights, stats, batch):
      del weights
      # By the step's key alone, so that a resumed run draws the same.
      drawn = elastic.elastic_margins(
        batch.key, batch.embeddings.shape[:1], margin=self.margin, std=self.std
      )
      if self.order != "none":
        # ElasticFace+: by rank of c_y, which the head then has to look up.
        drawn = elastic.elastic_order(
          drawn, batch.target_cosine, mode=self.order
        )
      return definition_lib.Prepared(
        objective.Parameters(margin={"margin": drawn}), stats=stats
      )

    plain = margins.cosface
    if self.kind == "arc":
      # As published: nothing takes the place of cos(theta + m) past pi.
      plain = functools.partial(
        margins.arcface, guard="none", gradient=self.gradient
      )
    return definition_lib.Definition(
      objective.Objective(plain, self.scale),
      prepare=prepare,
      needs_target=self.order != "none",
    )
