"""What the head minimises: from cosines to the loss of an example."""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from facejax.head import objective_checks
from facejax.losses import alpha, choices
from facejax.losses import divergence as divergence_lib
from facejax.runtime import typing, unit_vectors

_TINY = 1e-12
# exp() of the largest logit, summed over the classes, must fit float32
# (e^88.7), and that of the smallest must not vanish (e^-87.3).
_SAFE_EXPONENT = 87.0
Table: TypeAlias = Callable[..., tuple[typing.Array, typing.Array]]
Strangers: TypeAlias = Literal["count", "ignore"]


def has_class(labels: typing.Array, num_classes: int) -> typing.Array:
  """Whether labels [batch] name a class, bool [batch]; others are strangers."""
  return (labels >= 0) & (labels < num_classes)


class HeadOutput(NamedTuple):
  """What a head returns, for each example of the batch.

  Attributes:
    loss: [batch] float32, natural units.
    target_cosine: [batch], cos theta_y, without margin; carries no gradient.
    correct: [batch] bool, whether all other classes that took part are farther.
    dropped: [batch], the probability of the classes that got no gradient from
      this example although the loss counts them; 0 for an exact gradient.
    support: [batch], of an objective with a `divergence`: how many classes have
      any probability; else None.
  """

  loss: typing.Array
  target_cosine: typing.Array
  correct: typing.Array
  dropped: typing.Array
  support: typing.Array | None = None


class Parameters(NamedTuple):
  """Numbers of each example that a loss depends on, by argument name.

  Attributes:
    margin: further arguments [batch] of `Objective.margin`.
    negative: further arguments [batch] of `Objective.negative`.
  """

  margin: dict[str, typing.Array] = {}  # noqa: RUF012, never written to
  negative: dict[str, typing.Array] = {}  # noqa: RUF012


@dataclasses.dataclass(frozen=True)
class Objective:
  r"""A classification loss; static, programs are compiled for it.

  With c_j the cosine of embedding and prototype j, y the true class, s the
  length given to the embedding and n_j that of the prototype (1, unless
  `unit_prototypes` is off):

  .. math::
    z_y = s n_y \varphi(c_y), \qquad z_j = s n_j\, t(c_j, c_y), \quad j \ne y

  .. math::
    L = \log\Bigl(1 + e^{-z_y} \sum_{j \ne y} e^{z_j}\Bigr)
    \quad\text{or}\quad
    L = a \log(1 + e^{-z_y}) + b \sum_{j \ne y} \log(1 + e^{z_j})

  A label outside [0, num_classes) names no class: the example is a stranger,
  without a target. It is to be far from all classes,

  .. math::
    L = \log\Bigl(1 + \sum_j e^{z_j}\Bigr)
    \quad\text{or}\quad
    L = b \sum_j \log(1 + e^{z_j})

  or, if `strangers` says so, counts for nothing. Without the 1 in the first
  form, `own_counts` off, it is proxy NCA.

  With `interclass_filtering_threshold` tau > 0 both sums leave out, for each
  example, the classes j != y that are suspiciously near, c_j > tau: likely the
  same person under a second label, who is not to be pushed away,

  .. math::
    \sum_{j \ne y} \quad\text{becomes}\quad \sum_{j \ne y,\; c_j \le \tau}

  The target counts always. (InsightFace's code of the same name sets these
  cosines to 0 instead, which leaves a term e^0 of each.)

  A loss that is none of both gives `table`, and the rest is not looked at.

  Attributes:
    margin: phi(target_cosine, **parameters), [batch] to [batch]; any function
      of `losses.margins`, with its parameters bound or given for each example.
    scale: s > 0, finite; None takes the length of the embedding itself.
    negative: t(cosine, target_cosine, **parameters), elementwise, or None for
      t = c_j. c_y is for comparisons: its gradient is not followed.
    unit_prototypes: normalise the prototypes; if not, z_j = x . w_j, and the
      loss may have no `negative`.
    bias: a last column of the prototypes is added to the logits; needs
      scale=None and unit_prototypes=False.
    one_vs_all: (a, b) of the second form, not below 0; None for the first,
      softmax.
    penalty: of c_y, [batch] to [batch]; added to the loss, or None.
    weight: factor of the loss, without the penalty; above 0.
    strangers: "count" gives examples without a class the loss above, "ignore"
      the loss 0.
    own_counts: whether the own class stands in the denominator of softmax; if
      not, L = log sum over j != y of e^z_j, less z_y, which falls below 0.
    table: (c, w / ||w||, labels, classes=number) -> (the loss [batch],
      similarities [batch, rows] of which the largest is the nearest class); c
      is [batch, rows] or [batch, rows, k] for k centres, rows beyond the number
      of classes are padding. For losses that are no sum over the classes for
      each example: all cosines are written out, by "dense" alone.
    interclass_filtering_threshold: tau, in [0, 1); 0 leaves out none. Needs
      unit prototypes, and no `table`.
    divergence: the softmax is that of `losses.alpha`, in which most classes
      have no probability; None is e^z. Needs unit prototypes.

  References:
    Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition,
      2018, Eq. 4 (first form).
    Wen et al., SphereFace2: Binary Classification is All You Need for Deep
      Face Recognition, 2022 (second form).
    Movshovitz-Attias et al., No Fuss Distance Metric Learning using Proxies,
      2017, Eq. 6 (proxy NCA).
    An et al., Killing Two Birds with One Stone: Efficient and Robust Training
      of Face Recognition CNNs by Partial FC, 2022 (noise among the negatives).
  """

  margin: Callable[..., typing.Array]
  scale: float | None = 64.0
  negative: Callable[..., typing.Array] | None = None
  unit_prototypes: bool = True
  bias: bool = False
  one_vs_all: tuple[float, float] | None = None
  penalty: Callable[[typing.Array], typing.Array] | None = None
  weight: float = 1.0
  strangers: Strangers = "count"
  own_counts: bool = True
  table: Table | None = None
  interclass_filtering_threshold: float = 0.0
  divergence: divergence_lib.Divergence | None = None

  def __post_init__(self):
    choices.check("strangers", self.strangers, Strangers)
    objective_checks.check(self)

  @property
  def is_bounded(self) -> bool:
    """Whether every logit of another class is known to lie in [-s, s]."""
    return (
      self.unit_prototypes and self.scale is not None and self.negative is None
    )

  def sums_fit(self, num_classes: int) -> bool:
    """Whether sums of e^z_j fit float32 without a shift: |z_j| <= s is known.

    >>> objective = Objective(lambda cosine: cosine, scale=64.0)
    >>> objective.sums_fit(1_000_000)
    True
    >>> dataclasses.replace(objective, scale=128.0).sums_fit(10)
    False
    """
    if not self.is_bounded or self.scale is None:
      return False
    return self.scale + math.log(num_classes) < _SAFE_EXPONENT

  def queries(
    self, embeddings: typing.Array
  ) -> tuple[typing.Array, typing.Array]:
    """The vectors s u [batch, dim] that prototypes are compared with, and s.

    With a bias they are one longer than the embeddings.
    """
    x = embeddings.astype(jnp.promote_types(embeddings.dtype, jnp.float32))
    if self.bias:
      x = jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)
    units = unit_vectors.l2_normalize(x)
    # s = ||x||, as x . u, whose gradient at x = 0 is a number.
    if self.scale is None:
      return x, (x * units).sum(axis=1)
    return self.scale * units, jnp.full_like(x[:, 0], self.scale)

  def cosine(
    self, dot: typing.Array, lengths: typing.Array, norms: typing.Array
  ) -> typing.Array:
    """dot / (s n), and 0 where that is 0 / 0."""
    return dot / jnp.maximum(lengths * norms, _TINY)

  def others(
    self,
    dot: typing.Array,
    lengths: typing.Array,
    target_cosine: typing.Array,
    parameters: dict[str, typing.Array],
  ) -> typing.Array:
    """Logits z_j from s n_j c_j; arguments of shapes that broadcast."""
    if self.negative is None:
      return dot
    # z_j = s t(c_j, c_y): n_j is 1, for `negative` needs unit prototypes.
    cosine = self.cosine(dot, lengths, jnp.ones_like(lengths))
    target = jax.lax.stop_gradient(target_cosine)
    return lengths * self.negative(cosine, target, **parameters)

  def counts(
    self, dot: typing.Array, lengths: typing.Array
  ) -> typing.Array | bool:
    """Whether c_j <= tau, from s c_j; arguments of shapes that broadcast.

    >>> objective = Objective(lambda c: c, interclass_filtering_threshold=0.5)
    >>> objective.counts(jnp.array([32.0, 33.0]), 64.0).tolist()
    [True, False]
    """
    if not self.interclass_filtering_threshold:
      return True
    return dot <= self.interclass_filtering_threshold * lengths

  def loss(
    self,
    others: typing.Array,
    dot: typing.Array,
    lengths: typing.Array,
    norms: typing.Array,
    parameters: dict[str, typing.Array],
    known: typing.Array | None = None,
    solved: alpha.Solved | None = None,
  ) -> typing.Array:
    """The loss of each example.

    Args:
      others: [batch], log-sum-exp of the logits z_j (softmax; -inf where there
        are none), or the sum of their softplus (one-vs-all).
      dot: [batch], s n_y c_y.
      lengths: [batch], s.
      norms: [batch], n_y.
      parameters: further arguments of the margin.
      known: bool [batch], whether the example has a class; None for all.
      solved: of a `divergence`, for which `others` is of any value whose
        derivative by each z_j is its probability.
    """
    cosine = self.cosine(dot, lengths, norms)
    target = self.target(dot, lengths, norms, parameters)
    value = self.weight * self._value(others, target, solved)
    if self.penalty is not None:
      value = value + self.penalty(cosine)
    if known is None:
      return value
    return jnp.where(known, value, self._of_strangers(others, solved))

  def target(
    self,
    dot: typing.Array,
    lengths: typing.Array,
    norms: typing.Array,
    parameters: dict[str, typing.Array],
  ) -> typing.Array:
    """z_y = s n_y phi(c_y), [batch]; arguments as of `loss`."""
    cosine = self.cosine(dot, lengths, norms)
    return lengths * norms * self.margin(cosine, **parameters)

  def _of_strangers(
    self, others: typing.Array, solved: alpha.Solved | None
  ) -> typing.Array:
    """L of examples without a class; [batch]."""
    if self.strangers == "ignore":
      return jnp.zeros_like(others)
    if self.one_vs_all is not None:
      return self.weight * self.one_vs_all[1] * others
    # As of a target whose logit is 0.
    return self.weight * self._value(others, jnp.zeros_like(others), solved)

  def _value(
    self,
    others: typing.Array,
    target: typing.Array,
    solved: alpha.Solved | None,
  ) -> typing.Array:
    """L of all forms, from what the others amount to and z_y; [batch]."""
    if solved is not None:
      return alpha.linear(solved, others, target)
    if self.one_vs_all is not None:
      # a log(1 + e^-z_y) + b sum_{j != y} log(1 + e^z_j)
      positive, negative = self.one_vs_all
      return positive * jax.nn.softplus(-target) + negative * others
    # log(1 + e^(others - z_y)). As a difference of logits: log-sum-exp over all
    # classes minus the target's would cancel to 0 once p is nearly 1. A class
    # that is alone costs nothing.
    alone = others == -jnp.inf
    gap = jnp.where(alone, 0, others) - target
    value = jax.nn.softplus(gap) if self.own_counts else gap
    return jnp.where(alone, 0, value)
