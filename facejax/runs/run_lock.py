"""One run at a time in a folder, whose processes all see the same one."""

import contextlib
import os
import pathlib
import time
from collections.abc import Iterator

from facejax.runs import folder as run_folder
from facejax.runtime import distributed, folder_lock

_SHARED_WITHIN = 30.0  # seconds


@contextlib.contextmanager
def locked(
  folder: str | os.PathLike[str], *, if_gone: str = ""
) -> Iterator[None]:
  """Keeps other runs from the folder, which is made, while a block runs.

  Nothing is left of it where the block has written nothing. Of the processes of
  one run, the first holds the lock, and the others look whether they see it.

  Args:
    folder: of the run.
    if_gone: see `folder_lock.Advice`.

  Raises:
    folder_lock.InUseError: naming who is at work there.
    OSError: if the folder cannot be made or written, or the processes do not
      see the same one.
  """
  folder = pathlib.Path(folder)
  if not distributed.primary():
    _check_shared(folder)
    yield
    return
  made = not folder.exists()
  try:
    with contextlib.ExitStack() as stack:
      try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder_lock.held(folder / run_folder.LOCK, _advice(if_gone))
        stack.enter_context(lock)
      except folder_lock.InUseError:
        raise
      except OSError as error:
        why = error.strerror or str(error)
        raise run_folder.unwritable(folder, why) from error
      _check_shared(folder)
      yield
  finally:
    if made:
      with contextlib.suppress(OSError):  # it holds something
        folder.rmdir()


def _check_shared(folder: pathlib.Path) -> None:
  """Refuses folders of one name on several machines, once the lock is there.

  Checkpoints are written by all processes, each its part.
  """
  if distributed.count() == 1:
    return
  path = folder / run_folder.LOCK
  lock = path.read_text(encoding="utf-8") if distributed.primary() else ""
  lock = distributed.gather(lock)[0]
  # A file of another machine may take a while to be seen.
  deadline = time.monotonic() + _SHARED_WITHIN
  sees = False
  while not sees and time.monotonic() < deadline:
    with contextlib.suppress(OSError):
      sees = path.read_text(encoding="utf-8") == lock
    if not sees:
      time.sleep(0.2)
  blind = [k for k, one in enumerate(distributed.gathered(sees)) if not one]
  if blind:
    raise run_folder.unwritable(
      folder,
      f"{distributed.name(blind[0])} does not see there what"
      f" {distributed.name(0)} writes: it must be one folder that all share",
    )


def check_unlocked(
  folder: str | os.PathLike[str], *, if_gone: str = ""
) -> None:
  """Refuses a folder that another process works in; changes nothing.

  Raises:
    folder_lock.InUseError: as `locked`.
  """
  folder_lock.check(pathlib.Path(folder, run_folder.LOCK), _advice(if_gone))


def _advice(if_gone: str) -> folder_lock.Advice:
  return folder_lock.Advice("choose another --workdir", if_gone)
