"""Trains a face embedding: python -m facejax.train --config cosface.py."""

import contextlib
import functools
import json
import logging
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import rich

import facejax
from facejax.evaluation import pair_results, verification, while_training
from facejax.report import build
from facejax.runs import card as card_lib
from facejax.runs import checkpoint
from facejax.runs import folder as run_folder
from facejax.runs import net as net_lib
from facejax.runtime import command_line, progress
from facejax.runtime import mesh as mesh_lib
from facejax.training import build as program_lib
from facejax.training import config as config_lib
from facejax.training import flags, guards, inputs, recipe, summary, telemetry
from facejax.training import loop as trainer
from facejax.training import state as train_state

EXIT_FAILED = 1
# EX_TEMPFAIL of sysexits.h: try again later.
EXIT_STOPPED = 75
# Draws of each bootstrap in the report: fewer than facejax.evaluate takes.
_SAMPLES = 200

logger = logging.getLogger("facejax.train")
parser = flags.parser


@command_line.command(computes=True)
def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  command = recipe.parse(sys.argv[1:] if arguments is None else arguments)
  config = command.to_config()
  if command.print_config:
    print(json.dumps(config_lib.stored(config), indent=2))
    return 0
  if config.model.dtype == "float64":
    jax.config.update("jax_enable_x64", True)
  run = _build(config)
  rich.print(summary.table(config, run.program, run.data.images, run.steps))
  classes = run.data.images.num_classes + config.head.extra_classes
  dim = config.model.embedding_dim
  for text in config.loss.advice(num_classes=classes, dim=dim):
    rich.print(f"[yellow]warning:[/yellow] {text}")
  if command.dry_run:
    rich.print(summary.compiled_table(_compile(config, run.program)))
    return 0
  return _train(config, run)


class _Run(NamedTuple):
  program: program_lib.Program
  data: trainer.Data
  steps: int


def _build(config: config_lib.Config) -> _Run:
  """Everything that a run needs; reads and compiles nothing large yet."""
  run_folder.check(config.workdir, config_lib.stored(config))
  _check_init_from(config)
  images = inputs.training_images(config)
  data = trainer.Data(
    images,
    *inputs.verification_pairs(config),
    inputs.sampler(config, images),
  )
  steps = inputs.total_steps(config, len(images))
  program = program_lib.build(
    config,
    num_classes=images.num_classes + config.head.extra_classes,
    total_steps=steps,
  )
  return _Run(program, data, steps)


def _check_init_from(config: config_lib.Config) -> None:
  """Refuses a folder without a net, unless this run has begun already."""
  begun = run_folder.has_begun(config.workdir)
  if not config.init_from or begun:
    return
  try:
    net_lib.require(config.init_from)
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f"init_from: {error}. Train it first, or name another with --init-from"
    ) from None
  net_lib.warn_of_pixels(config.init_from)


def _train(config: config_lib.Config, run: _Run) -> int:
  """Trains in the work folder and writes the report; the exit code."""
  started = time.monotonic()
  folder = pathlib.Path(config.workdir)
  run_folder.write(folder, config_lib.stored(config))
  _write_card(folder, config, run.data)
  telemetry.setup_logging(folder)
  with (
    guards.StopRequest() as stop,
    checkpoint.Checkpoints(
      folder / run_folder.CHECKPOINTS,
      keep=config.checkpoint.keep,
      keep_best=config.checkpoint.keep_best,
    ) as checkpoints,
  ):
    state = _restore_or_create(config, run, checkpoints)
    results = _to_the_end(
      config, run, state, checkpoints=checkpoints, stop=stop
    )
  if isinstance(results, int):
    return results
  with _keeps_tracebacks():
    _report(folder, config, run, results, seconds=time.monotonic() - started)
  return 0


def _to_the_end(
  config: config_lib.Config,
  run: _Run,
  state: train_state.TrainState,
  *,
  checkpoints: checkpoint.Checkpoints,
  stop: guards.StopRequest,
) -> Sequence[verification.Verification] | int:
  """Trains and verifies; the exit code of a run that did not get to its end."""
  step_fn = _compile(config, run.program)
  verify = functools.partial(_verify, config, run, stop)
  with telemetry.Telemetry(
    config.workdir,
    total_steps=run.steps,
    start_step=int(state.step),
    batch_size=config.batch_size,
  ) as log:
    loop = trainer.Trainer(
      config,
      run.program,
      run.data,
      total_steps=run.steps,
      checkpoints=checkpoints,
      log=log,
      verify=verify,
      must_stop=lambda: stop.requested,
    )
    try:
      with _keeps_tracebacks():
        state = loop.train(state, step_fn)
        # A run that was already at its end is only verified.
        results = verify(state) if loop.results is None else loop.results
      if results is None:
        raise trainer.Stopped
    except trainer.Stopped:
      logger.info("stopped and saved; the same command again goes on")
      return EXIT_STOPPED
    except guards.NonFiniteLossError:
      return EXIT_FAILED
  return results


def _verify(
  config: config_lib.Config,
  run: _Run,
  stop: guards.StopRequest,
  state: train_state.TrainState,
) -> list[verification.Verification] | None:
  """Scores the net on the run's pairs; None if it had to stop meanwhile."""
  try:
    return while_training.verify(
      run.program.embed,
      net_lib.Trunk(state.params, state.stats, state.average),
      run.data.pairs,
      run.data.threshold_pairs,
      mesh=run.program.mesh,
      batch_size=config.eval.batch_size,
      urgent=lambda: stop.requested,
    )
  except while_training.Interrupted:
    return None


@contextlib.contextmanager
def _keeps_tracebacks() -> Iterator[None]:
  """Past the checks, an error is no mistake in what the user gave."""
  try:
    yield
  except guards.TooManyBadImagesError:
    raise
  except (ValueError, OSError) as error:
    raise RuntimeError("training failed") from error


def _write_card(
  folder: pathlib.Path, config: config_lib.Config, data: trainer.Data
) -> None:
  """Says beside the weights how images are to be given to the net."""
  card = card_lib.from_config(
    config_lib.flatten(config),
    images=len(data.images),
    identities=data.images.num_classes,
    versions={"facejax": facejax.__version__, "jax": jax.__version__},
  )
  card_lib.write(folder, card)


def _compile(config: config_lib.Config, program: program_lib.Program):
  """The training step, compiled ahead for the run's shapes."""
  where = mesh_lib.sharding(program.mesh, mesh_lib.BATCH)
  shape = (config.batch_size, *config.data.image_size, 3)
  images = jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=where)
  labels = jax.ShapeDtypeStruct(shape[:1], jnp.int32, sharding=where)
  started = time.monotonic()
  compiled = program.step.lower(program.like, images, labels).compile()
  spent = progress.duration(time.monotonic() - started)
  logger.info("compiled in %s", spent)
  return compiled


def _restore_or_create(
  config: config_lib.Config,
  run: _Run,
  checkpoints: checkpoint.Checkpoints,
) -> train_state.TrainState:
  """The newest sound checkpoint, or the state at step 0.

  Raises:
    ValueError: if the checkpoint was trained on other images.
    OSError: if there are checkpoints and none can be read.
  """
  restored = checkpoints.restore(
    run.program.like, resizable=train_state.has_class_axis
  )
  if restored is None:
    program = run.program
    state = train_state.create(program.init, program.like, seed=config.seed)
    if not config.init_from:
      return state
    like = net_lib.Trunk(program.like.params, program.like.stats)
    step, trunk = net_lib.read_trunk(config.init_from, like)
    logger.info("took the net of %s, step %d", config.init_from, step)
    return train_state.with_net(state, trunk.params, trunk.stats)
  for name, here in run.data.fingerprint().items():
    there = restored.metadata.get(name)
    if there != here:
      raise ValueError(
        f"the run in {config.workdir} was trained on {name}={there}, and"
        f" data.path={config.data.path!r} has {name}={here}: give the images"
        " that it was trained on, or another --workdir"
      )
  logger.info("resumed at step %d", restored.step)
  return restored.state


def _report(
  folder: pathlib.Path,
  config: config_lib.Config,
  run: _Run,
  results: Sequence[verification.Verification],
  *,
  seconds: float,
) -> None:
  """Writes results and page, and prints the table of the results."""
  pair_sets = run.data.pairs, run.data.threshold_pairs
  while_training.write(
    folder,
    [
      (one, pair_results.result(one, pairs, samples=_SAMPLES, step=run.steps))
      for one, pairs in zip(results, pair_sets, strict=False)
      if pairs is not None
    ],
    summary={
      "name": config.name,
      "config": config_lib.flatten(config),
      "seconds_of_this_process": round(seconds, 1),
      "data": run.data.fingerprint(),
    },
  )
  if results:
    rich.print(verification.table(results))
  else:
    logger.info("nothing was verified: name pairs of images with --eval.pairs")
  page = build.write_if_possible(folder)
  spent = progress.duration(seconds)
  logger.info("finished in %s; report in %s", spent, page)


if __name__ == "__main__":
  sys.exit(main())
