"""What trackers are told, and that none can disturb a run."""

import importlib.util
import json
import logging
import math
import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest
from helpers import tracked_run

from facejax.runs import history, tracked
from facejax.runtime import extras
from facejax.training import telemetry, trackers


class Fake:
  """A tracker that notes what it is told, or fails."""

  def __init__(self, run, *, fails=()):
    self.run, self.fails = run, fails
    self.known_as = run.known_as or "first"
    self.calls = []
    self._note("open")

  def _note(self, *call):
    self.calls.append(call)
    if call[0] in self.fails:
      raise OSError(f"no network to {call[0]}")

  def add(self, step, scalars):
    self._note("add", step, scalars)

  def close(self, *, failed):
    self._note("close", failed)


@pytest.fixture
def made():
  return []


@pytest.fixture
def told(tmp_path, made):
  """Makes trackers: wandb fails at what is named, mlflow never."""

  def make(*fails, names=("wandb", "mlflow"), **options):
    def kind(fails):
      def begin(run):
        made.append(Fake.__new__(Fake))
        made[-1].__init__(run, fails=fails)
        return made[-1]

      return begin

    kinds = {"wandb": kind(fails), "mlflow": kind(())}
    return trackers.Trackers(
      names,
      name="r",
      folder=str(tmp_path),
      config={"a": 1},
      kinds=kinds,
      **options,
    )

  return make


def test_they_are_told_what_the_history_holds(tmp_path, told, made):
  with (
    told() as tracked_by,
    telemetry.Telemetry(
      tmp_path, total_steps=9, batch_size=4, terminal=False, tracked=tracked_by
    ) as log,
  ):
    log.train(1, {"loss": 2.5, "cos": math.nan})
    log.train(2, {"loss": 1.5})
    log.evaluation(2, {"lfw/accuracy": 0.75})
  for one in made:
    assert (one.run.name, one.run.config) == ("r", {"a": 1})
    assert one.run.folder == tmp_path
    adds = [call[1:] for call in one.calls if call[0] == "add"]
    assert adds == [
      (
        record.pop("step"),
        {
          f"{kind}/{name}": value
          for name, value in record.items()
          if name != "time" and value is not None
        },
      )
      for record in history.read(tmp_path)
      for kind in [record.pop("kind")]
    ]
    assert one.calls[-1] == ("close", False)


@pytest.mark.parametrize("call", ["open", "add", "close"])
def test_one_that_fails_is_named_once_and_not_asked_again(
  call, told, made, caplog
):
  with caplog.at_level(logging.WARNING, "facejax"), told(call) as tracked_by:
    for step in (1, 2, 3):
      tracked_by.add(step, "train", {"loss": 1.0})
  bad, good = made
  assert [name for name, *_ in bad.calls].count(call) == 1
  assert bad.calls[-1][0] == call
  assert [name for name, *_ in good.calls] == ["open", *["add"] * 3, "close"]
  [record] = caplog.records
  assert f"wandb failed (OSError: no network to {call})" in record.message


def test_one_that_hangs_holds_nothing_up(told, made, caplog):
  answers = threading.Event()
  with told(patience=0.1) as tracked_by:
    made[0].add = lambda *_: answers.wait(60)
    for step in (1, 2):
      tracked_by.add(step, "train", {"loss": 1.0})
  assert [name for name, *_ in made[1].calls][-1] == "close"
  assert "wandb does not answer" in caplog.text
  answers.set()


def test_a_run_that_fails_is_told_as_that(told, made):
  with pytest.raises(ZeroDivisionError), told():
    _ = 1 / 0
  assert all(one.calls[-1] == ("close", True) for one in made)


def test_a_later_start_continues_the_same_runs(tmp_path, told, made):
  with told(names=["mlflow", "mlflow"]):
    pass
  with told("open"):
    pass
  assert [one.run.known_as for one in made] == [None, None, "first"]
  assert tracked.read(tmp_path) == {"mlflow": "first"}


def test_none_leaves_nothing(tmp_path, told):
  with told(names=["none"]) as tracked_by:
    tracked_by.add(1, "train", {"loss": 1.0})
  assert not list(tmp_path.iterdir())


def test_a_damaged_file_begins_new_runs(tmp_path, told, made, caplog):
  (tmp_path / "tracked.json").write_text("[")
  with told(names=["mlflow"]):
    pass
  assert made[0].run.known_as is None and "tracked.json" in caplog.text


def test_the_signals_that_stop_a_run_stay_its_own(tmp_path):
  before = signal.getsignal(signal.SIGTERM)

  def takes_it(run):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return Fake(run)

  with trackers.Trackers(
    ["wandb"], folder=str(tmp_path), kinds={"wandb": takes_it}
  ):
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("name", sorted(trackers.KINDS))
def test_a_missing_package_is_named_with_its_extra(name, monkeypatch):
  monkeypatch.setitem(sys.modules, name, None)
  with pytest.raises(
    extras.MissingPackageError, match=rf"pip install 'facejax\[{name}\]'"
  ):
    trackers.require(["none", name])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(trackers.KINDS))
def test_what_they_keep_offline_is_the_history(name, tmp_path):
  if importlib.util.find_spec(name) is None:
    pytest.skip(f"pip install 'facejax[{name}]'")
  environment = {
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    # Its database takes seconds to make.
    "MLFLOW_TRACKING_URI": (tmp_path / "mlruns").as_uri(),
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "CLEARML_OFFLINE_MODE": "1",
    "TRACKIO_DIR": str(tmp_path / "trackio"),
    "HOME": str(tmp_path / "home"),
    "JAX_PLATFORMS": "cpu",
  }
  script = pathlib.Path(tracked_run.__file__)
  done = subprocess.run(
    [sys.executable, script, name, tmp_path],
    env=os.environ | environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  found = json.loads((tmp_path / "found.json").read_text())
  first, second = found["known_as"]
  assert first == second or name == "clearml", "none is continued offline"
  records = history.read(tmp_path)
  assert len(records) == 6
  assert sorted(found["rows"]) == sorted(
    [record["step"], f"{record['kind']}/{key}", value]
    for record in records
    for key, value in record.items()
    if key not in ("step", "kind", "time") and value is not None
  )
