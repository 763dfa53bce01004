"""The typed configurations of the losses within a batch; see `loss_config`."""

import dataclasses
from typing import ClassVar, TypeAlias

from facejax.losses import anchors, triplet


@dataclasses.dataclass(frozen=True)
class Triplet:
  """FaceNet's triplet loss, mined in each batch."""

  name: ClassVar[str] = "triplet"
  margin: float = 0.2
  """alpha, a difference of squared distances."""
  mining: triplet.Mining = "semi_hard_hardest"
  """Which triplets: all; hard: the farthest positive and nearest negative of
  each anchor; semi_hard: all whose negative is farther than the positive, by
  less than the margin; semi_hard_hardest: for each pair the nearest such
  (FaceNet); tensorflow: or the farthest one, if there is none; random: for
  each pair one that violates the margin."""
  distance: anchors.Distance = "squared"
  """What is compared."""


@dataclasses.dataclass(frozen=True)
class Contrastive:
  """Contrastive loss over all pairs of a batch."""

  name: ClassVar[str] = "contrastive"
  margin: float = 1.0
  """m, the distance that different people shall keep."""


@dataclasses.dataclass(frozen=True)
class SupCon:
  """Supervised contrastive loss."""

  name: ClassVar[str] = "supcon"
  temperature: float = 0.1
  """T."""


@dataclasses.dataclass(frozen=True)
class PairCircle:
  """Circle loss between the embeddings of a batch."""

  name: ClassVar[str] = "pair_circle"
  scale: float = 80.0
  """gamma."""
  margin: float = 0.4
  """m, the relaxation."""


# Compare the embeddings of a batch; no prototypes.
WithinBatch: TypeAlias = Triplet | Contrastive | SupCon | PairCircle
