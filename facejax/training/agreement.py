"""What the processes of a run must have in common, compared before they begin."""

import hashlib
import importlib.metadata
import pathlib
import platform
from typing import Any

import jax

from facejax.runs import folder as run_folder
from facejax.runtime import distributed
from facejax.training import config as config_lib
from facejax.training import inputs

# Of all Python of the package.
_PACKAGE = pathlib.Path(__file__).parents[1]
# May differ: where one process finds what another does elsewhere.
_FREE = ("workdir", "data.path", "eval.path", "init_from", "distill")
_FREE += ("compatible_with",)


def check_command(config: config_lib.Config) -> None:
  """Refuses to begin where processes were told different things.

  Before anything is read, for they read together.

  Raises:
    ValueError: naming a process, and what differs.
  """
  if distributed.count() > 1:
    distributed.agree(_what_counts(config))


def check_data(data: inputs.Data, total_steps: int) -> None:
  """Refuses to train where processes have found different data.

  Raises:
    ValueError: naming a process, and what differs.
  """
  if distributed.count() > 1:
    sets = {f"pairs of {one.name}": len(one) for one in data.pairs}
    values = {**data.fingerprint(), **sets, "steps in all": total_steps}
    distributed.agree(values)


def _what_counts(config: config_lib.Config) -> dict[str, Any]:
  """By name, as the message says it."""
  versions = {
    f"version of {name}": importlib.metadata.version(name)
    for name in run_folder.PACKAGES
  }
  kinds = {device.device_kind for device in jax.local_devices()}
  return {
    **{
      name: value
      for name, value in config_lib.stored(config).items()
      if name not in _FREE
    },
    **versions,
    "version of Python": platform.python_version(),
    "code of facejax": _code(),
    "kind of device": sorted(kinds),
  }


def _code() -> str:
  """A digest of the package, so that nobody runs another version of it."""
  digest = hashlib.sha256()
  for path in sorted(_PACKAGE.rglob("*.py")):
    digest.update(path.relative_to(_PACKAGE).as_posix().encode())
    digest.update(path.read_bytes())
  return digest.hexdigest()[:16]
