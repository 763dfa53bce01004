"""The configuration of the optimizer."""

import dataclasses
import math
from typing import Annotated, Literal, TypeAlias

import annotated_types

from facejax.training import lengths, optim

# Each row of a matrix on its own or each number: what can train prototypes.
HeadName: TypeAlias = Literal["sgd", "adagrad", "adamw", "lion"]
Name: TypeAlias = Literal[HeadName, "lars", "lamb", "muon", "schedule_free"]


@dataclasses.dataclass(frozen=True)
class HeadOptimConfig:
  """Where the classification head is trained otherwise than the trunk.

  None is as the trunk is trained.
  """

  name: HeadName | None = None
  """The optimizer of the prototypes, and of what else the loss learns."""
  learning_rate: Annotated[float, annotated_types.Gt(0)] | None = None
  """Learning rate after the warm-up."""
  momentum: Annotated[float, annotated_types.Interval(ge=0, lt=1)] | None = None
  """Momentum (sgd); 0 keeps none in memory."""
  epsilon: Annotated[float, annotated_types.Gt(0)] | None = None
  """See the trunk's (adagrad, adamw)."""
  beta1: Annotated[float, annotated_types.Interval(ge=0, lt=1)] | None = None
  """See the trunk's (adamw, lion)."""
  beta2: Annotated[float, annotated_types.Interval(ge=0, lt=1)] | None = None
  """See the trunk's (adamw, lion)."""
  weight_decay: Annotated[float, annotated_types.Ge(0)] | None = None
  """Weight decay of the prototypes."""
  schedule: optim.Schedule | None = None
  """Shape of its learning rate after the warm-up."""
  warmup: Annotated[lengths.Share | None, lengths.SHARE] = None
  """Length of its linear warm-up."""


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  """The optimizer and its learning-rate schedule.

  Warm-up and milestones are shares of the run (0.1), so that a run made longer
  or shorter keeps the shape of its schedule; or passes over the images (2ep), or
  steps (500st), which stay where they are.
  """

  name: Name = "sgd"
  """sgd: with momentum; adagrad: step sizes by the sum of squared gradients;
  adamw: by their running mean; lion: the sign of a momentum. For the trunk
  alone, the head then takes its own (optim.head.name): lars and lamb, steps in
  proportion to the weights; muon: orthogonal steps; schedule_free: adamw whose
  running mean, which is verified, makes up for a schedule. Another one than the
  recipe's brings its usual learning rate and decay along: sgd 0.1 and 5e-4,
  adagrad 0.05 and 0, adamw and schedule_free 1e-3 and 0.1, lion 1e-4 and 1."""
  learning_rate: Annotated[float, annotated_types.Gt(0)] = 0.1
  """Learning rate after the warm-up."""
  scale_by_batch: Literal["none", "linear", "sqrt"] = "none"
  """Multiply the learning rate, and the head's own (optim.head.learning_rate),
  by batch_size / reference_batch, as is usual with sgd, or by the root of that,
  as with adamw. The table at the start of a run says what results."""
  reference_batch: Annotated[int, annotated_types.Ge(1)] = 512
  """The batch size that the learning rate is meant for, where it is scaled."""
  momentum: Annotated[float, annotated_types.Interval(ge=0, lt=1)] = 0.9
  """Momentum (sgd, lars, muon, published with 0.95); 0 keeps none in memory
  (sgd)."""
  nesterov: bool = False
  """Nesterov's form of the momentum (sgd, lars)."""
  trust: Annotated[float, annotated_types.Gt(0)] = 1e-3
  """A step's size as a share of the weights' (lars)."""
  accumulator: Annotated[float, annotated_types.Ge(0)] = 0.1
  """Start of the sum of squared gradients (adagrad)."""
  epsilon: Annotated[float, annotated_types.Gt(0)] = 1e-7
  """Added to that sum (adagrad), or to its root (adamw, published with
  1e-8; lamb, with 1e-6)."""
  beta1: Annotated[float, annotated_types.Interval(ge=0, lt=1)] = 0.9
  """Decay of the mean of gradients (adamw, lion, lamb, muon beside kernels), or
  how near to the running mean gradients are taken (schedule_free, above 0)."""
  beta2: Annotated[float, annotated_types.Interval(ge=0, lt=1)] = 0.999
  """Decay of the mean of squares (adamw, lamb, muon beside kernels,
  schedule_free), of the momentum (lion, published with 0.99)."""
  ema: Annotated[float, annotated_types.Interval(ge=0, lt=1)] = 0.0
  """Decay of a running average of the net's weights, which is then verified
  in their place; 0 for none. 0.999 averages about a thousand steps."""
  weight_decay: Annotated[float, annotated_types.Ge(0)] = 5e-4
  """Coupled (L2) with sgd, adagrad and lars; with the others decoupled, times
  the learning rate."""
  decay: Literal["all", "kernels"] = "all"
  """What it acts on: all weights, as the field trains ResNets, or the trunk's
  kernels and the prototypes alone: no norm, bias, slope or position."""
  layer_decay: Annotated[float, annotated_types.Interval(gt=0, le=1)] = 1.0
  """Factor of the learning rate from a block of the trunk to the one before it;
  0.75 is usual when ViTs are fine-tuned."""
  freeze: str = ""
  """Weights of the trunk that are not trained: a regular expression that their
  names begin with, such as stem or 'stem|blocks.[0-3][.]'."""
  clip_norm: Annotated[float, annotated_types.Ge(0)] = 5.0
  """Bound of the global norm of the trunk's gradient; 0 for none."""
  schedule: optim.Schedule = "linear"
  """Shape of the learning rate after the warm-up."""
  warmup: lengths.Share = 0.0
  """Length of the linear warm-up: a share of the run, passes such as 2ep, or
  steps such as 500st."""
  # Where the schedule has steps, between warm-up and end; else not looked at.
  milestones: Annotated[tuple[lengths.Mark, ...], lengths.SHARES] = ()
  """Lengths, from the start of the run, after which the step schedule multiplies
  by decay_factor: 0.6 0.9, or 12ep 20ep, or 20000st 28000st."""
  decay_factor: Annotated[float, annotated_types.Interval(gt=0, lt=1)] = 0.1
  """Factor of the step schedule."""
  power: Annotated[float, annotated_types.Gt(0)] = 2.0
  """Exponent of the polynomial schedule."""
  head: HeadOptimConfig = HeadOptimConfig()

  @property
  def averages(self) -> bool:
    """Whether a mean of the weights is kept, and verified in their place."""
    return bool(self.ema) or self.name == "schedule_free"

  def of_head(self) -> "OptimConfig":
    """The same for the head: its own values where it has them.

    >>> own = HeadOptimConfig(learning_rate=0.5)
    >>> OptimConfig(momentum=0.8, head=own).of_head().learning_rate
    0.5
    """
    own = {
      name: value
      for name, value in vars(self.head).items()
      if value is not None
    }
    return dataclasses.replace(self, head=HeadOptimConfig(), **own)

  def at_batch(self, batch_size: int) -> "OptimConfig":
    """The same with the learning rates that `scale_by_batch` makes of a batch.

    >>> optim = OptimConfig(learning_rate=0.1, scale_by_batch="sqrt")
    >>> optim.at_batch(2048).learning_rate
    0.2
    """
    if self.scale_by_batch == "none":
      return self
    ratio = batch_size / self.reference_batch
    factor = math.sqrt(ratio) if self.scale_by_batch == "sqrt" else ratio
    own = self.head.learning_rate
    head = dataclasses.replace(
      self.head, learning_rate=None if own is None else own * factor
    )
    rate = self.learning_rate * factor
    return dataclasses.replace(
      self, learning_rate=rate, scale_by_batch="none", head=head
    )
