"""The configuration of what stands beside the loss of a recipe."""

import dataclasses
from typing import Annotated

import annotated_types


@dataclasses.dataclass(frozen=True)
class CenterConfig:
  """Center loss, in addition to the classification loss."""

  weight: Annotated[float, annotated_types.Ge(0)] = 0.0
  """lambda, its weight; 0 for none. The paper takes 0.003."""
  rate: Annotated[float, annotated_types.Interval(gt=0, le=1)] = 0.5
  """alpha, how far centres move to the mean of a batch."""


@dataclasses.dataclass(frozen=True)
class DistillationConfig:
  """What is learnt from the run that `distill` names."""

  cosine: Annotated[float, annotated_types.Ge(0)] = 1.0
  """Weight of 1 - cos of each embedding and the teacher's."""
  relations: Annotated[float, annotated_types.Ge(0)] = 0.0
  """Weight of the mean squared difference between the cosines of the batch's
  embeddings to each other, and those of the teacher's, which may be of another
  size."""


@dataclasses.dataclass(frozen=True)
class MemoryConfig:
  """A memory of past embeddings, for losses between pairs within a batch."""

  size: Annotated[int, annotated_types.Ge(0)] = 0
  """How many of the newest embeddings are partners beside those of the batch;
  0 for none."""
  start: Annotated[int, annotated_types.Ge(0)] = 1000
  """The step from which they are: before, the net changes too fast."""
