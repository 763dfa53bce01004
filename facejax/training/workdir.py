"""The folder of a run: what was run, on what, and whether it may go on.

config.json   the resolved configuration (data, never code)
env.json      versions, devices, command
model.json    the card of the net: how images are to be given to it
metrics.jsonl train.log tensorboard/ checkpoints/ report/
"""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
from collections.abc import Mapping
from typing import Any

import jax

import facejax
from facejax.training import config as config_lib

# May differ on resume: where things are, how often to look, on what devices.
_FREE = ("workdir", "log_every", "mesh.", "eval.", "checkpoint.")
# The images themselves are compared by their fingerprint.
_FREE_DATA = (
  *("data.source", "data.path", "data.split", "data.join"),
  *("data.identities", "data.exclude", "data.on_error"),
  *("data.threads", "data.workers", "data.cache"),
)
_PACKAGES = (
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "grain",
  "numpy",
)


def to_json(config: config_lib.Config) -> str:
  """The configuration as JSON text, one dotted field a line."""
  return json.dumps(config_lib.flatten(config), indent=2)


def check(folder: pathlib.Path, config: config_lib.Config) -> None:
  """Refuses a folder that another configuration wrote.

  Raises:
    ValueError: listing the fields that differ, or saying that the folder is
      no run at all.
  """
  path = folder / "config.json"
  if not path.exists():
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
      raise ValueError(
        f"workdir {folder} exists and is not a run of facejax (it has no"
        " config.json): choose another with --workdir"
      )
    return
  try:
    stored = json.loads(path.read_text())
    differing = _differences(stored, json.loads(to_json(config)))
  except (json.JSONDecodeError, AttributeError) as error:
    raise ValueError(f"{path} is damaged ({error})") from None
  if differing:
    raise ValueError(
      f"workdir {folder} holds a run with another configuration:\n"
      + "\n".join(differing)
      + "\nChoose another --workdir, or run it as it was"
    )


def write(folder: pathlib.Path, config: config_lib.Config) -> None:
  """Creates the folder with config.json and env.json."""
  folder.mkdir(parents=True, exist_ok=True)
  _replace(folder / "config.json", to_json(config))
  _replace(folder / "env.json", json.dumps(_environment(), indent=2))


def _differences(
  stored: Mapping[str, Any], new: Mapping[str, Any]
) -> list[str]:
  absent = "(not set)"
  return [
    f"  {name}: {stored.get(name, absent)!r} there,"
    f" {new.get(name, absent)!r} here"
    for name in sorted({*stored, *new})
    if stored.get(name, absent) != new.get(name, absent)
    and not name.startswith(_FREE + _FREE_DATA)
  ]


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
    "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
  }


def _replace(path: pathlib.Path, text: str) -> None:
  # Never half-written: a killed run must find its old file or the new one.
  temporary = path.with_name(path.name + ".tmp")
  temporary.write_text(text + "\n")
  os.replace(temporary, path)
