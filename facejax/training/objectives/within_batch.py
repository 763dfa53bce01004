"""Losses between the embeddings of a batch; no prototypes.

A batch holds several images of each of some people. Each embedding is an
anchor in turn; positives are those of the same person, negatives the others.
Losses of pairs take the embeddings of earlier batches as partners as well, see
`memory`; triplets are mined in blocks over the devices, and do not.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import annotated_types
import jax
import jax.numpy as jnp

from facejax.head import triplet as sharded_triplet
from facejax.losses import anchors, multi_similarity, pairwise, triplet
from facejax.runtime import ranges, typing
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
    """The mean over the mined triplets of [d(a, p) - d(a, n) + alpha]_+.

    References:
      Schroff et al., FaceNet: A Unified Embedding for Face Recognition and
        Clustering, 2015, Eq. 1 to 3.
    """
    return functools.partial(self._mean, mesh=mesh)

  def _mean(
    self,
    embeddings: typing.Array,
    labels: typing.Array,
    *,
    key: typing.PRNGKey,
    mesh: jax.sharding.Mesh,
  ) -> tuple[typing.Array, definition_lib.Numbers]:
    # Partners come from the batch of all devices; the key is of "random".
    values, statistics = sharded_triplet.triplet(
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


@dataclasses.dataclass(frozen=True)
class Contrastive(definition_lib.WithinBatch):
  """Contrastive loss over all pairs of a batch."""

  name: ClassVar[str] = "contrastive"
  takes_past: ClassVar[bool] = True
  margin: Annotated[float, annotated_types.Interval(gt=0, lt=2)] = 1.0
  """m, the distance that different people shall keep."""

  def function(self, *, mesh: jax.sharding.Mesh) -> definition_lib.BatchLoss:
    """The mean of d^2 / 2 (one person) and [m - d]_+^2 / 2 (two people).

    References:
      Hadsell et al., Dimensionality Reduction by Learning an Invariant
        Mapping, 2006, Eq. 4.
    """
    # Each pair counts at both of its ends, so the mean over anchors is that
    # over pairs. Two people farther apart than m are done with.
    values = functools.partial(pairwise.contrastive, margin=self.margin)
    return functools.partial(_mean_of_pairs, values=values)


@dataclasses.dataclass(frozen=True)
class SupCon(definition_lib.WithinBatch):
  """Supervised contrastive loss."""

  name: ClassVar[str] = "supcon"
  takes_past: ClassVar[bool] = True
  temperature: Annotated[float, annotated_types.Gt(0)] = 0.1
  """T."""

  def function(self, *, mesh: jax.sharding.Mesh) -> definition_lib.BatchLoss:
    """The mean over anchors of -log softmax(c / T) of their positives.

    References:
      Khosla et al., Supervised Contrastive Learning, 2020, Eq. 2.
    """
    # -1/|P| sum over p of log(e^(c_p / T) / sum over a != i of e^(c_a / T)):
    # the smaller T, the more the nearest negatives alone decide.
    values = functools.partial(pairwise.supcon, temperature=self.temperature)
    return functools.partial(_mean_of_pairs, values=values)


@dataclasses.dataclass(frozen=True)
class PairCircle(definition_lib.WithinBatch):
  """Circle loss between the embeddings of a batch."""

  name: ClassVar[str] = "pair_circle"
  takes_past: ClassVar[bool] = True
  scale: Annotated[float, annotated_types.Gt(0)] = 80.0
  """gamma."""
  margin: Annotated[float, ranges.ANGLE] = 0.4
  """m, the relaxation."""

  def function(self, *, mesh: jax.sharding.Mesh) -> definition_lib.BatchLoss:
    """The mean over anchors of log(1 + sum of negatives x sum of positives).

    References:
      Sun et al., Circle Loss: A Unified Perspective of Pair Similarity
        Optimization, 2020, Eq. 4, 5 and 8.
    """
    # sum over n of e^(g [c_n + m]_+ (c_n - m)), and
    # sum over p of e^(g [1 + m - c_p]_+ (1 - m - c_p)), the weights constant.
    values = functools.partial(
      pairwise.circle, scale=self.scale, margin=self.margin
    )
    return functools.partial(_mean_of_pairs, values=values)


@dataclasses.dataclass(frozen=True)
class NTXent(definition_lib.WithinBatch):
  """NT-Xent, the contrastive loss of SimCLR."""

  name: ClassVar[str] = "nt_xent"
  takes_past: ClassVar[bool] = True
  temperature: Annotated[float, annotated_types.Gt(0)] = 0.5
  """T; 0.07 to 0.5 in the field."""

  def function(self, *, mesh: jax.sharding.Mesh) -> definition_lib.BatchLoss:
    """The mean over positive pairs of -log softmax(c / T) among negatives.

    References:
      Chen et al., A Simple Framework for Contrastive Learning of Visual
        Representations, 2020, Eq. 1.
    """
    # One term a pair, whose denominator has no other positive: a person of
    # many images does not push its own away.
    values = functools.partial(pairwise.nt_xent, temperature=self.temperature)
    return functools.partial(_mean_of_pairs, values=values)


@dataclasses.dataclass(frozen=True)
class MultiSimilarity(definition_lib.WithinBatch):
  """Multi-similarity loss, on the pairs that are hard for their anchor."""

  name: ClassVar[str] = "multi_similarity"
  takes_past: ClassVar[bool] = True
  positive_scale: Annotated[float, annotated_types.Gt(0)] = 2.0
  """alpha."""
  negative_scale: Annotated[float, annotated_types.Gt(0)] = 50.0
  """beta."""
  base: Annotated[float, annotated_types.Interval(ge=-1, le=1)] = 1.0
  """lambda, a cosine; 0.5 in the authors' code."""
  epsilon: Annotated[float, annotated_types.Interval(ge=0, le=2)] = 0.1
  """How much easier than the hardest of the other kind a mined pair may be; 2
  takes all pairs."""

  def function(self, *, mesh: jax.sharding.Mesh) -> definition_lib.BatchLoss:
    """The mean over anchors of two log-sum-exps, of positives and negatives.

    References:
      Wang et al., Multi-Similarity Loss with General Pair Weighting for Deep
        Metric Learning, 2019, Eq. 10, 11 and 15.
    """
    values = functools.partial(
      multi_similarity.multi_similarity,
      positive_scale=self.positive_scale,
      negative_scale=self.negative_scale,
      base=self.base,
      epsilon=self.epsilon,
    )
    return functools.partial(_mean_of_pairs, values=values)


def _mean_of_pairs(
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  key: typing.PRNGKey,
  values: Callable[..., anchors.AnchorLoss],
  past: anchors.Past | None = None,
) -> tuple[typing.Array, definition_lib.Numbers]:
  """The mean over all terms, and the share of these that is not yet learnt."""
  # No draws: every pair counts. All [batch, batch] cosines are at hand.
  del key
  found = values(embeddings, labels, past=past)
  share = found.active.sum() / jnp.maximum(found.terms.sum(), 1)
  return anchors.mean(found), {"active_share": share}
