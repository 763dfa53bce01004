"""Losses of metric learning between a batch and proxies of the classes.

The proxies are the head's prototypes, one a class or several; they learn with
the optimizer of the head. The papers give them a larger step than the net.
"""

import dataclasses
from typing import Annotated, ClassVar

import annotated_types
import jax.numpy as jnp

from facejax.head import objective
from facejax.losses import margins, proxies
from facejax.runtime import ranges, typing
from facejax.training.objectives import definition as definition_lib


@dataclasses.dataclass(frozen=True)
class ProxyNCA(definition_lib.OverClasses):
  """Proxy NCA: as near to the own proxy as the others are far.

  In blocks, for any number of classes.
  """

  name: ClassVar[str] = "proxy_nca"
  temperature: Annotated[float, annotated_types.Gt(0)] = 1 / 9
  """T, of squared distances of unit vectors: 1/9 in ProxyNCA++, 1 in the first
  paper."""
  own_counts: bool = False
  """Count the own proxy in the denominator as well: ProxyNCA++, which is then
  the softmax nsl at s = 2 / T."""

  @property
  def has_probabilities(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
    """Only with the own class is it a softmax."""
    return self.own_counts

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """-log( e^(-d_y / T) / sum over j != y of e^(-d_j / T) ), d = |x - w|^2.

    References:
      Movshovitz-Attias et al., No Fuss Distance Metric Learning using Proxies,
        2017, Eq. 6.
      Teh et al., ProxyNCA++: Revisiting and Revitalizing Proxy Neighborhood
        Component Analysis, 2020, Eq. 7.
    """
    # d = 2 - 2 c of unit vectors, and e^(-2 / T) stands in both parts.
    return definition_lib.Definition(
      objective.Objective(
        margins.nsl, 2 / self.temperature, own_counts=self.own_counts
      )
    )


@dataclasses.dataclass(frozen=True)
class ProxyAnchor(definition_lib.OverClasses):
  """Proxy anchor: each class against all examples of the batch.

  Its sums run over the batch within a logarithm, for each class: it is no sum
  over examples, and the head that walks through blocks of classes has one
  number an example. So all cosines are written out, `head.implementation
  dense`, split by class over the devices; other implementations are refused.
  """

  name: ClassVar[str] = "proxy_anchor"
  needs_table: ClassVar[bool] = True
  scale: Annotated[float, annotated_types.Gt(0)] = 32.0
  """alpha."""
  margin: Annotated[float, annotated_types.Interval(ge=0, lt=2)] = 0.1
  """delta, a difference of cosines."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """The mean over classes of log(1 + sum over examples), near and far.

    References:
      Kim et al., Proxy Anchor Loss for Deep Metric Learning, 2020, Eq. 4.
    """
    return definition_lib.Definition(
      objective.Objective(margins.nsl, table=self._table)
    )

  def _table(
    self,
    cosine: typing.Array,
    proxy: typing.Array,
    labels: typing.Array,
    *,
    classes: int,
  ) -> tuple[typing.Array, typing.Array]:
    del proxy
    value = proxies.proxy_anchor(
      cosine, labels, scale=self.scale, margin=self.margin, classes=classes
    )
    # The loss of the whole batch: said of each example, the mean is the same.
    return jnp.broadcast_to(value, cosine.shape[:1]), cosine


@dataclasses.dataclass(frozen=True)
class SoftTriple(definition_lib.OverClasses):
  """SoftTriple: several centres a class, each counting as it is near.

  Other heads take the nearest centre alone, and a block of logits has one
  number a class. So all cosines are written out, `head.implementation dense`,
  split by class over the devices; other implementations are refused.
  """

  name: ClassVar[str] = "soft_triple"
  needs_table: ClassVar[bool] = True
  scale: Annotated[float, annotated_types.Gt(0)] = 20.0
  """lambda."""
  margin: Annotated[float, annotated_types.Interval(ge=0, lt=2)] = 0.01
  """delta, a difference of similarities."""
  gamma: Annotated[float, annotated_types.Gt(0)] = 0.1
  """How evenly the centres of a class count; near 0 the nearest alone."""
  tau: Annotated[float, ranges.NOT_NEGATIVE] = 0.2
  """Weight of the centres' mean distance, which draws those together that a
  class does not need."""
  centers: Annotated[int, annotated_types.Interval(ge=1, le=100)] = 10
  """K, centres a class."""

  def definition(self, num_classes: int) -> definition_lib.Definition:
    """A softmax of l S with a margin, and tau times the centres' distance.

    References:
      Qian et al., SoftTriple Loss: Deep Metric Learning Without Triplet
        Sampling, 2019, Eq. 8 to 11.
    """
    return definition_lib.Definition(
      objective.Objective(margins.nsl, table=self._table),
      centers=self.centers,
    )

  def _table(
    self,
    cosine: typing.Array,
    centers: typing.Array,
    labels: typing.Array,
    *,
    classes: int,
  ) -> tuple[typing.Array, typing.Array]:
    if self.centers == 1:
      cosine, centers = cosine[..., None], centers[:, None]
    similarity = proxies.soft_similarity(cosine, gamma=self.gamma)
    value = proxies.soft_triple(
      similarity, labels, scale=self.scale, margin=self.margin, classes=classes
    )
    # One number for all examples: the mean gives it once.
    apart = proxies.centers_apart(centers, classes=classes)
    return value + self.tau * apart, similarity
