"""One process at a time in a folder, whatever became of the others."""

import errno
import fcntl
import json
import os
import socket

import pytest

from facejax.runtime import folder_lock

ADVICE = folder_lock.Advice("name another")
CAREFUL = folder_lock.Advice("name another", if_gone="say --so")
# No process has it: the largest is 2^22.
NOBODY = 2**22 + 1


def left(path, **changes):
  """A lock that a killed process left."""
  mine = {"host": socket.gethostname(), "pid": NOBODY, "time": "2026-01-01"}
  path.write_text(json.dumps(mine | changes))
  return path


def without_locks(*_):
  raise OSError(errno.ENOLCK, "no locks available")


def test_the_second_is_refused_and_told_by_whom(tmp_path):
  path = tmp_path / "lock"
  with folder_lock.held(path, ADVICE):
    before = path.read_bytes()
    for ask in (folder_lock.check, lambda *a: folder_lock.held(*a).__enter__()):
      with pytest.raises(folder_lock.InUseError) as caught:
        ask(path, ADVICE)
      assert str(tmp_path) in str(caught.value)
      assert f"process {os.getpid()} on" in str(caught.value)
      assert str(caught.value).endswith("or name another")
    assert path.read_bytes() == before
  assert not list(tmp_path.iterdir())


def test_it_is_given_back_on_every_way_out(tmp_path):
  path = tmp_path / "lock"
  for error in (ValueError, KeyboardInterrupt, SystemExit):
    with pytest.raises(error), folder_lock.held(path, ADVICE):
      raise error
    assert not path.exists()
  folder_lock.check(path, ADVICE)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"pid": "x"}'])
def test_an_unreadable_lock_of_nobody_is_taken_over(tmp_path, text):
  path = tmp_path / "lock"
  path.write_text(text)
  with folder_lock.held(path, ADVICE):
    assert json.loads(path.read_text())["pid"] == os.getpid()


def test_what_a_killed_process_left_is_taken_over(tmp_path):
  path = left(tmp_path / "lock", pid=os.getpid())
  with folder_lock.held(path, CAREFUL):
    pass
  assert not path.exists()


def test_another_machine_is_told_of_and_can_be_passed_over(tmp_path):
  path = left(tmp_path / "lock", host="far-away")
  before = path.read_bytes()
  with (
    pytest.raises(folder_lock.InUseError) as caught,
    folder_lock.held(path, CAREFUL),
  ):
    pass
  for words in ("'far-away'", str(NOBODY), "2026-01-01", "say --so"):
    assert words in str(caught.value)
  assert path.read_bytes() == before
  with folder_lock.held(path, ADVICE):
    pass


def test_where_the_system_knows_no_locks_the_process_is_looked_for(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(fcntl, "flock", without_locks)
  with folder_lock.held(left(tmp_path / "lock"), CAREFUL):
    pass
  alive = left(tmp_path / "lock", pid=os.getppid())
  with pytest.raises(folder_lock.InUseError, match=str(os.getppid())):
    folder_lock.check(alive, ADVICE)


def test_a_lock_that_its_holder_took_away_counts_no_more(tmp_path, monkeypatch):
  path, real = tmp_path / "lock", fcntl.flock

  def too_late(file, flags):
    # It ends between the opening and the locking.
    if not left_once:
      left_once.append(1)
      path.unlink()
    real(file, flags)

  left_once = []
  path.write_text("")
  monkeypatch.setattr(fcntl, "flock", too_late)
  with folder_lock.held(path, ADVICE):
    assert json.loads(path.read_text())["pid"] == os.getpid()
