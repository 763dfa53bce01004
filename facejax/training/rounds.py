"""A run to its end: once, or again from a checkpoint without a bad batch."""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple

from facejax.runs import checkpoint, folder, left_out
from facejax.training import (
  build,
  carry,
  loop,
  nonfinite,
  profiling,
  replay,
  run_stages,
  staged,
  telemetry,
  watching,
)
from facejax.training import state as train_state

logger = logging.getLogger(__name__)

# Times that a run goes back to one checkpoint.
_MOST_BACK = 3


class Ended(NamedTuple, Generic[loop.ScoreT]):
  """Where a run ended, by its steps or early, and what was verified then."""

  step: int
  results: Sequence[loop.ScoreT]


class FailedError(Exception):
  """The run cannot go on, and has said why."""


def train(
  parts: Sequence[staged.Part],
  state: train_state.TrainState,
  *,
  total_steps: int,
  checkpoints: checkpoint.Checkpoints,
  restore: Callable[[], train_state.TrainState],
  verify: loop.Verify[loop.ScoreT],
  must_stop: Callable[[], bool],
  started: float | None = None,
  profile: profiling.Span | None = None,
) -> Ended[loop.ScoreT]:
  """Trains to the end and verifies.

  Args:
    parts: the stages of the run.
    state: to go on from, in the form of the stage it was made in; it is
      donated.
    total_steps: of the run.
    checkpoints: of the run's folder.
    restore: the state of the newest sound checkpoint, or that at step 0.
    verify: scores a state.
    must_stop: whether to save and stop.
    started: when this process began, by time.monotonic; now if not given.
    profile: steps to trace.

  Raises:
    loop.Stopped: after saving, when a stop was requested.
    FailedError: a loss is not finite, and the run is told to stop then or
      went back to one checkpoint three times; or a device computes wrong.
  """
  config = parts[0].stage.config
  with watching.Watch(
    config, parts[-1].program, started=started, profile=profile
  ) as watch:
    account = watch.account
    account.begin(int(state.step))
    stages = _Stages(parts, watch)
    while True:
      without = left_out.read(config.workdir)
      with watch.telemetry(total_steps, int(state.step)) as log:
        make = functools.partial(
          loop.Trainer,
          total_steps=total_steps,
          checkpoints=checkpoints,
          log=log,
          profiler=watch.profiler,
          verify=verify,
          must_stop=must_stop,
          without=without,
        )
        try:
          state, found = stages.train(state, make, log)
          if found is None:  # it was at its end already
            with account.during("verifying"):
              found = _verified(state, verify)
          watch.show()
          return Ended(int(state.step), found)
        except nonfinite.NonFiniteLossError as error:
          if config.on_nonfinite != "rollback":
            raise FailedError from None
          bad = error.step
        except replay.CorruptionError as error:
          logger.error("%s", error)
          raise FailedError from None
      # Out here, where nothing holds the bad state any more.
      with account.during("starting"):
        state = _back(config.workdir, without, bad, restore)
      account.begin(int(state.step))


class _Stages:
  """The stages of a run, one after the other, each compiled once."""

  def __init__(self, parts: Sequence[staged.Part], watch: watching.Watch):
    self._parts, self._account = parts, watch.account
    self._compiled: dict[int, Any] = {}
    self._frozen: Sequence[Any] | None = None

  def train(
    self,
    state: train_state.TrainState,
    make: Callable[..., Any],
    log: telemetry.Telemetry,
  ) -> tuple[train_state.TrainState, Any]:
    """To the end of the run: the state, and what was verified there, if so.

    Args:
      state: to go on from.
      make: `loop.Trainer` with what is the same in all stages.
      log: of the round.
    """
    parts, found = self._parts, None
    first = run_stages.index_of([p.stage for p in parts], int(state.step))
    for k in range(first, len(parts)):
      stage, program, data = parts[k]
      config = stage.config
      with log.paused("compiling"):
        step_fn = self._step_fn(k, int(state.step))
        state = carry.carried(state, program, seed=config.seed)
      step = replay.checked(
        step_fn, every=config.check_every, first=int(state.step)
      )
      trainer = make(config, program, data, until=stage.last, stage=k)
      with self._account.during("steps"):
        state = trainer.train(state, step)
      found = trainer.results
      if found is not None:
        break
    return state, found

  def _step_fn(self, k: int, step: int) -> Any:
    if len(self._parts) > 1:
      self._tell(k, step)
    if k not in self._compiled:
      config, program = self._parts[k].stage.config, self._parts[k].program
      self._compiled[k] = self._with_frozen(
        build.compiled(config, program), program
      )
    return self._compiled[k]

  def _with_frozen(self, step: Any, program: build.Program) -> Any:
    """The step with what is frozen of other runs, which is read once."""
    if not program.terms:
      return step
    if self._frozen is None:
      names = self._parts[0].data.images.class_names
      self._frozen = [term.read(names) for term in program.terms]
    frozen = self._frozen
    return lambda state, images, labels: step(state, images, labels, *frozen)

  def _tell(self, k: int, step: int) -> None:
    stage = self._parts[k].stage
    logger.info(
      "stage %d of %d, steps %d to %d%s",
      *(k + 1, len(self._parts), step + 1, stage.last),
      f": {stage.text}" if stage.text else "",
    )


def _verified(
  state: train_state.TrainState, verify: loop.Verify[loop.ScoreT]
) -> Sequence[loop.ScoreT]:
  """What a state scores.

  Raises:
    loop.Stopped: if a stop was requested meanwhile.
  """
  found = verify(state)
  if found is None:
    raise loop.Stopped
  return found


def _back(
  workdir: str,
  without: left_out.LeftOutBatches,
  bad: int,
  restore: Callable[[], train_state.TrainState],
) -> train_state.TrainState:
  """The state to go on from, without the batch of a bad step from now on.

  Raises:
    FailedError: after several times.
  """
  state = restore()
  step = int(state.step)
  if without.times(step) >= _MOST_BACK:
    logger.error(
      "the run went back to step %d %d times already: it is no matter of one"
      " batch",
      *(step, _MOST_BACK),
    )
    raise FailedError
  number = without.number(bad - 1)
  left_out.write(workdir, without.and_also(number, from_step=step))
  logger.warning(
    "back to step %d; goes on without batch %d (%s in %s)",
    *(step, number, folder.LEFT_OUT, workdir),
  )
  return state
