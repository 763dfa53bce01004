"""When a run is verified, which step is best, whether to wait for a better."""

import logging
from collections.abc import Mapping
from typing import Any

from facejax.runs import checkpoint, metrics_file, scores
from facejax.training import config as config_lib
from facejax.training import lengths

logger = logging.getLogger(__name__)


class Verifications:
  """When a run is verified, and whether it ends for want of anything better.

  All follows from the scores beside the checkpoints, so that a run that was
  stopped or killed ends at the step where it would have ended anyway. Of several
  processes, all must ask; the first one knows.

  Args:
    checkpoints: of the run, which know its scores.
    evaluation: how often a run is verified, and how many times in a row without
      a better figure end it.
    total_steps: of the run, the last of which is verified in any case.
    per_epoch: steps of a pass over the images.
  """

  def __init__(
    self,
    checkpoints: checkpoint.Checkpoints,
    evaluation: config_lib.EvalConfig,
    *,
    total_steps: int,
    per_epoch: int,
  ):
    self._checkpoints = checkpoints
    self._every = lengths.steps_between(
      "eval.every", evaluation.every, per_epoch
    )
    self._most = evaluation.patience
    self._total_steps = total_steps

  def is_due(self, step: int) -> bool:
    """Whether a step is verified."""
    last = step == self._total_steps
    return last or (self._every > 0 and step % self._every == 0)

  def missed(self, step: int) -> bool:
    """Whether a saved step was to be verified, and the run stopped before."""
    return self.is_due(step) and not self._checkpoints.is_scored(step)

  def over(self, step: int) -> bool:
    """Whether the run ends at a step that was verified; says what is best."""
    best = self._checkpoints.best(step)
    if best is None:
      return False
    if best.verified > 1:
      logger.info(
        "best of %d verifications: step %d, %s; %d without a better one%s",
        *(best.verified, best.step, figure(self._checkpoints.ranking, best)),
        *(best.without, f" of {self._most}" if self._most else ""),
      )
    return 0 < self._most <= best.without


def figure(ranking: scores.Ranking, best: scores.Best) -> str:
  """What the best step scored, in words."""
  return f"{ranking.name} {best.value:.4f}"


def summary(
  ranking: scores.Ranking, best: scores.Best | None, step: int, steps: int
) -> dict[str, str]:
  """What a run keeps of it beside its results.

  Args:
    ranking: of the run.
    best: of its steps.
    step: at which it ended.
    steps: at which it was to end.
  """
  if best is None:
    return {}
  told = f"{best.step}, of {best.verified} verified: {figure(ranking, best)}"
  out = {metrics_file.BEST: told}
  if step < steps:
    out[metrics_file.EARLY] = (
      f"at step {step} of {steps}: {best.without} verifications in a row brought"
      f" no better {ranking.name} than {best.value:.4f}"
    )
  return out


def tell(kept: Mapping[str, Any]) -> None:
  """Says what `summary` has kept."""
  for text in metrics_file.remarks(kept):
    logger.info("%s", text)
