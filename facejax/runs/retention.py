"""Which checkpoints of a run to keep: the newest and the best together."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def steps_to_keep(
  metric_by_step: Mapping[int, float | None], *, last: int, best: int
) -> set[int]:
  """The `last` newest steps together with the `best` ones by metric.

  Steps whose metric is None or not finite are never among the best; of equals
  the newer is the better.

  >>> sorted(steps_to_keep({1: 0.9, 2: 0.8, 3: None, 4: 0.7}, last=2, best=1))
  [1, 3, 4]
  """
  scored = sorted(
    (metric, step)
    for step, metric in metric_by_step.items()
    if metric is not None and math.isfinite(metric)
  )
  newest = sorted(metric_by_step, reverse=True)[:last]
  return {*newest, *(step for _, step in scored[::-1][:best])}


class Retention:
  """`steps_to_keep` in the form that Orbax asks for at every save.

  Attributes:
    damaged: steps that count for nothing and go with the next save.
    metric: what is known of each step's metric.

  Args:
    last: how many of the newest steps are kept.
    best: how many of the best are kept besides.
    read_metric: looks up the metric of a step that is not yet known.
  """

  def __init__(
    self,
    *,
    last: int,
    best: int,
    read_metric: Callable[[int], float | None],
  ):
    if last < 1 or best < 0:
      raise ValueError(
        f"keep={last}, keep_best={best}: the newest checkpoint is always kept"
        " (keep >= 1), and keep_best cannot be negative."
      )
    self._last, self._best, self._read_metric = last, best, read_metric
    self.damaged: set[int] = set()
    self.metric: dict[int, float | None] = {}

  def should_preserve(
    self, checkpoints: Sequence[Any], *, context: Any
  ) -> Sequence[bool]:
    """Orbax's `PreservationPolicy` protocol: one answer a checkpoint."""
    del context
    sound = {c.step for c in checkpoints} - self.damaged
    for step in sound - self.metric.keys():
      self.metric[step] = self._read_metric(step)
    kept = steps_to_keep(
      {step: self.metric[step] for step in sound},
      last=self._last,
      best=self._best,
    )
    return [c.step in kept for c in checkpoints]
