"""One training run: restore, train, verify, save, report."""

import collections
import contextlib
import math
from collections.abc import (
  Callable,
  Generator,
  Iterable,
  Iterator,
  Sequence,
)
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import jax
import numpy as np

from facejax.data import pipeline
from facejax.runs import checkpoint, left_out
from facejax.runtime import distributed
from facejax.runtime import mesh as mesh_lib
from facejax.training import build as program_lib
from facejax.training import config as config_lib
from facejax.training import (
  guards,
  inputs,
  lengths,
  nonfinite,
  patience,
  profiling,
  telemetry,
  watchdog,
)
from facejax.training import state as train_state

# Steps at chance level after which the run warns.
_PATIENCE = 500
_LEAD = 2  # steps that are dispatched before their turn
# Beside a state: the stage that it was made in, from the second on.
STAGE = "stage"


class Verified(Protocol):
  """What the loop needs to know of a verification: figures by name."""

  def items(self) -> Iterable[tuple[str, float]]: ...


ScoreT = TypeVar("ScoreT", bound=Verified)
# Scores of a state; none if that failed, None if there was no time for it.
Verify: TypeAlias = Callable[[train_state.TrainState], Sequence[ScoreT] | None]


class Stopped(Exception):
  """The run was asked to stop; everything is saved."""


class Trainer(Generic[ScoreT]):
  """Carries a run from its last checkpoint to its end.

  Attributes:
    results: verification results of the last step, once it is reached; that is
      an earlier one where waiting for a better figure has an end.

  Args:
    config: what to run.
    program: the compiled side, from `program.build`.
    data: what to read.
    total_steps: length of the run.
    until: the last step to take; that of the run if not given.
    stage: number of the run's stage, kept beside its states.
    checkpoints: of the run's folder.
    log: the run's telemetry.
    profiler: traces the steps that were asked for.
    verify: scores a state.
    must_stop: asked after each step whether to save and stop.
    without: batches that the run goes without.
  """

  def __init__(
    self,
    config: config_lib.Config,
    program: program_lib.Program,
    data: inputs.Data,
    *,
    total_steps: int,
    until: int | None = None,
    stage: int = 0,
    checkpoints: checkpoint.Checkpoints,
    log: telemetry.Telemetry,
    profiler: profiling.Profiler,
    verify: Verify[ScoreT],
    must_stop: Callable[[], bool],
    without: left_out.LeftOutBatches = left_out.LeftOutBatches(),  # noqa: B008, frozen
  ):
    self._config, self._program, self._data = config, program, data
    self._total_steps = total_steps
    self._until = total_steps if until is None else until
    self._about = data.fingerprint() | ({STAGE: stage} if stage else {})
    self._checkpoints, self._log = checkpoints, log
    self._profiler = profiler
    self._verify, self._must_stop = verify, must_stop
    self._without = without
    self.results: Sequence[ScoreT] | None = None
    self._metrics = nonfinite.MetricBuffer(config.on_nonfinite)
    self._in_flight: collections.deque[Any] = collections.deque()
    self._bad = guards.BadImages(
      max_share=config.data.max_bad_share, images=len(data.images)
    )
    self._stuck = guards.StuckLoss(
      chance=program.chance_loss, patience=_PATIENCE
    )
    self._collapse = guards.Collapse()
    self._watchdog = watchdog.Watchdog(config.stuck_after)
    per_epoch = inputs.steps_per_epoch(config, len(data.images))
    self._verifications = patience.Verifications(
      checkpoints, config.eval, total_steps=total_steps, per_epoch=per_epoch
    )
    self._save_every = lengths.steps_between(
      "checkpoint.every", config.checkpoint.every, per_epoch
    )

  def train(
    self, state: train_state.TrainState, step_fn: Any
  ) -> train_state.TrainState:
    """Trains from the state's step on; saves and logs on the way.

    Raises:
      Stopped: after saving, when a stop was requested.
      NonFiniteLossError: before anything damaged is saved.
      TooManyBadImagesError: when they are.
    """
    start_step = int(state.step)
    if self._ends(start_step, state):
      return state
    with (
      self._watchdog,
      contextlib.closing(self._batches(start_step)) as batches,
    ):
      for step in range(start_step + 1, self._until + 1):
        batch = self._next(batches, step, state)
        self._bad.update(batch["replaced"])
        placed = mesh_lib.put_batch(
          {"images": batch["image"], "labels": batch["label"]},
          self._program.mesh,
          size=self._config.batch_size,
        )
        self._profiler.before(step, self._in_flight, self._log.paused)
        # A device that computes as it is asked, and a full queue, make it wait.
        with self._log.idle(), self._profiler.step(step):
          state, metrics = step_fn(state, placed["images"], placed["labels"])
        self._wait_for_device(metrics)
        self._profiler.after(step, self._in_flight, self._log.paused)
        self._metrics.add(step, metrics, batch["record_id"])
        self._log.advance(step)
        self._watchdog.advance(step)
        if self._after(step, state):
          break
    return state

  def _ends(self, step: int, state: train_state.TrainState) -> bool:
    """Whether a run that goes on from a step is at its end already.

    What a start before this one had saved and not yet scored is verified.
    """
    if not step or not self._data.pairs:
      return False
    if self._verifications.missed(step):
      return self._verify_saved(step, state)
    return self._verifications.over(step)

  def _next(
    self,
    batches: Iterator[dict[str, np.ndarray]],
    step: int,
    state: train_state.TrainState,
  ) -> dict[str, np.ndarray]:
    """The batch of a step, whose state before it is given."""
    try:
      with self._log.waiting():
        return next(batches)
    except Exception:
      # Ctrl-C ends the processes that read, too. Among others, a process that
      # cannot read ends them all.
      if distributed.count() > 1 or not self._must_stop():
        raise
      self._save(step - 1, state)
      raise Stopped from None

  def _wait_for_device(self, metrics: Any) -> None:
    """Keeps the host from running far ahead of the device.

    Some steps of lead hide the host's work. More would fill the device with
    batches, and the host would wait for input that nobody needs yet.
    """
    self._in_flight.append(metrics)
    if len(self._in_flight) > _LEAD:
      with self._log.idle():
        jax.block_until_ready(self._in_flight.popleft())

  def _batches(self, start_step: int) -> Generator[dict[str, np.ndarray]]:
    data = self._config.data
    first = self._without.number(start_step)
    batches = pipeline.batches(
      self._data.images,
      batch_size=self._config.batch_size,
      seed=self._config.seed,
      start_step=first,
      augment=inputs.augmentation(self._config),
      sampler=self._data.sampler,
      on_error=data.on_error,
      places=mesh_lib.local_places(
        self._config.batch_size, self._program.mesh
      ).tolist(),
      threads=data.threads,
      workers=data.workers,
    )
    return self._without.without(batches, first=first)

  def _after(self, step: int, state: train_state.TrainState) -> bool:
    """Logs, saves and verifies what is due after a step; whether it is the last.

    Saves first: whatever becomes of a verification, the step is not lost.
    """
    config, last = self._config, step == self._total_steps
    if step % config.log_every == 0 or step == self._until:
      self._write_metrics(step)
    verified = self._verifications.is_due(step)
    due = last or step % self._save_every == 0
    stop = self._must_stop()
    if stop or due or (verified and self._data.pairs):
      self._save(step, state)
    if stop:
      raise Stopped
    return verified and self._verify_saved(step, state)

  def _verify_saved(self, step: int, state: train_state.TrainState) -> bool:
    """Scores a step that is saved; whether it is the last."""
    with self._log.paused("verifying"), self._watchdog.paused():
      found = self._verify(state)
    if found is None:  # a stop was asked for meanwhile
      raise Stopped
    scalars = dict(item for result in found for item in result.items())
    if scalars:
      self._log.evaluation(step, scalars)
      self._checkpoints.score(step, scalars)
    # Not done again by a start that goes on from here.
    self._log.saved()
    ends = self._verifications.over(step) or step == self._total_steps
    if ends:
      self.results = found
    return ends

  def _save(self, step: int, state: train_state.TrainState) -> None:
    # Reads the metrics first: nothing that is not finite is ever saved.
    self._write_metrics(step)
    with self._log.paused("saving"), self._watchdog.paused():
      self._checkpoints.save(step, state, metadata=self._about)
    self._log.saved()

  def _write_metrics(self, step: int) -> None:
    try:
      with self._log.idle():
        scalars = self._metrics.drain()
    except nonfinite.NonFiniteLossError as error:
      nonfinite.tell(
        error,
        self._data.images,
        self._checkpoints.steps,
        on_nonfinite=self._config.on_nonfinite,
      )
      raise
    finally:
      nonfinite.tell_skipped(self._metrics.skipped, self._data.images)
    if not scalars:
      return
    self._log.train(step, scalars, bad_images=self._bad.count)
    if not math.isfinite(scalars["loss"]):  # all were skipped
      return
    self._stuck.update(step, scalars["loss"])
    self._collapse.update(step, scalars.get("spread"))
