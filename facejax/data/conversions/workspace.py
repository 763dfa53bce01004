"""The folder in which a conversion grows until it is finished.

`DST.partial` lies beside DST and takes its name in one step when all is done:
a set is there as a whole or not at all. Inside, `.conversion` holds what is not
part of the set: the plan, the notes of finished shards, drafts and locks.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import time
from collections.abc import Iterator
from typing import Any

from facejax.data.stores import set_header
from facejax.runtime import folder_lock, text_lines, whole_files

SCRATCH = ".conversion"

_PLAN = "plan.json"
_LOCK = "lock"
_WORKERS_LOCK = "workers.lock"
_PATIENCE = 20.0
_held: list[Any] = []


def check_free(destination: pathlib.Path) -> None:
  """Refuses to write where something is already.

  Raises:
    FileExistsError: There is a file, or a folder that is not empty.
  """
  if not os.path.lexists(destination):
    return
  if not destination.is_dir() or destination.is_symlink():
    raise FileExistsError(
      f"{_shown(destination)} is there already; name another"
    )
  if any(destination.iterdir()):
    raise FileExistsError(
      f"{_shown(destination)} is not empty, and nothing is overwritten: name"
      " another folder"
    )
  if os.path.ismount(destination):
    raise FileExistsError(
      f"{_shown(destination)} is a mount point, which cannot be renamed into"
      " place: name a folder inside it"
    )


@contextlib.contextmanager
def opened(
  destination: pathlib.Path, plan: set_header.ConversionPlan
) -> Iterator[pathlib.Path]:
  """Begins a conversion, or goes on with it; yields the unfinished folder.

  Raises:
    FileExistsError: It is being written by another process, or belongs to
      another conversion.
  """
  partial = destination.with_name(f"{destination.name}.partial")
  scratch = partial / SCRATCH
  if partial.is_dir() and not scratch.is_dir() and any(partial.iterdir()):
    raise FileExistsError(
      f"{_shown(partial)} is in the way and is no unfinished conversion: move it"
    )
  scratch.mkdir(parents=True, exist_ok=True)
  advice = folder_lock.Advice("name another folder", folder=_name(partial))
  with folder_lock.held(scratch / _LOCK, advice):
    # Workers of a killed conversion end a moment after it.
    with open(scratch / _WORKERS_LOCK, "ab") as workers:
      _lock(workers, partial)
    _agree(partial, plan)
    yield partial


def join(scratch: pathlib.Path) -> None:
  """Lets the next conversion wait until this worker process has ended."""
  file = open(scratch / _WORKERS_LOCK, "ab")  # noqa: SIM115, held to the end
  fcntl.flock(file, fcntl.LOCK_SH)
  _held.append(file)


def publish(partial: pathlib.Path, destination: pathlib.Path) -> None:
  """Gives the finished folder its name."""
  check_free(destination)
  whole_files.remove_drafts(partial)
  os.rename(partial, destination)
  whole_files.sync(destination.parent)
  tidy(destination)


def tidy(destination: pathlib.Path) -> None:
  """Takes away what a conversion that was killed at the end left behind."""
  shutil.rmtree(destination / SCRATCH, ignore_errors=True)


def _lock(file, partial: pathlib.Path) -> None:
  until = time.monotonic() + _PATIENCE
  while True:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      return
    except BlockingIOError:
      if time.monotonic() >= until:
        raise FileExistsError(
          f"{_shown(partial)} is in use by another process"
        ) from None
      time.sleep(0.05)


def _agree(partial: pathlib.Path, plan: set_header.ConversionPlan) -> None:
  """Writes the plan, or compares it with the one that was begun."""
  path = partial / SCRATCH / _PLAN
  wanted = plan.to_json()
  if not path.is_file():
    whole_files.write(path, json.dumps(wanted, indent=1).encode() + b"\n")
    return
  begun = set_header.load(path)
  differ = [name for name in wanted if begun.get(name) != wanted[name]]
  if differ:
    details = ", ".join(
      f"{name} {begun.get(name)!r} there and {wanted[name]!r} now"
      for name in differ
    )
    raise FileExistsError(
      f"{_shown(partial)} is the unfinished work of another conversion:"
      f" {details}. Give the same source and options to go on, or name another"
      " folder"
    )


def _shown(path: pathlib.Path) -> str:
  return repr(_name(path))


def _name(path: pathlib.Path) -> str:
  return text_lines.printable(os.fspath(path))
