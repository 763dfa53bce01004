"""A run to its end: once, or again from a checkpoint without a bad batch."""

import logging
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple

from facejax.runs import checkpoint, folder, left_out
from facejax.training import (
  build,
  loop,
  nonfinite,
  profiling,
  replay,
  watching,
)
from facejax.training import config as config_lib
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
  config: config_lib.Config,
  program: build.Program,
  data: loop.Data,
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
    config: of the run.
    program: of the run.
    data: of the run.
    state: to go on from; it is donated.
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
  with watching.Watch(
    config, program, started=started, profile=profile
  ) as watch:
    account = watch.account
    account.begin(int(state.step))
    with account.during("compiling"):
      step_fn = build.compiled(config, program)
    while True:
      without = left_out.read(config.workdir)
      with watch.telemetry(total_steps, int(state.step)) as log:
        trainer = loop.Trainer(
          config,
          program,
          data,
          total_steps=total_steps,
          checkpoints=checkpoints,
          log=log,
          profiler=watch.profiler,
          verify=verify,
          must_stop=must_stop,
          without=without,
        )
        try:
          step = replay.checked(
            step_fn, every=config.check_every, first=int(state.step)
          )
          with account.during("steps"):
            state = trainer.train(state, step)
          with account.during("verifying"):
            found = _results(trainer, state, verify)
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


def _results(
  trainer: loop.Trainer[loop.ScoreT],
  state: train_state.TrainState,
  verify: loop.Verify[loop.ScoreT],
) -> Sequence[loop.ScoreT]:
  """What was verified at the end.

  Raises:
    loop.Stopped: if a stop was requested meanwhile.
  """
  # A run that was already at its end is only verified.
  found = verify(state) if trainer.results is None else trainer.results
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
