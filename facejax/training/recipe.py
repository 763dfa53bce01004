"""From a command line to a configuration: recipes, presets and overrides.

A recipe is a Python file with a function `get_config(preset) -> Config`. It is
code: run only recipes that you trust.
"""

import argparse
import contextlib
import dataclasses
import pathlib
import runpy
import traceback
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import annotated_types
import tyro

from facejax.data import formats
from facejax.data.pairs import pack_folders
from facejax.models import config as model_config
from facejax.runtime import command_line, extras, rendezvous
from facejax.training import config as config_lib
from facejax.training import (
  config_checks,
  help_ranges,
  names,
  presets,
  usual_optim,
)

_DESCRIPTION = """Train a face embedding with margin softmax.

Examples:
  python -m facejax.train --config cosface.py
      generated faces, a small net: minutes on a laptop CPU
  python -m facejax.train --config cosface.py:lfw
      LFW, from the folder that FACEJAX_DATA names (default: ./data)
  python -m facejax.train --config arcface.py --data.path my_faces \\
      --optim.learning-rate 0.05
      your own folder of identity/image.jpg
  python -m facejax.train --config cosface.py:ms1mv3_r50 --dry-run
      build and compile, print sizes and memory, stop
  python -m facejax.train --config cosface.py:ms1mv3_r50 --dry-run \\
      --topology v5e:4x4 --classes 93431
      the same for sixteen TPUs that are not here, without the data

On several machines the same command runs on each; SLURM, Open MPI, torchrun,
Kubernetes and TPUs are noticed (--distributed), and facejax.launch starts several
processes on one machine.

The same command again resumes an interrupted run. A recipe NAME[:PRESET] is
looked for in the working folder, then among the installed ones: %s.
Exit codes: 0 done, 2 bad input or a full disk, 75 stopped by SIGTERM and 130 by
Ctrl-C, both after saving (run the same command again), 70 stuck (--stuck-after),
76 another process is gone, 1 anything else, such as a failed verification."""


@dataclasses.dataclass(frozen=True)
class TrainCommand(rendezvous.ProcessOptions, config_lib.Config):
  """The command line: a configuration and what to do with it."""

  config: str = "cosface.py"
  """Recipe, and after a colon its preset: cosface.py:lfw."""
  dry_run: bool = False
  """Build and compile everything, print the table, stop."""
  topology: str | None = None
  """With --dry-run: chips to compile for that are not here, such as v5e:4x4 or
  h100:8."""
  classes: Annotated[int, annotated_types.Ge(2)] | None = None
  """With --dry-run: so many identities, and no data is read."""
  profile: str | None = None
  """Steps to trace into WORKDIR/profile for xprof: first:last, both included."""
  print_config: bool = False
  """Print the resolved configuration as JSON, stop."""
  take_over: bool = False
  """Go on in a work folder that another machine, now gone, left locked."""

  def to_config(self) -> config_lib.Config:
    """The configuration alone."""
    names = [field.name for field in dataclasses.fields(config_lib.Config)]
    return config_lib.Config(**{name: getattr(self, name) for name in names})


def parse(arguments: Sequence[str]) -> TrainCommand:
  """Reads a command line; prints help or a mistake and exits on its own.

  The recipe named by --config provides the defaults that the other flags
  override.

  Raises:
    ValueError, FileNotFoundError: if the recipe is unknown or broken, or a
      value is out of range.
  """
  if any(word.startswith("--loss.name") for word in arguments):
    raise ValueError(
      "--loss.name is no flag: each loss is a recipe with flags of its own;"
      f" use --config with one of {', '.join(p.name for p in installed())}"
    )
  given = _given(arguments)
  name = given.config
  recipe = load(name)
  default = TrainCommand(**vars(recipe), config=name)
  names.check(arguments, [*names.flags(default)])
  command = tyro.cli(
    TrainCommand,
    default=default,
    args=list(arguments),
    prog=command_line.spoken("python -m facejax.train"),
    description=command_line.spoken(
      _DESCRIPTION % ", ".join(p.name for p in installed())
    ),
    registry=help_ranges.showing_ranges(),
  )
  command = _reconcile(command, recipe, given)
  optim = usual_optim.filled(command.optim, recipe.optim, _named(arguments))
  command = dataclasses.replace(command, optim=optim)
  only = {name: getattr(command, name) for name in ("topology", "classes")}
  config_checks.check_dry_run(command.dry_run, **only)
  config_checks.validate(command)
  return command


def _given(arguments: Sequence[str]) -> argparse.Namespace:
  """What was asked for by flags that others depend on.

  Raises:
    ValueError: if a length is given twice.
  """
  first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
  first.add_argument("--config", default=TrainCommand.config)
  for name in ("--steps", "--epochs"):
    first.add_argument(name, type=lambda text: None if text == "None" else text)
  first.add_argument("--data.source", dest="source")
  first.add_argument("--eval.pairs", dest="pairs", nargs="*")
  given = first.parse_known_args(arguments)[0]
  if given.steps is not None and given.epochs is not None:
    raise ValueError(
      f"--steps {given.steps} and --epochs {given.epochs} are two lengths of one"
      " run: give exactly one of them"
    )
  return given


def _named(arguments: Sequence[str]) -> set[str]:
  """The fields that flags name, as in optim.learning_rate."""
  flags = (word.partition("=")[0] for word in arguments)
  return {flag[2:].replace("-", "_") for flag in flags if flag.startswith("--")}


def _reconcile(
  command: TrainCommand, recipe: config_lib.Config, given: argparse.Namespace
) -> TrainCommand:
  """Lets a flag replace what it contradicts in the recipe."""
  model = model_config.resolved(command.model)
  command = dataclasses.replace(command, model=model)
  if given.steps is not None:
    command = dataclasses.replace(command, epochs=None)
  elif given.epochs is not None:
    command = dataclasses.replace(command, steps=None)
  if command.data.path and command.data.path != recipe.data.path:
    if given.source is None:
      source = formats.guess(command.data.path)
      data = dataclasses.replace(command.data, source=source)
      command = dataclasses.replace(command, data=data)
    if given.pairs is None and pack_folders.beside(command.data.path):
      # They belong to these images, those of the recipe to others.
      without = {"pairs": (), "path": "", "threshold_pairs": ""}
      if all(
        getattr(command.eval, k) == getattr(recipe.eval, k) for k in without
      ):
        evaluation = dataclasses.replace(command.eval, **without)
        command = dataclasses.replace(command, eval=evaluation)
    if command.workdir == recipe.workdir and not recipe.data.path:
      # Not the folder of the run on generated faces.
      name = f"{recipe.name}-{pathlib.Path(command.data.path).name}"
      command = dataclasses.replace(command, name=name, workdir=f"runs/{name}")
  return command


def load(name: str) -> config_lib.Config:
  """Runs the recipe `NAME[:PRESET]` and returns its configuration.

  Raises:
    FileNotFoundError: if there is no such recipe; lists those that exist.
    ValueError: if the file is no recipe, or has no such preset.
  """
  stem, _, preset = name.partition(":")
  path = _find(stem)
  with _explained(path):
    get_config = runpy.run_path(str(path)).get("get_config")
  if not callable(get_config):
    raise ValueError(
      f"{path} is not a recipe: it must define get_config(preset)"
    )
  with _explained(path):
    config = get_config(preset) if preset else get_config()
  if not isinstance(config, config_lib.Config):
    raise ValueError(
      f"{path}: get_config() returned {type(config).__name__}, not a"
      " facejax.training.config.Config"
    )
  try:
    config_checks.check_types(config)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from None
  run_name = f"{path.stem}-{preset}" if preset else path.stem
  model = model_config.resolved(config.model)
  config = _expanded(dataclasses.replace(config, model=model))
  return dataclasses.replace(
    config, name=run_name, workdir=config.workdir or f"runs/{run_name}"
  )


def _expanded(part: Any) -> Any:
  """A configuration with ~ in its texts as the home folder."""
  changed = {}
  for field in dataclasses.fields(part):
    value = getattr(part, field.name)
    if isinstance(value, str):
      changed[field.name] = command_line.expanded(value)
    elif isinstance(value, tuple) and value and isinstance(value[0], str):
      changed[field.name] = tuple(map(command_line.expanded, value))
    elif dataclasses.is_dataclass(value):
      changed[field.name] = _expanded(value)
  return dataclasses.replace(part, **changed)


@contextlib.contextmanager
def _explained(path: pathlib.Path) -> Iterator[None]:
  """Says where in a recipe a mistake is; a ValueError says what it is.

  A recipe is the user's code: whatever is wrong in it is no bug of ours.
  """
  try:
    yield
  except (ValueError, OSError):
    raise
  except Exception as error:
    text = str(error) or "no message"
    lines = [
      frame.lineno
      for frame in traceback.extract_tb(error.__traceback__)
      if frame.filename == str(path)
    ]
    where = f"{path}, line {lines[-1]}" if lines else f"{path}"
    if isinstance(error, SyntaxError):
      text = error.msg
      if error.lineno:
        where = f"{error.filename or path}, line {error.lineno}"
    elif isinstance(error, ImportError):
      text = extras.answer(error) or text
    elif isinstance(error, TypeError):
      text += names.field(error, [*names.flags(config_lib.Config())])
    raise ValueError(f"{where}: {type(error).__name__}: {text}") from error


def installed() -> list[pathlib.Path]:
  """The recipes that come with the package, by name."""
  package = pathlib.Path(__file__).parents[1]
  # Inside a wheel, or beside the package in a checkout.
  folders = (package / "recipes", package.parent / "configs")
  folder = next((f for f in folders if f.is_dir()), None)
  return sorted(folder.glob("[!_]*.py")) if folder else []


def _find(stem: str) -> pathlib.Path:
  file_name = stem if stem.endswith(".py") else f"{stem}.py"
  here = pathlib.Path(file_name)
  if here.is_dir():
    raise IsADirectoryError(f"{here} is a folder; a recipe is a file")
  if here.is_file():
    return here
  known = {path.name: path for path in installed()}
  if file_name in known:
    return known[file_name]
  local = {p.name for p in pathlib.Path().glob("*.py") if _is_recipe(p)}
  there = sorted({*known, *local})
  hint = names.recipe(file_name, there, presets.PRESETS)
  raise FileNotFoundError(
    f"no recipe {file_name!r} in the working folder or among the installed"
    f" ones: {', '.join(there)}{hint and f'; {hint}'}"
  )


def _is_recipe(path: pathlib.Path) -> bool:
  return "def get_config(" in path.read_text(errors="ignore")
