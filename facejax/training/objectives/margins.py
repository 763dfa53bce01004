"""Softmax losses whose margin is a function of cosines alone.

With c_y the cosine of embedding and own prototype, c_j those of the others:

  L = -log(exp(s phi(c_y)) / (exp(s phi(c_y)) + sum over j of exp(s t(c_j))))

phi is the objective's `margin` and t its `negative`, c_j unless given.
"""

import dataclasses
import functools
from typing import Annotated, Any, ClassVar, Literal

import annotated_types

from facejax.head import objective
from facejax.losses import angles, bounds, circle, margins, multiplicative
from facejax.runtime import ranges
from facejax.training.objectives import definition as definition_lib
from facejax.training.objectives import theory


@dataclasses.dataclass(frozen=True)
class Softmax(definition_lib.OverClasses):
  """Softmax: logits w_j . x + b_j, nothing normalised."""

  name: ClassVar[str] = "softmax"
  bias: bool = True
  """Learn a bias for each class."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_j = w_j . x + b_j = |w_j| |x| c_j + b_j, with margin 0: phi(c) = c."""
    # No s: the length is that of the embedding itself. The bias is a last
    # column of the prototypes, beside a last 1 of every embedding.
    return definition_lib.Definition(
      objective.Objective(
        margins.nsl, None, unit_prototypes=False, bias=self.bias
      )
    )


@dataclasses.dataclass(frozen=True)
class ModifiedSoftmax(definition_lib.OverClasses):
  """Modified softmax: |x| cos; prototypes normalised, embeddings not."""

  name: ClassVar[str] = "modified_softmax"

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_j = |x| c_j.

    References:
      Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition,
        2017, Eq. 5.
    """
    return definition_lib.Definition(objective.Objective(margins.nsl, None))


@dataclasses.dataclass(frozen=True)
class NSL(theory.ScaledSoftmax):
  """Normalised softmax loss (NormFace): s cos."""

  name: ClassVar[str] = "nsl"
  scale: Annotated[float, annotated_types.Gt(0)] = 64.0
  """s, the length that embeddings are given."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_j = s c_j.

    References:
      Wang et al., NormFace: L2 Hypersphere Embedding for Face Verification,
        2017.
    """
    return definition_lib.Definition(
      objective.Objective(margins.nsl, self.scale)
    )


@dataclasses.dataclass(frozen=True)
class CosFace(theory.ScaledSoftmax):
  """CosFace, AM-Softmax: s (cos - m)."""

  name: ClassVar[str] = "cosface"
  scale: Annotated[float, annotated_types.Gt(0)] = 64.0
  """s, the length that embeddings are given."""
  margin: Annotated[float, annotated_types.Interval(ge=0, lt=2)] = 0.35
  """m, a difference of cosines."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_y = s (c_y - m).

    References:
      Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition,
        2018, Eq. 4.
      Wang et al., Additive Margin Softmax for Face Verification, 2018.
    """
    margin = functools.partial(margins.cosface, margin=self.margin)
    return definition_lib.Definition(objective.Objective(margin, self.scale))

  def advice(self, *, num_classes: int, dim: int) -> list[str]:
    """Against an s that is too small, and an m that is too large."""
    found = super().advice(num_classes=num_classes, dim=dim)
    if num_classes < 2:
      return found
    # Embeddings on their prototypes meet m if c_y - m >= c_j with c_y = 1:
    # m <= 1 - the largest cosine of two prototypes.
    most = bounds.margin_upper_bound(num_classes, dim)
    if self.margin > most:
      found.append(
        f"loss.margin={self.margin:g} is above {most:.3g}, the most that"
        f" {num_classes:,} classes in {dim} dimensions can be apart (CosFace,"
        " 2018, Eq. 7)"
      )
    return found


@dataclasses.dataclass(frozen=True)
class ArcFace(theory.ScaledSoftmax):
  """ArcFace: s cos(theta + m), with one or more centres a class."""

  name: ClassVar[str] = "arcface"
  scale: Annotated[float, annotated_types.Gt(0)] = 64.0
  """s, the length that embeddings are given."""
  margin: Annotated[float, ranges.ANGLE] = 0.5
  """m, an angle in radians."""
  guard: margins.Guard = "fallback"
  """What is done where theta + m exceeds pi."""
  gradient: margins.Gradient = "exact"
  """detached: the same value with the gradient of the plain cosine."""
  centers: Annotated[int, annotated_types.Interval(ge=1, le=100)] = 1
  """Sub-centres a class; the nearest one counts (3 in sub-center ArcFace)."""
  intra_weight: Annotated[float, annotated_types.Ge(0)] = 0.0
  """Weight of the mean angle to the own class, theta / pi, as a further
  term."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_y = s cos(theta_y + m), and a further loss w theta_y / pi.

    References:
      Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face
        Recognition, 2019, Eq. 3 and 5 (intra-class).
      Deng et al., Sub-center ArcFace: Boosting Face Recognition by Large-Scale
        Noisy Web Faces, 2020 (sub-centres).
    """
    margin = functools.partial(
      margins.arcface,
      margin=self.margin,
      guard=self.guard,
      gradient=self.gradient,
    )

    def penalty(target_cosine):
      return self.intra_weight * angles.intra_class(target_cosine)

    # With K sub-centres c_j is the largest cosine of the K of class j; the
    # head takes it, and the margin sees one cosine a class as ever.
    return definition_lib.Definition(
      objective.Objective(
        margin, self.scale, penalty=penalty if self.intra_weight else None
      ),
      centers=self.centers,
    )


@dataclasses.dataclass(frozen=True)
class Combined(theory.ScaledSoftmax):
  """The combined margin: s (cos(m1 theta + m2) - m3)."""

  name: ClassVar[str] = "combined"
  scale: Annotated[float, annotated_types.Gt(0)] = 64.0
  """s, the length that embeddings are given."""
  m1: Annotated[float, annotated_types.Interval(gt=0, le=10)] = 1.0
  """Factor of the angle."""
  m2: Annotated[float, ranges.ANGLE] = 0.3
  """Added to the angle, radians."""
  m3: Annotated[float, annotated_types.Interval(ge=0, lt=2)] = 0.2
  """Subtracted from the cosine."""
  gradient: margins.Gradient = "exact"
  """detached: the same value with the gradient of the plain cosine."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_y = s (cos(m1 theta_y + m2) - m3).

    References:
      Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face
        Recognition, 2019, Eq. 4.
    """
    margin = functools.partial(
      margins.combined,
      m1=self.m1,
      m2=self.m2,
      m3=self.m3,
      gradient=self.gradient,
    )
    return definition_lib.Definition(objective.Objective(margin, self.scale))


@dataclasses.dataclass(frozen=True)
class SphereFaceR(theory.ScaledSoftmax):
  """SphereFace-R: a factor of the angle, with a fixed scale."""

  name: ClassVar[str] = "sphereface_r"
  version: Literal["v0", "v1", "v2"] = "v2"
  """v0: psi with a real m; v1: cos(min(m theta, pi)); v2: cos(theta / m) for
  the other classes."""
  scale: Annotated[float, annotated_types.Gt(0)] = 60.0
  """s, the length that embeddings are given."""
  margin: Annotated[float, annotated_types.Interval(ge=1, le=10)] = 1.4
  """m, the factor of the angle."""
  weight: Annotated[float, annotated_types.Gt(0)] = 50 / 60
  """Factor of the whole loss."""
  gradient: margins.Gradient = "detached"
  """detached: the same value with the gradient of the plain cosine, as
  published."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """w L, with a larger angle to the own class or smaller ones to others.

    References:
      Liu et al., SphereFace Revived: Unifying Hyperspherical Face Recognition,
        2022.
    """
    options: Any = {"margin": self.margin, "gradient": self.gradient}
    margin, negative = margins.nsl, None
    if self.version == "v2":
      # phi = c_y and t = cos(theta_j / m): no flat spot for the own class.
      negative = functools.partial(
        multiplicative.sphereface_r_negative, **options
      )
    elif self.version == "v1":
      # phi = cos(min(m theta_y, pi)), flat beyond theta_y = pi / m.
      margin = functools.partial(multiplicative.sphereface_r, **options)
    else:
      # phi = psi(theta_y) = (-1)^k cos(m theta_y) - 2k, falling to the end.
      margin = functools.partial(multiplicative.sphereface, **options)
    return definition_lib.Definition(
      objective.Objective(
        margin, self.scale, negative=negative, weight=self.weight
      )
    )


@dataclasses.dataclass(frozen=True)
class Circle(definition_lib.OverClasses):
  """Circle loss between embeddings and prototypes (class level)."""

  name: ClassVar[str] = "circle"
  scale: Annotated[float, annotated_types.Gt(0)] = 256.0
  """gamma."""
  margin: Annotated[float, annotated_types.Interval(ge=0, lt=1)] = 0.25
  """m, the relaxation: similarity above 1 - m and below m costs little."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """z_y = s [1 + m - c_y]_+ (c_y - 1 + m) and z_j = s [c_j + m]_+ (c_j - m).

    References:
      Sun et al., Circle Loss: A Unified Perspective of Pair Similarity
        Optimization, 2020, Eq. 4 to 8.
    """
    # The weights [.]_+ grow with the distance from the optimum, 1 + m for the
    # own class and -m for others, and are constants to the gradient. So the
    # bound on s for plain cosines does not apply, and no advice is given.
    return definition_lib.Definition(
      objective.Objective(
        functools.partial(circle.circle, margin=self.margin),
        self.scale,
        negative=functools.partial(circle.circle_negative, margin=self.margin),
      )
    )
