"""The typed configurations of the losses, with their published values.

Each loss has a class of its own, so that a recipe offers exactly the flags that
its loss has. Another loss is another recipe.
"""

import dataclasses
from typing import ClassVar, Literal, TypeAlias

from facejax.losses import binary, margins
from facejax.training.objectives import within_batch


@dataclasses.dataclass(frozen=True)
class Softmax:
  """Softmax: logits w_j . x + b_j, nothing normalised."""

  name: ClassVar[str] = "softmax"
  bias: bool = True
  """Learn a bias for each class."""


@dataclasses.dataclass(frozen=True)
class ModifiedSoftmax:
  """Modified softmax: |x| cos; prototypes normalised, embeddings not."""

  name: ClassVar[str] = "modified_softmax"


@dataclasses.dataclass(frozen=True)
class NSL:
  """Normalised softmax loss (NormFace): s cos."""

  name: ClassVar[str] = "nsl"
  scale: float = 64.0
  """s, the length that embeddings are given."""


@dataclasses.dataclass(frozen=True)
class CosFace:
  """CosFace, AM-Softmax: s (cos - m)."""

  name: ClassVar[str] = "cosface"
  scale: float = 64.0
  """s, the length that embeddings are given."""
  margin: float = 0.35
  """m, a difference of cosines."""


@dataclasses.dataclass(frozen=True)
class ArcFace:
  """ArcFace: s cos(theta + m), with one or more centres a class."""

  name: ClassVar[str] = "arcface"
  scale: float = 64.0
  """s, the length that embeddings are given."""
  margin: float = 0.5
  """m, an angle in radians."""
  guard: margins.Guard = "fallback"
  """What is done where theta + m exceeds pi."""
  gradient: margins.Gradient = "exact"
  """detached: the same value with the gradient of the plain cosine."""
  centers: int = 1
  """Sub-centres a class; the nearest one counts (3 in sub-center ArcFace)."""
  intra_weight: float = 0.0
  """Weight of the mean angle to the own class, theta / pi, as a further
  term."""


@dataclasses.dataclass(frozen=True)
class Combined:
  """The combined margin: s (cos(m1 theta + m2) - m3)."""

  name: ClassVar[str] = "combined"
  scale: float = 64.0
  """s, the length that embeddings are given."""
  m1: float = 1.0
  """Factor of the angle."""
  m2: float = 0.3
  """Added to the angle, radians."""
  m3: float = 0.2
  """Subtracted from the cosine."""
  gradient: margins.Gradient = "exact"
  """detached: the same value with the gradient of the plain cosine."""


@dataclasses.dataclass(frozen=True)
class LSoftmax:
  """L-Softmax: |w_y| |x| psi(theta), annealed; nothing normalised."""

  name: ClassVar[str] = "l_softmax"
  margin: int = 2
  """m, the factor of the angle."""
  base: float = 1000.0
  """The plain cosine's weight is max(minimum, base (1 + gamma step)^-power)."""
  gamma: float = 2.5e-5
  """See base."""
  power: float = 35.0
  """See base."""
  minimum: float = 0.0
  """See base."""


@dataclasses.dataclass(frozen=True)
class ASoftmax:
  """A-Softmax (SphereFace): |x| psi(theta), annealed; prototypes normalised."""

  name: ClassVar[str] = "a_softmax"
  margin: int = 4
  """m, the factor of the angle."""
  base: float = 1000.0
  """The plain cosine's weight is max(minimum, base (1 + gamma step)^-power)."""
  gamma: float = 0.12
  """See base."""
  power: float = 1.0
  """See base."""
  minimum: float = 5.0
  """See base."""


@dataclasses.dataclass(frozen=True)
class SphereFaceR:
  """SphereFace-R: a factor of the angle, with a fixed scale."""

  name: ClassVar[str] = "sphereface_r"
  version: Literal["v0", "v1", "v2"] = "v2"
  """v0: psi with a real m; v1: cos(min(m theta, pi)); v2: cos(theta / m) for
  the other classes."""
  scale: float = 60.0
  """s, the length that embeddings are given."""
  margin: float = 1.4
  """m, the factor of the angle."""
  weight: float = 50 / 60
  """Factor of the whole loss."""
  gradient: margins.Gradient = "detached"
  """detached: the same value with the gradient of the plain cosine, as
  published."""


@dataclasses.dataclass(frozen=True)
class SphereFace2:
  """SphereFace2: one-vs-all, a binary loss for every class."""

  name: ClassVar[str] = "sphereface2"
  kind: binary.Kind = "C"
  """Where the margin acts: on the cosine, added to the angle, or as a factor
  of it."""
  scale: float = 40.0
  """r, the length that embeddings are given."""
  margin: float = 0.4
  """m, by kind: a difference of cosines, an angle, a factor."""
  alpha: float = 0.7
  """Weight of the own class; 1 - alpha is that of each other one."""
  power: float = 3.0
  """t of the map 2 ((cos + 1) / 2)^t - 1."""
  weight: float = 50.0
  """Factor of the whole loss."""


@dataclasses.dataclass(frozen=True)
class AdaFace:
  """AdaFace: margins by image quality, read off the embedding's norm."""

  name: ClassVar[str] = "adaface"
  scale: float = 64.0
  """s, the length that embeddings are given."""
  margin: float = 0.4
  """m, an angle (low quality) to a difference of cosines (high quality)."""
  concentration: float = 0.333
  """h, how far the norm's deviation moves the margin."""
  rate: float = 0.01
  """Weight of a batch in the running mean and deviation of the norms."""


@dataclasses.dataclass(frozen=True)
class MagFace:
  """MagFace: an angle that grows with the embedding's norm."""

  name: ClassVar[str] = "magface"
  scale: float = 64.0
  """s, the length that embeddings are given for the logits."""
  lower_norm: float = 10.0
  """l_a: norms are clipped to [l_a, u_a]."""
  upper_norm: float = 110.0
  """u_a."""
  lower_margin: float = 0.45
  """l_m: the margin at norm l_a, radians."""
  upper_margin: float = 0.8
  """u_m: the margin at norm u_a, radians."""
  weight: float = 35.0
  """lambda_g, of the term that rewards large norms."""
  guard: margins.Guard = "easy"
  """What is done where theta + m exceeds pi."""


@dataclasses.dataclass(frozen=True)
class CurricularFace:
  """CurricularFace: ArcFace with hard negatives weighted up over time."""

  name: ClassVar[str] = "curricularface"
  scale: float = 64.0
  """s, the length that embeddings are given."""
  margin: float = 0.5
  """m, an angle in radians."""
  decay: float = 0.99
  """How much of the running mean cosine t a step keeps."""


@dataclasses.dataclass(frozen=True)
class ElasticFace:
  """ElasticFace: a margin drawn for each image."""

  name: ClassVar[str] = "elasticface"
  kind: Literal["arc", "cos"] = "arc"
  """ArcFace's margin or CosFace's."""
  scale: float = 64.0
  """s, the length that embeddings are given."""
  margin: float = 0.5
  """Mean of the margins."""
  std: float = 0.05
  """Their standard deviation."""
  order: Literal["none", "code", "rank"] = "none"
  """Which image gets which of the drawn margins (ElasticFace+): rank matches
  ranks; code is the permutation of the published code, which does not."""


@dataclasses.dataclass(frozen=True)
class UniFace:
  """UniFace (UCE): one-vs-all with one threshold for all pairs."""

  name: ClassVar[str] = "uniface"
  scale: float = 64.0
  """s, the length that embeddings are given."""
  margin: float = 0.4
  """m, a difference of cosines."""
  weight: float = 1.0
  """l, the weight of each other class."""
  clamp: bool = True
  """Clamp logits to [-s, s] as published; a far outlier gets no gradient."""


@dataclasses.dataclass(frozen=True)
class Circle:
  """Circle loss between embeddings and prototypes (class level)."""

  name: ClassVar[str] = "circle"
  scale: float = 256.0
  """gamma."""
  margin: float = 0.25
  """m, the relaxation: similarity above 1 - m and below m costs little."""


LossConfig: TypeAlias = (
  within_batch.WithinBatch
  | Softmax
  | ModifiedSoftmax
  | NSL
  | CosFace
  | ArcFace
  | Combined
  | LSoftmax
  | ASoftmax
  | SphereFaceR
  | SphereFace2
  | AdaFace
  | MagFace
  | CurricularFace
  | ElasticFace
  | UniFace
  | Circle
)
