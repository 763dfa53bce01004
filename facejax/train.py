"""Trains a face embedding: python -m facejax.train --config cosface.py."""

import logging
import pathlib
import sys
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import rich.console

from facejax import (
  assemble,
  checkpoint,
  guards,
  recipe,
  summary,
  telemetry,
  train_state,
  trainer,
  workdir,
)
from facejax import config as config_lib
from facejax import mesh as mesh_lib
from facejax.evals import report, verification

EXIT_FAILED = 1
# EX_TEMPFAIL of sysexits.h: try again later.
EXIT_STOPPED = 75

logger = logging.getLogger("facejax")


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  started = time.monotonic()
  console = rich.console.Console()
  # ---- Read the command line and build the run; mistakes end here.
  try:
    command = recipe.parse(sys.argv[1:] if arguments is None else arguments)
    config = command.to_config()
    if command.print_config:
      print(workdir.to_json(config))
      return 0
    folder = pathlib.Path(config.workdir)
    workdir.check(folder, config)
    images = assemble.training_images(config)
    data = trainer.Data(images, *assemble.verification_pairs(config))
    steps, per_epoch = assemble.run_length(config, len(images))
    program = assemble.program(
      config, num_classes=images.num_classes, total_steps=steps
    )
  except (ValueError, FileNotFoundError) as error:
    return recipe.fail(error)
  # ---- Say what it will take.
  console.print(
    summary.table(
      config, program, images, total_steps=steps, steps_per_epoch=per_epoch
    )
  )
  summary.use_compilation_cache()
  if command.dry_run:
    console.print(summary.compiled_table(_compile(config, program)))
    return 0
  # ---- Train.
  workdir.write(folder, config)
  with (
    guards.StopRequest() as stop,
    checkpoint.Checkpoints(
      folder / "checkpoints",
      keep=config.checkpoint.keep,
      keep_best=config.checkpoint.keep_best,
    ) as checkpoints,
  ):
    telemetry.setup_logging(folder, terminal=None)
    try:
      state = _restore_or_create(config, program, data, checkpoints)
    except (ValueError, OSError) as error:
      return recipe.fail(error)
    start_step = int(state.step)
    step_fn = _compile(config, program)
    with telemetry.Telemetry(
      folder,
      total_steps=steps,
      start_step=start_step,
      batch_size=config.batch_size,
    ) as log:
      run = trainer.Trainer(
        config,
        program,
        data,
        total_steps=steps,
        checkpoints=checkpoints,
        log=log,
        stop=stop,
      )
      try:
        state = run.train(state, step_fn)
        results = run.verify(state) if run.results is None else run.results
      except trainer.Stopped:
        logger.info(
          "stopped and saved at step %s; the same command again goes on",
          checkpoints.steps[-1:],
        )
        return EXIT_STOPPED
      except guards.NonFiniteLossError:
        return EXIT_FAILED
  # ---- Report.
  _report(folder, config, results, seconds=time.monotonic() - started)
  if results:
    console.print(verification.table(results))
  logger.info("report in %s", folder / "report")
  return 0


def _compile(config: config_lib.Config, program: assemble.Program):
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
  program: assemble.Program,
  data: trainer.Data,
  checkpoints: checkpoint.Checkpoints,
) -> train_state.TrainState:
  """The newest sound checkpoint, or the state at step 0.

  Raises:
    ValueError: if the checkpoint was trained on other images.
    OSError: if there are checkpoints and none can be read.
  """
  restored = checkpoints.restore(
    program.like, resizable=train_state.has_class_axis
  )
  if restored is None:
    return train_state.create(program.init, program.like, seed=config.seed)
  for name, here in data.fingerprint().items():
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
  results: Sequence[verification.Verification],
  *,
  seconds: float,
) -> None:
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


if __name__ == "__main__":
  sys.exit(main())
