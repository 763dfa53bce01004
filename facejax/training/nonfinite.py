"""Losses that are not finite: noticed, and told of with the images' names."""

import collections
import itertools
import logging
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import jax
import numpy as np

from facejax.data import sources
from facejax.runtime import distributed, typing

logger = logging.getLogger(__name__)

OnNonfinite: TypeAlias = Literal["stop", "skip", "rollback"]
# What must be finite, by what is done about it.
_WATCHED: Mapping[OnNonfinite, Sequence[str]] = {
  "stop": ("loss",),
  "skip": (),
  "rollback": ("loss", "gradient_norm"),
}
# Skipped steps in a row after which the run is beyond help.
_MOST_IN_A_ROW = 20
# Images named of a batch.
_NAMED_IMAGES = 5


class NonFiniteLossError(ArithmeticError):
  """The loss became NaN or infinite.

  Attributes:
    step: the first such step.
    record_ids: the images of its batch.
  """

  def __init__(
    self, step: int, record_ids: Sequence[int], *, what: str = "loss"
  ):
    name = what.replace("_", " ")
    super().__init__(f"the {name} is not finite at step {step}")
    self.step = step
    self.record_ids = record_ids


class MetricBuffer:
  """Keeps metrics on the devices until somebody wants to read them.

  So the host waits for the devices once a log interval, not once a step.

  Attributes:
    skipped: steps that were left out since the last call of `drain` but one,
      with their images.

  Args:
    on_nonfinite: what the run does about values that are not finite.
  """

  def __init__(self, on_nonfinite: OnNonfinite = "stop"):
    self._watched = _WATCHED[on_nonfinite]
    self._pending = collections.deque()
    self._in_a_row = 0
    self.skipped: list[tuple[int, list[int]]] = []

  def add(
    self,
    step: int,
    metrics: Mapping[str, typing.Array],
    record_ids: np.ndarray,
  ) -> None:
    """Takes the metrics of one step, and which images it saw."""
    self._pending.append((step, metrics, record_ids))

  def drain(self) -> dict[str, float]:
    """Means of all metrics since the last call; {} if there were none.

    Means of the steps that were taken, and how many were `skipped`.

    Raises:
      NonFiniteLossError: for the first step that is not finite, if the run does
        not skip those; or for one after many that were skipped.
    """
    self.skipped = []
    if not self._pending:
      return {}
    fetched = jax.device_get([metrics for _, metrics, _ in self._pending])
    for (step, _, record_ids), metrics in zip(
      self._pending, fetched, strict=True
    ):
      self._check(step, metrics, record_ids)
    self._pending.clear()
    taken = [m for m in fetched if not m.get("skipped")] or fetched
    means = {
      name: float(np.mean([m[name] for m in taken])) for name in taken[0]
    }
    if "skipped" in means:
      means["skipped"] = float(len(self.skipped))
    # A mean of the learning rate would be off the schedule.
    return {**means, "learning_rate": float(fetched[-1]["learning_rate"])}

  def _check(
    self, step: int, metrics: Mapping[str, float], record_ids: np.ndarray
  ) -> None:
    images = [int(i) for i in record_ids]
    for name in self._watched:
      if not np.isfinite(metrics.get(name, 0.0)):
        raise NonFiniteLossError(step, images, what=name)
    if not metrics.get("skipped"):
      self._in_a_row = 0
      return
    self._in_a_row += 1
    self.skipped.append((step, images))
    if self._in_a_row > _MOST_IN_A_ROW:
      raise NonFiniteLossError(step, images)


def tell(
  error: NonFiniteLossError,
  images: sources.Source,
  saved: Sequence[int],
  *,
  on_nonfinite: OnNonfinite,
) -> None:
  """Says which images it was, and what may help; all processes must call.

  Args:
    error: what stopped the run.
    images: of the run.
    saved: steps of its checkpoints.
    on_nonfinite: what is done about it.
  """
  others = ", or go on without such batches: --on-nonfinite skip or rollback"
  logger.error(
    "%s. Images of that batch (record ids %s. Last good checkpoint: %s. Try a"
    " smaller optim.learning_rate, a longer optim.warmup or optim.clip_norm%s",
    error,
    _named(error.record_ids, images),
    f"step {saved[-1]}" if saved else "none yet",
    others if on_nonfinite == "stop" else "",
  )


def tell_skipped(
  skipped: Sequence[tuple[int, Sequence[int]]], images: sources.Source
) -> None:
  """Says which images were left out; all processes must call."""
  for step, record_ids in skipped:
    logger.warning(
      "step %d was left out, for its loss or gradient is not finite. Images of"
      " that batch (record ids %s",
      step,
      _named(record_ids, images),
    )


def _named(record_ids: Sequence[int], images: sources.Source) -> str:
  # The loss is that of all processes, each of which has a part of the batch.
  everywhere = [*itertools.chain(*distributed.gathered([*record_ids]))]
  names = ", ".join(images.name(i) for i in everywhere[:_NAMED_IMAGES])
  return f"{everywhere}): {names} …"
