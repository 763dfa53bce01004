"""Trains a face embedding: python -m facejax.train --config cosface.py."""

import functools
import json
import logging
import pathlib
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from facejax.evaluation import best_by, verification, while_training
from facejax.report import build
from facejax.runs import checkpoint, run_lock, scores
from facejax.runs import folder as run_folder
from facejax.runtime import (
  command_line,
  distributed,
  last_words,
  progress,
  topology,
)
from facejax.training import (
  agreement,
  dry_run,
  flags,
  guards,
  held_out,
  inputs,
  jax_settings,
  needs,
  patience,
  profiling,
  recipe,
  resume,
  rounds,
  run_stages,
  staged,
  summary,
  telemetry,
  trackers,
)
from facejax.training import build as program_lib
from facejax.training import config as config_lib
from facejax.training import loop as trainer
from facejax.training import state as train_state

# EX_TEMPFAIL of sysexits.h: try again later.
EXIT_STOPPED = 75

logger = logging.getLogger("facejax.train")
parser = flags.parser
_Ended: TypeAlias = rounds.Ended[verification.Verification]
_Restore: TypeAlias = Callable[[], train_state.TrainState]


@command_line.command(computes=True)
def main(arguments: Sequence[str]) -> int:
  """Runs the command line; returns the exit code."""
  started = time.monotonic()
  command = recipe.parse(arguments)
  config = command.to_config()
  run_stages.check(config)
  if command.print_config:
    print(json.dumps(config_lib.stored(config), indent=2))
    return 0
  jax_settings.use(config)
  # Nothing is written before all is known to be right.
  profile = profiling.parse(command.profile) if command.profile else None
  trackers.require(config.track)
  if command.dry_run:
    telemetry.setup_logging()
    return _dry_run(command, config)
  found = distributed.start(command, stops=True)
  telemetry.setup_logging(primary=distributed.primary())
  if found:
    logger.info("%s", found)
  if distributed.primary():
    run_lock.check_unlocked(config.workdir, if_gone=_if_gone(command))
  agreement.check_command(config)
  run = _build(config)._replace(profile=profile, started=started)
  config = run.config
  profiling.check(profile, run.steps)
  for part in run.parts:
    needs.check_room(part.stage.config, part.program)
  agreement.check_data(run.data, run.steps)
  if distributed.primary():
    summary.introduce(config, run.program, run.data, run.steps)
  with run_lock.locked(config.workdir, if_gone=_if_gone(command)):
    return _train(config, run)


def _dry_run(command: recipe.TrainCommand, config: config_lib.Config) -> int:
  """Builds and compiles, here or for chips that are elsewhere; the exit code."""
  among = topology.devices(command.topology) if command.topology else None
  if command.classes is None:
    run = _build(config, among)
    summary.introduce(run.config, run.program, run.data, run.steps)
    programs = [(part.stage.config, part.program) for part in run.parts]
  else:
    programs = dry_run.programs_of(config, command.classes, among)
    summary.introduce(*programs[0], identities=command.classes)
  fit = [dry_run.show(*each) for each in programs]
  return 0 if all(fit) else last_words.EXIT_FAILED


def _if_gone(command: recipe.TrainCommand) -> str:
  """What a lock of another machine asks for; nothing if that was given."""
  again = "the same command with --take-over goes on"
  return "" if command.take_over else again


class _Run(NamedTuple):
  config: config_lib.Config
  parts: Sequence[staged.Part]
  ranking: scores.Ranking
  steps: int
  profile: profiling.Span | None = None
  started: float = 0.0

  @property
  def program(self) -> program_lib.Program:
    """Of the first stage."""
    return self.parts[0].program

  @property
  def data(self) -> inputs.Data:
    """Of the first stage; verified is the same in all."""
    return self.parts[0].data

  @property
  def final(self) -> staged.Part:
    """The last stage, which the net is made for."""
    return self.parts[-1]


def _build(
  config: config_lib.Config, among: Sequence[Any] | None = None
) -> _Run:
  """Everything that a run needs; reads and compiles nothing large yet.

  On devices of this machine, unless others are given to compile for.
  """
  config = held_out.begun(config)
  run_folder.check(config.workdir, config_lib.stored(config))
  resume.check_other_runs(config)
  opened = inputs.opened(config)
  run = inputs.length(opened.config, len(opened.images))
  parts = staged.parts(opened, run, among=among)
  sets = parts[0].data.pairs, parts[0].data.threshold_pairs
  while_training.check(*sets)
  ranking = best_by.ranking(config.checkpoint.best, *sets)
  return _Run(opened.config, parts, ranking, run.steps)


def _train(config: config_lib.Config, run: _Run) -> int:
  """Trains in the work folder and writes the report; the exit code."""
  folder = pathlib.Path(config.workdir)
  with (
    needs.explained(config, run.program),
    guards.StopRequest() as stop,
    checkpoint.Checkpoints(
      folder / run_folder.CHECKPOINTS,
      keep=config.checkpoint.keep,
      keep_best=config.checkpoint.keep_best,
      ranking=run.ranking,
    ) as checkpoints,
  ):
    restore = functools.partial(
      resume.restore_or_create,
      *(config, [part.program for part in run.parts], run.data),
      total_steps=run.steps,
      checkpoints=checkpoints,
    )
    state = _begin(config, run, restore)
    verifier = _verifier(config, run, stop)
    code, ended = _to_the_end(
      config,
      run,
      state,
      checkpoints=checkpoints,
      restore=restore,
      stop=stop,
      verifier=verifier,
    )
  if ended is None:
    return code
  best = checkpoints.best(ended.step)
  if distributed.primary():
    told = patience.summary(run.ranking, best, ended.step, run.steps)
    seconds = round(time.monotonic() - run.started, 1)
    about = {**told, "seconds_of_this_process": seconds}
    with guards.keeps_tracebacks():
      _report(config, run, ended, verifier.failed, about)
  return last_words.EXIT_FAILED if verifier.failed else 0


def _begin(
  config: config_lib.Config, run: _Run, restore: _Restore
) -> train_state.TrainState:
  """The state to go on from; then, all being right, the folder's files."""
  folder = pathlib.Path(config.workdir)
  # Again, now that nobody else writes there.
  stored = run_folder.check(folder, config_lib.stored(config))
  state = restore()
  distributed.only_primary(
    lambda: summary.write(
      folder, config, run.data.images, final=run.final.stage.config
    )
  )
  telemetry.log_to(folder, process=distributed.index())
  count = len(run.data.images)
  resume.tell_length(config, stored, step=int(state.step), num_images=count)
  return state


def _to_the_end(
  config: config_lib.Config,
  run: _Run,
  state: train_state.TrainState,
  *,
  checkpoints: checkpoint.Checkpoints,
  restore: _Restore,
  stop: guards.StopRequest,
  verifier: while_training.Verifier,
) -> tuple[int, _Ended | None]:
  """Trains and verifies; nothing of a run that did not get to its end."""
  try:
    with guards.keeps_tracebacks():
      return 0, rounds.train(
        run.parts,
        state,
        total_steps=run.steps,
        checkpoints=checkpoints,
        restore=restore,
        verify=verifier,
        must_stop=lambda: stop.requested,
        started=run.started,
        profile=run.profile,
      )
  except trainer.Stopped:
    logger.info("stopped and saved; the same command again goes on")
    # Of several processes one may stand for a machine that goes.
    by_hand = stop.signal == signal.SIGINT and distributed.count() == 1
    return command_line.EXIT_STOPPED if by_hand else EXIT_STOPPED, None
  except rounds.FailedError:
    return last_words.EXIT_FAILED, None


def _verifier(
  config: config_lib.Config, run: _Run, stop: guards.StopRequest
) -> while_training.Verifier:
  """Scores the net on the run's pairs."""
  return while_training.Verifier(
    run.final.program.embed,
    run.data.pairs,
    run.data.threshold_pairs,
    mesh=run.program.mesh,
    batch_size=config.eval.batch_size,
    urgent=lambda: stop.requested,
  )


def _report(
  config: config_lib.Config,
  run: _Run,
  ended: _Ended,
  failed: Sequence[int],
  about: dict[str, Any],
) -> None:
  """Writes results and page, and shows the table of the results."""
  folder = pathlib.Path(config.workdir)
  if ended.step in failed:
    logger.error(
      "the run is whole and saved, but not verified; the same command again"
      " verifies it"
    )
  else:
    what = {"name": config.name, "config": config_lib.flatten(config)}
    while_training.leave(
      folder,
      ended.results,
      *(run.data.pairs, run.data.threshold_pairs),
      step=ended.step,
      summary={**what, "data": run.data.fingerprint(), **about},
    )
    if ended.results:
      telemetry.show(verification.table(ended.results))
    else:
      logger.info("nothing was verified: give --eval.pairs or --eval.hold-out")
    patience.tell(about)
  page = build.write_if_possible(folder)
  spent = progress.duration(about["seconds_of_this_process"])
  logger.info("finished in %s; report in %s", spent, page)


if __name__ == "__main__":
  last_words.end_by(main)
