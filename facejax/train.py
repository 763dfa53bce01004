"""Trains a face embedding: python -m facejax.train --config cosface.py."""

import logging
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import rich

from facejax import (
  advice,
  assemble,
  checkpoint,
  guards,
  host_memory,
  recipe,
  summary,
  telemetry,
  train_state,
  trainer,
  workdir,
)
from facejax import config as config_lib
from facejax import mesh as mesh_lib
from facejax import program as program_lib
from facejax.evals import report, verification

EXIT_FAILED = 1
# EX_TEMPFAIL of sysexits.h: try again later.
EXIT_STOPPED = 75

logger = logging.getLogger("facejax")


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  host_memory.keep_freed_memory()
  # Mistakes of the user end here, with one message each.
  try:
    command = recipe.parse(sys.argv[1:] if arguments is None else arguments)
    config = command.to_config()
    if command.print_config:
      print(workdir.to_json(config))
      return 0
    if config.model.dtype == "float64":
      jax.config.update("jax_enable_x64", True)
    run = _build(config)
  except (ValueError, FileNotFoundError) as error:
    return recipe.fail(error)
  rich.print(summary.table(config, run.program, run.data.images, run.steps))
  classes = run.data.images.num_classes + config.head.extra_classes
  for text in advice.advice(config, num_classes=classes):
    rich.print(f"[yellow]warning:[/yellow] {text}")
  summary.use_compilation_cache()
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
  workdir.check(pathlib.Path(config.workdir), config)
  _check_init_from(config)
  images = assemble.training_images(config)
  data = trainer.Data(
    images,
    *assemble.verification_pairs(config),
    assemble.sampler(config, images),
  )
  steps = assemble.total_steps(config, len(images))
  program = program_lib.build(
    config,
    num_classes=images.num_classes + config.head.extra_classes,
    total_steps=steps,
  )
  return _Run(program, data, steps)


def _check_init_from(config: config_lib.Config) -> None:
  """Refuses a folder without a net, unless this run has begun already."""
  begun = os.path.isdir(f"{config.workdir}/checkpoints")
  if not config.init_from or begun:
    return
  if not os.path.isdir(f"{config.init_from}/checkpoints"):
    raise FileNotFoundError(
      f"init_from={config.init_from!r} is not the folder of a run: it has no"
      " checkpoints/. Train it first, or name another with --init-from"
    )


def _train(config: config_lib.Config, run: _Run) -> int:
  """Trains in the work folder and writes the report; the exit code."""
  started = time.monotonic()
  folder = pathlib.Path(config.workdir)
  workdir.write(folder, config)
  telemetry.setup_logging(folder)
  with (
    guards.StopRequest() as stop,
    checkpoint.Checkpoints(
      folder / "checkpoints",
      keep=config.checkpoint.keep,
      keep_best=config.checkpoint.keep_best,
    ) as checkpoints,
  ):
    try:
      state = _restore_or_create(config, run, checkpoints)
    except (ValueError, OSError) as error:
      return recipe.fail(error)
    step_fn = _compile(config, run.program)
    with telemetry.Telemetry(
      folder,
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
        stop=stop,
      )
      try:
        state = loop.train(state, step_fn)
        # A run that was already at its end is only verified.
        results = loop.verify(state) if loop.results is None else loop.results
      except trainer.Stopped:
        logger.info("stopped and saved; the same command again goes on")
        return EXIT_STOPPED
      except guards.NonFiniteLossError:
        return EXIT_FAILED
      except guards.TooManyBadImagesError as error:
        return recipe.fail(error)
  _report(folder, config, results, seconds=time.monotonic() - started)
  return 0


def _compile(config: config_lib.Config, program: program_lib.Program):
  """The training step, compiled ahead for the run's shapes."""
  where = mesh_lib.sharding(program.mesh, mesh_lib.BATCH)
  shape = (config.batch_size, *config.data.image_size, 3)
  images = jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=where)
  labels = jax.ShapeDtypeStruct(shape[:1], jnp.int32, sharding=where)
  started = time.monotonic()
  compiled = program.step.lower(program.like, images, labels).compile()
  logger.info("compiled in %.1f s", time.monotonic() - started)
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
    return train_state.with_trunk(state, _trunk(config.init_from, program))
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


def _trunk(path: str, program: program_lib.Program) -> train_state.Trunk:
  """The net of a finished run.

  Raises:
    ValueError: if it is another net.
    OSError: if there is no checkpoint, or none can be read.
  """
  like = train_state.Trunk(program.like.params, program.like.stats)
  with checkpoint.Checkpoints(pathlib.Path(path) / "checkpoints") as source:
    restored = source.restore(like, partial=True)
  if restored is None:
    raise FileNotFoundError(f"init_from={path}: there is no checkpoint in it")
  logger.info("took the net of %s, step %d", path, restored.step)
  return restored.state


def _report(
  folder: pathlib.Path,
  config: config_lib.Config,
  results: Sequence[verification.Verification],
  *,
  seconds: float,
) -> None:
  """Writes the report's files and prints its table."""
  report.write_report(
    folder / "report",
    results=results,
    history=telemetry.read_history(folder),
    summary={
      "name": config.name,
      "config": config_lib.flatten(config),
      "seconds_of_this_process": round(seconds, 1),
    },
  )
  if results:
    rich.print(verification.table(results))
  else:
    logger.info("nothing was verified: name pairs of images with --eval.pairs")
  logger.info("finished in %.0f s; report in %s", seconds, folder / "report")


if __name__ == "__main__":
  sys.exit(main())
