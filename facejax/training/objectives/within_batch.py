"""Losses between the embeddings of a batch; they have no prototypes."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import annotated_types
import jax
import jax.numpy as jnp

from facejax.head import triplet as mined
from facejax.losses import anchors, pairwise, triplet
from facejax.runtime import typing
from facejax.training.objectives import definition as definition_lib


@dataclasses.dataclass(frozen=True)
class Triplet(definition_lib.WithinBatch):
  """FaceNet's triplet loss, mined in each batch."""

  name: ClassVar[str] = "triplet"
  margin: Annotated[float, annotated_types.Interval(gt=0, lt=4)] = 0.2
  """alpha, a difference of squared distances."""
  mining: triplet.Mining = "semi_hard_hardest"
  """Which triplets: all; hard: the farthest positive and nearest negative of
  each anchor; semi_hard: all whose negative is farther than the positive, by
  less than the margin; semi_hard_hardest: for each pair the nearest such
  (FaceNet); tensorflow: or the farthest one, if there is none; random: for
  each pair one that violates the margin."""
  distance: anchors.Distance = "squared"
  """What is compared."""

  def function(self, *, mesh: jax.sharding.Mesh) -> definition_lib.BatchLoss:
    """max(0, d(a, p) - d(a, n) + alpha), over the triplets that were mined.

    References:
      Schroff, Kalenichenko, Philbin, FaceNet: A Unified Embedding for Face
        Recognition and Clustering, 2015, Eq. 2 and Sec. 3.2.
    """

    def loss(
      embeddings: typing.Array, labels: typing.Array, *, key: typing.PRNGKey
    ) -> tuple[typing.Array, definition_lib.Numbers]:
      values, statistics = mined.triplet(
        embeddings,
        labels,
        mesh=mesh,
        margin=self.margin,
        mining=self.mining,
        distance=self.distance,
        key=key,
      )
      # Of all triplets most are learnt soon: their mean would fade.
      over: Any = "active" if self.mining == "all" else "all"
      return anchors.mean(values, over=over), statistics._asdict()

    return loss


@dataclasses.dataclass(frozen=True)
class Contrastive(definition_lib.WithinBatch):
  """Contrastive loss over all pairs of a batch."""

  name: ClassVar[str] = "contrastive"
  margin: Annotated[float, annotated_types.Interval(gt=0, lt=2)] = 1.0
  """m, the distance that different people shall keep."""

  def function(self, *, mesh: jax.sharding.Mesh) -> definition_lib.BatchLoss:
    """d^2 / 2 for one person's pairs, max(0, m - d)^2 / 2 for the others.

    References:
      Hadsell, Chopra, LeCun, Dimensionality Reduction by Learning an Invariant
        Mapping, 2006, Eq. 4.
    """
    del mesh
    return _over_anchors(
      functools.partial(pairwise.contrastive, margin=self.margin)
    )


@dataclasses.dataclass(frozen=True)
class SupCon(definition_lib.WithinBatch):
  """Supervised contrastive loss."""

  name: ClassVar[str] = "supcon"
  temperature: Annotated[float, annotated_types.Gt(0)] = 0.1
  """T."""

  def function(self, *, mesh: jax.sharding.Mesh) -> definition_lib.BatchLoss:
    """A softmax over the batch at temperature T, averaged over positives.

    References:
      Khosla et al., Supervised Contrastive Learning, 2020, Eq. 2.
    """
    del mesh
    return _over_anchors(
      functools.partial(pairwise.supcon, temperature=self.temperature)
    )


@dataclasses.dataclass(frozen=True)
class PairCircle(definition_lib.WithinBatch):
  """Circle loss between the embeddings of a batch."""

  name: ClassVar[str] = "pair_circle"
  scale: Annotated[float, annotated_types.Gt(0)] = 80.0
  """gamma."""
  margin: Annotated[float, annotated_types.Interval(ge=0, lt=3.14159)] = 0.4
  """m, the relaxation."""

  def function(self, *, mesh: jax.sharding.Mesh) -> definition_lib.BatchLoss:
    """log(1 + sum_n exp(z_n) sum_p exp(z_p)), each weighted by its distance.

    References:
      Sun et al., Circle Loss: A Unified Perspective of Pair Similarity
        Optimization, 2020, Eq. 6.
    """
    del mesh
    return _over_anchors(
      functools.partial(pairwise.circle, scale=self.scale, margin=self.margin)
    )


def _over_anchors(
  values: Callable[..., anchors.AnchorLoss],
) -> definition_lib.BatchLoss:
  """The mean over the anchors of a batch, and the share that still learns."""

  def loss(
    embeddings: typing.Array, labels: typing.Array, *, key: typing.PRNGKey
  ) -> tuple[typing.Array, definition_lib.Numbers]:
    del key  # nothing is drawn
    found = values(embeddings, labels)
    share = found.active.sum() / jnp.maximum(found.terms.sum(), 1)
    return anchors.mean(found), {"active_share": share}

  return loss
