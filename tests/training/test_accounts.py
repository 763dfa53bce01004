"""Each second of a run counts to one thing, over all its starts."""

import io

import pytest
import rich.console
from helpers import clock as clock_lib

from facejax.runs import goodput
from facejax.training import accounts, telemetry


@pytest.fixture
def clock():
  return clock_lib.Clock()


def take_steps(account, clock, first, last):
  with account.during("steps"):
    for step in range(first, last + 1):
      with account.during("input"):
        clock.now += 0.25
      clock.now += 1
      account.advance(step)


def test_all_time_is_counted_once(tmp_path, clock):
  with accounts.Account(tmp_path, since=90.0, clock=clock) as account:
    account.begin(0)
    with account.during("compiling"):
      clock.now += 5
    take_steps(account, clock, 1, 4)
    with account.during("saving"):
      clock.now += 3
    account.saved()
    clock.now += 2
    assert account.share() == 4 / 25
  kept = goodput.read(tmp_path)
  assert kept.seconds == {
    **{"starting": 10, "compiling": 5, "steps": 4, "input": 1},
    **{"saving": 3, "other": 2},
  }
  assert kept.saved[4]["saving"] == 3 and kept.step == 4


def test_time_is_counted_when_the_body_fails(tmp_path, clock):
  with (
    pytest.raises(OSError),
    accounts.Account(tmp_path, clock=clock) as account,
    account.during("verifying"),
  ):
    clock.now += 7
    raise OSError
  assert goodput.read(tmp_path).seconds["verifying"] == 7


def test_what_a_killed_start_did_after_its_checkpoint_is_lost(tmp_path, clock):
  first = accounts.Account(tmp_path, clock=clock)
  first.begin(0)
  take_steps(first, clock, 1, 4)
  first.saved()
  take_steps(first, clock, 5, 8)
  clock.now += 1000  # killed without a word; nobody is at work
  with accounts.Account(tmp_path, since=1090, clock=clock) as second:
    clock.now += 10
    second.begin(4)
    take_steps(second, clock, 5, 6)
  seconds = goodput.read(tmp_path).seconds
  assert seconds["steps"] == 6 and seconds["input"] == 1.5
  assert seconds[goodput.LOST] == 5
  assert second.share() == pytest.approx(6 / sum(seconds.values()))


def test_it_is_written_now_and_then(tmp_path, clock, monkeypatch):
  account = accounts.Account(tmp_path, clock=clock)
  account.begin(0)
  account.advance(1)
  assert goodput.read(tmp_path).step == 0, "written a moment ago"
  clock.now += 1
  write = goodput.write

  def slow(*arguments):
    clock.now += 0.5
    write(*arguments)

  monkeypatch.setattr(goodput, "write", slow)
  account.advance(2)
  for step in range(3, 53):
    clock.now += 1
    account.advance(step)
    assert goodput.read(tmp_path).step == (2 if step < 52 else 52)


def test_processes_that_do_not_speak_keep_nothing(clock):
  with accounts.Account(None, clock=clock) as account:
    account.begin(3)
    take_steps(account, clock, 4, 5)
    account.saved()
  assert 0 < account.share() < 1


def test_the_loop_tells_what_it_is_at(tmp_path, clock):
  with (
    accounts.Account(tmp_path, clock=clock) as account,
    telemetry.Telemetry(
      tmp_path, total_steps=9, batch_size=4, terminal=False, account=account
    ) as log,
    account.during("steps"),
  ):
    for name in ("saving", "verifying"):
      with log.paused(name):
        clock.now += 2
    with log.waiting():
      clock.now += 1
    log.advance(7)
    log.saved()
  kept = goodput.read(tmp_path)
  assert (kept.seconds["saving"], kept.seconds["verifying"]) == (2, 2)
  assert kept.seconds["input"] == 1 and kept.saved.keys() == {7}


def test_the_table_has_time_and_share():
  seconds = {"steps": 90.0, goodput.LOST: 30.0}
  paper = rich.console.Console(file=io.StringIO(), width=80)
  paper.print(accounts.table(goodput.Spent(3, seconds)))
  lines = {
    " ".join(line.split())
    for line in paper.file.getvalue().splitlines()  # pyright: ignore
  }
  assert "steps 1:30 75.0%" in lines
  assert "lost to restarts (done again) 30 s 25.0%" in lines
