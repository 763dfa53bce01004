"""One process at a time in a folder: a file that its holder keeps locked.

The file says who holds it: `{"host": "a", "pid": 12, "time": "2026-01-01T…"}`.
The system gives the lock back when a process ends, however it ends; what a
killed one left behind is taken over. Only where that was another machine is
this not certain: some shared file systems do not pass locks on to others.
"""

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import IO, Any

# Of file systems that know no locks.
_UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class InUseError(FileExistsError):
  """Another process is at work in the folder."""


@dataclasses.dataclass(frozen=True)
class Advice:
  """What a refusal says beside who is at work.

  Attributes:
    instead: what else may be done, such as "name another file".
    if_gone: how to go on if the lock was left by another machine that is no
      more; without it, such a lock is taken over.
    folder: what is said to be in use; the folder of the lock if empty.
  """

  instead: str
  if_gone: str = ""
  folder: str | os.PathLike[str] = ""


@contextlib.contextmanager
def held(path: str | os.PathLike[str], advice: Advice) -> Iterator[None]:
  """Keeps others out of the folder of a file while the block runs.

  Args:
    path: the file; its folder must exist. It is gone after the block.
    advice: for those who are kept out.

  Raises:
    InUseError: naming host, process and time of who holds it.
    OSError: if the file cannot be written.
  """
  path = pathlib.Path(path)
  with _taken(path, advice, "a+") as file:
    try:
      _sign(file)
      yield
    finally:
      # While it is still locked: nobody else's can be there. A folder may have
      # become read-only; what stays is nobody's lock once this process ends.
      with contextlib.suppress(OSError):
        path.unlink()


def check(path: str | os.PathLike[str], advice: Advice) -> None:
  """Refuses what `held` would refuse now; changes nothing.

  Raises:
    InUseError: see there.
  """
  with contextlib.suppress(FileNotFoundError, NotADirectoryError):
    _taken(pathlib.Path(path), advice, "r+").close()


def _taken(path: pathlib.Path, advice: Advice, mode: str) -> IO[str]:
  """The file, locked here, and with no other holder that is known of."""
  while True:
    file = open(path, mode, encoding="utf-8")  # noqa: SIM115, handed on
    try:
      free = _lock(file)
      if free and not _is_at(file, path):
        # Its holder has just ended, and taken it away.
        file.close()
        continue
      holder = _holder(file)
      elsewhere = bool(holder) and holder.get("host") != socket.gethostname()
      if free is None:
        free = elsewhere or not _lives(holder)
      unsure = elsewhere and bool(advice.if_gone)
      if not free or unsure:
        raise InUseError(_refusal(path, holder, advice, unsure=unsure))
      return file
    except BaseException:
      file.close()
      raise


def _lock(file: IO[str]) -> bool | None:
  """Whether it could be locked; None where the system knows no locks."""
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  except OSError as error:
    if error.errno not in _UNKNOWN:
      raise
    return None
  return True


def _is_at(file: IO[str], path: pathlib.Path) -> bool:
  try:
    return os.path.samestat(os.fstat(file.fileno()), path.stat())
  except FileNotFoundError:
    return False


def _sign(file: IO[str]) -> None:
  now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
  me = {"host": socket.gethostname(), "pid": os.getpid(), "time": now}
  file.seek(0)
  file.truncate()
  file.write(json.dumps(me) + "\n")
  file.flush()


def _holder(file: IO[str]) -> dict[str, Any]:
  """Who signed last; {} where nobody did, or it is not readable."""
  file.seek(0)
  try:
    found = json.load(file)
    return found if isinstance(found, dict) else {}
  except ValueError:
    return {}


def _lives(holder: dict[str, Any]) -> bool:
  """Whether the holder is a process of this machine that has not ended."""
  try:
    os.kill(int(holder["pid"]), 0)
  except (ProcessLookupError, KeyError, TypeError, ValueError, OverflowError):
    return False
  except PermissionError:  # somebody else's
    return True
  return True


def _refusal(
  path: pathlib.Path, holder: dict[str, Any], advice: Advice, *, unsure: bool
) -> str:
  who, instead = "another process", advice.instead
  if holder:
    who = (
      f"process {holder.get('pid')} on {holder.get('host')!r}, which began at"
      f" {holder.get('time')}"
    )
  if unsure:
    who += ", a machine that cannot be asked from here"
    instead += f". If it is no longer at work, {advice.if_gone}"
  folder = os.fspath(advice.folder or path.parent)
  return f"{folder!r} is in use by {who}: wait until it has ended, or {instead}"
