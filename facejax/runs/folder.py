"""The folder of a run: what lies where, what was run, and whether it may go on.

Every file is written and read by one module of this package:

  config.json          the resolved configuration by dotted names: here
  config.N.json        what it was before its length was changed: here
  env.json             versions, devices, command: here
  run.lock             who is at work, while somebody is: `run_lock`
  model.json           the card of the net: `card`
  classes.json         the names of its classes: `classes`
  checkpoints/STEP/    the state of training: `checkpoint`; its net: `net`
  checkpoints/scores.json  what its verified steps scored: `scores`
  metrics.jsonl        scalars over the steps: `history`
  left_out.json        batches that the run goes without: `left_out`
  goodput.json         where the wall time went, over all starts: `goodput`
  tracked.json         by what name trackers know the run: `tracked`
  report/metrics.json  what training verified at its end: `metrics_file`
  report/NAME.json     other evaluations: `results`

Beside them lie report/index.html, export/, tensorboard/, train.log, profile/
and what trackers keep, which nothing here reads.
"""

import datetime
import importlib.metadata
import itertools
import os
import pathlib
import platform
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax

import facejax
from facejax.runtime import json_files, whole_files

CONFIG, ENVIRONMENT = "config.json", "env.json"
CARD, HISTORY = "model.json", "metrics.jsonl"
CHECKPOINTS, REPORT = "checkpoints", "report"
_MARKS = (CONFIG, CARD, HISTORY, REPORT)
TENSORBOARD, LOG, EXPORT = "tensorboard", "train.log", "export"
LOCK = "run.lock"
LEFT_OUT, CLASSES = "left_out.json", "classes.json"
GOODPUT, TRACKED, PROFILE = "goodput.json", "tracked.json", "profile"


def log_of(process: int) -> str:
  """The name of the log that a process of a run writes."""
  stem, suffix = os.path.splitext(LOG)
  return f"{stem}.{process}{suffix}" if process else LOG


# May differ on resume: where things are, how often to look, on what devices,
# when to give up, whom to tell.
_FREE = (
  *("workdir", "log_every", "mesh.", "eval.", "checkpoint."),
  *("stuck_after", "on_nonfinite", "check_every", "track"),
)
# The images themselves are compared by their fingerprint.
_FREE_DATA = (
  *("data.source", "data.path", "data.split", "data.join"),
  *("data.identities", "data.exclude", "data.merge", "data.relabel"),
  "data.on_error",
  *("data.threads", "data.workers", "data.cache"),
)
# Of these groups, what may not differ after all: who is trained on.
_BOUND = ("eval.hold_out",)
# Newer fields, with what they were before there was a choice.
_ADDED: Mapping[str, Any] = {
  "accumulate": 1,
  "compatible_with": "",
  "compatible_weight": 1.0,
  "data.exif": "apply",
  "data.merge": "",
  "data.recursive": False,
  "data.relabel": "",
  "distill": "",
  "distillation.cosine": 1.0,
  "distillation.relations": 0.0,
  "eval.hold_out": 0.0,
  "init_prototypes": False,
  "model.lora": 0,
  "model.lora_alpha": 16.0,
  "head.interclass_filtering_threshold": 0.0,
  "memory.size": 0,
  "memory.start": 1000,
  "model.gradients": "float32",
  "model.bn_group": 0,
  "model.bn_frozen": False,
  "optim.beta1": 0.9,
  "optim.beta2": 0.999,
  "optim.decay": "all",
  "optim.freeze": "",
  "optim.layer_decay": 1.0,
  "optim.trust": 1e-3,
  "optim.scale_by_batch": "none",
  "optim.reference_batch": 512,
  "optim.head.name": None,
  "optim.head.learning_rate": None,
  "optim.head.momentum": None,
  "optim.head.epsilon": None,
  "optim.head.beta1": None,
  "optim.head.beta2": None,
  "optim.head.weight_decay": None,
  "optim.head.schedule": None,
  "optim.head.warmup": None,
  "stages": [],
}
# May be changed to go on for longer.
_LENGTH = ("steps", "epochs")
# What a run is computed by.
PACKAGES = (
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "grain",
  "numpy",
)


def check(
  folder: str | os.PathLike[str], config: Mapping[str, Any]
) -> dict[str, Any] | None:
  """Refuses a folder that another configuration wrote.

  The length of a run may be another one: it goes on to that.

  Args:
    folder: may be absent.
    config: by dotted names, as JSON would give it back.

  Returns:
    What the folder was told before; None if it is new.

  Raises:
    ValueError: listing the fields that differ, or saying that the folder is
      no run at all.
    OSError: if it cannot be made or written.
  """
  folder = pathlib.Path(folder)
  _check_place(folder)
  stored = read_config(folder)
  if stored is None:
    if folder.is_dir() and any(contents(folder)):
      raise ValueError(
        f"workdir {folder} exists and is not a run of facejax (it has no"
        f" {CONFIG}): choose another with --workdir"
      )
    return None
  differing = _differences(stored, config)
  if differing.keys() - set(_LENGTH):
    raise ValueError(
      f"workdir {folder} holds a run with another configuration:\n"
      + "\n".join(differing.values())
      + "\nChoose another --workdir, or run it as it was"
    )
  return stored


def write(folder: str | os.PathLike[str], config: Mapping[str, Any]) -> None:
  """Writes config.json and env.json; makes the folder if need be.

  A configuration that had another length is kept as config.N.json.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  whole_files.remove_drafts(folder)
  stored = read_config(folder)
  if stored is not None and _differences(stored, config).keys() & set(_LENGTH):
    json_files.write(_unused(folder), stored)
  json_files.write(folder / CONFIG, config)
  json_files.write(folder / ENVIRONMENT, _environment())


def _check_place(folder: pathlib.Path) -> None:
  """Refuses what cannot be made a folder, before anything is made."""
  there = next(p for p in (folder, *folder.parents) if os.path.lexists(p))
  if not there.is_dir():
    raise unwritable(folder, f"{there} is no folder")
  if not os.access(there, os.W_OK | os.X_OK):
    raise unwritable(folder, f"no permission to write in {there}")


def unwritable(folder: pathlib.Path, why: str) -> OSError:
  """The error of a work folder that cannot be written."""
  return OSError(
    f"workdir {folder} cannot be written ({why}): choose another with --workdir"
  )


def read_config(run: str | os.PathLike[str]) -> dict[str, Any] | None:
  """What a run was told, by dotted names; None where that was not kept.

  Raises:
    ValueError: if config.json is damaged.
  """
  return json_files.read_or_none(pathlib.Path(run, CONFIG))


def read_environment(run: str | os.PathLike[str]) -> dict[str, Any] | None:
  """Where a run took place; None where that was not kept.

  Raises:
    ValueError: if env.json is damaged.
  """
  return json_files.read_or_none(pathlib.Path(run, ENVIRONMENT))


def has_begun(run: str | os.PathLike[str]) -> bool:
  """Whether a run has saved something to go on from."""
  return os.path.isdir(os.path.join(run, CHECKPOINTS))


def contents(run: str | os.PathLike[str]) -> Iterator[str]:
  """Names of what lies in a folder, but for what a killed start left."""
  for name in os.listdir(run):
    if name != LOCK and not whole_files.is_draft(name):
      yield name


def require(run: str | os.PathLike[str]) -> None:
  """Refuses what is no folder of a run.

  Raises:
    FileNotFoundError: if it has none of a run's files.
  """
  if not is_run(run):
    raise FileNotFoundError(
      f"{os.fspath(run)!r} is not the folder of a run: it has none of"
      f" {', '.join(_MARKS)}"
    )


def is_run(folder: str | os.PathLike[str]) -> bool:
  """Whether a folder has any of a run's files."""
  return any(os.path.exists(os.path.join(folder, mark)) for mark in _MARKS)


def _unused(folder: pathlib.Path) -> pathlib.Path:
  """The first config.N.json that is not there yet."""
  stem, suffix = os.path.splitext(CONFIG)
  paths = (folder / f"{stem}.{n}{suffix}" for n in itertools.count(1))
  return next(path for path in paths if not path.exists())


def _differences(
  stored: Mapping[str, Any], new: Mapping[str, Any]
) -> dict[str, str]:
  """A line for each field that differs and may not do so freely."""
  absent = "(not set)"
  stored = {**_ADDED, **stored}
  return {
    name: f"  {name}: {stored.get(name, absent)!r} there,"
    f" {new.get(name, absent)!r} here"
    for name in sorted({*stored, *new})
    if stored.get(name, absent) != new.get(name, absent)
    and (name in _BOUND or not name.startswith(_FREE + _FREE_DATA))
  }


def _environment() -> dict[str, Any]:
  return {
    "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "command": sys.argv,
    "facejax": facejax.__version__,
    "python": platform.python_version(),
    "platform": platform.platform(),
    "cpu_count": os.cpu_count(),
    "devices": [device.device_kind for device in jax.devices()],
    "processes": jax.process_count(),
    "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
  }
