"""Runs that go on, are refused, stopped, or fail on the way."""

import contextlib
import errno
import functools
import hashlib
import json
import os
import shutil
import signal
import socket
from unittest import mock

import numpy as np
import pytest
from helpers import small_training
from orbax.checkpoint import v1 as ocp
from PIL import Image

from facejax.data.pairs import pairs as pair_sets
from facejax.data.synthetic import faces as synthetic
from facejax.evaluation import while_training
from facejax.runs import checkpoint, folder, history, results, run_lock
from facejax.runtime import last_words
from facejax.training import inputs, telemetry, trackers

# A net that compiles in seconds; drawn people in files, and nothing verified.
SIMPLE = [
  *small_training.SMALL, "--mesh.devices", 1, "--model.name", "sphereface4",
]  # fmt: skip
STEPS = 4


@pytest.fixture(scope="session")
def people(tmp_path_factory):
  """A folder of five drawn people with four pictures each."""
  root = tmp_path_factory.mktemp("people")
  faces = synthetic.SyntheticFaces(
    num_identities=5, images_per_identity=4, image_size=(32, 32)
  )
  for index in range(len(faces)):
    person = root / faces.class_names[faces.labels[index]]
    person.mkdir(exist_ok=True)
    Image.fromarray(faces[index]).save(person / f"{index}.jpg")
  return root


@pytest.fixture(scope="session")
def begun(tmp_path_factory, people):
  """The folder of a run of four steps, which no test may change."""
  run = tmp_path_factory.mktemp("begun") / "run"
  code, output = again(run, people, "--data.on-error", "raise")
  assert code == 0, output
  return run


def again(run, people, *flags, steps=STEPS):
  """Trains in a folder; flags may name the data anew."""
  data = () if "--data.path" in flags else ("--data.path", people)
  return small_training.call(
    [*SIMPLE, "--steps", steps, "--workdir", run, *data, *flags]
  )


def sums(run):
  """A checksum of every file of a folder."""
  return {
    path.relative_to(run): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in run.rglob("*")
    if path.is_file()
  }


@contextlib.contextmanager
def unchanged(run):
  before = sums(run)
  yield
  assert sums(run) == before


def refused(found, *words):
  code, output = found
  assert code == 2, output
  assert "Traceback" not in output
  for word in words:
    assert word in output


@pytest.mark.slow
@pytest.mark.parametrize("change", ["fewer", "more", "another"])
def test_other_people_are_named_and_nothing_is_written(
  tmp_path, begun, people, change
):
  other = shutil.copytree(people, tmp_path / "people")
  first, second, *_ = sorted(other.iterdir())
  if change == "fewer":
    shutil.rmtree(first)
  elif change == "more":
    shutil.copytree(first, other / "z")
  else:
    image = next(first.iterdir())
    image.rename(second / "moved.jpg")
  name = "labels_crc32" if change == "another" else "num_images"
  with unchanged(begun):
    refused(
      again(begun, people, "--data.path", other),
      f"{name}=",
      "give the images that it was trained on",
    )


@pytest.mark.slow
def test_a_folder_in_use_is_refused_and_a_left_lock_is_not(
  tmp_path, begun, people
):
  with run_lock.locked(begun), unchanged(begun):
    words = f"process {os.getpid()} on", "choose another --workdir"
    refused(again(begun, people), *words)
  run = shutil.copytree(begun, tmp_path / "run")
  lock = {"host": "far-away", "pid": 1, "time": "2026-01-01"}
  (run / folder.LOCK).write_text(json.dumps(lock))
  with unchanged(run):
    refused(again(run, people), "'far-away'", "--take-over")
  code, output = again(run, people, "--take-over")
  assert code == 0 and "resumed at step 4" in output
  assert not (run / folder.LOCK).exists()
  lock["host"] = socket.gethostname()
  (run / folder.LOCK).write_text(json.dumps(lock))
  run_lock.check_unlocked(run)


@pytest.mark.slow
def test_a_run_goes_on_for_longer_and_not_for_less(tmp_path, begun, people):
  run = shutil.copytree(begun, tmp_path / "run")
  with unchanged(run):
    refused(again(run, people, steps=3), "has taken 4 steps already")
  code, output = again(run, people, steps=6)
  assert code == 0, output
  for words in ("resumed at step 4", "goes on to 6", "planned anew"):
    assert words in output
  assert list(small_training.losses(run)) == [1, 2, 3, 4, 5, 6]
  told = [
    json.loads((run / name).read_text())["steps"]
    for name in ("config.1.json", "config.json")
  ]
  assert told == [4, 6]
  # The schedule is that of six steps from the start.
  rates = {r["step"]: r["learning_rate"] for r in history.read(run)}
  assert rates[6] < rates[5] < 0.02 and rates[5] > 0
  code, output = again(run, people, "--epochs", 8, steps="None")
  assert code == 0, output
  assert "goes on to 8" in output
  assert (run / "config.2.json").exists()


def spoilt_pairs(_):
  faces = synthetic.SyntheticFaces(
    num_identities=2, images_per_identity=4, image_size=(32, 32)
  )
  index = np.arange(4, dtype=np.int32)
  same, fold = np.ones(4, bool), index % 2
  return [pair_sets.PairSet("alike", faces, index, index, same, fold)], None


def test_pairs_of_one_kind_are_refused_before_training(tmp_path, monkeypatch):
  monkeypatch.setattr(inputs, "verification_pairs", spoilt_pairs)
  found = small_training.call([*SIMPLE, "--workdir", tmp_path / "run"])
  refused(found, "pair set alike", "4 same and 0 different pairs")
  assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_verification_that_fails_never_loses_the_run(tmp_path, monkeypatch):
  arguments = [*SIMPLE, "--steps", 4, "--workdir", tmp_path, "--eval.every", 2]
  saved = []

  def fails(*_, **__):
    saved.append(checkpoint.Checkpoints(tmp_path / "checkpoints").steps)
    raise ValueError("'a.jpg' cannot be read")

  with monkeypatch.context() as patch:
    patch.setattr(while_training, "verify", fails)
    code, output = small_training.call(arguments)
  assert code == last_words.EXIT_FAILED, output
  assert "the verification of step 2 failed: 'a.jpg'" in output
  assert "not verified; the same command again verifies it" in output
  assert "Traceback" not in output
  # Each was being saved already, and is whole by the next.
  assert len(saved) == 2 and 2 in saved[1]
  code, output = small_training.call(arguments)
  assert code == 0 and "resumed at step 4" in output
  assert (tmp_path / "report" / "metrics.json").exists()


@pytest.mark.slow
def test_a_run_ends_early_at_the_same_step_however_often_it_is_started(
  tmp_path,
):
  # A net that does not change: nothing ever gets better than at first.
  waits = [
    *SIMPLE, "--steps", 12, "--workdir", tmp_path, "--eval.every", 2,
    "--optim.learning-rate", 1e-30, "--eval.patience",
  ]  # fmt: skip
  early = "ended early at step 6 of 12: 2 verifications in a row"

  def ended(*patience):
    code, output = small_training.call([*waits, *patience])
    assert code == 0, output
    return max(small_training.losses(tmp_path)), output

  last, output = ended(2)
  assert last == 6 and early in output and "best step 6, of 3" in output
  report = tmp_path / "report"
  told = json.loads((report / "metrics.json").read_text())["summary"]
  assert told["ended_early"] in output and told["best_step"] in output
  assert early in (report / "index.html").read_text().replace("Ended", "ended")
  assert [one.step for one in results.read_all(tmp_path)] == [6]
  # Saved and killed before it was scored.
  path = tmp_path / "checkpoints" / "scores.json"
  scores = json.loads(path.read_text())
  path.write_text(json.dumps({k: scores[k] for k in ("2", "4")}))
  last, output = ended(2)
  assert last == 6 and early in output
  assert json.loads(path.read_text()) == scores
  # And once more, when all is known.
  last, output = ended(2)
  assert last == 6 and early in output
  # More patience goes on, from what was known.
  last, output = ended(3)
  assert last == 8 and "ended early at step 8 of 12" in output


def test_a_figure_that_there_is_not_is_refused_before_training(tmp_path):
  run = tmp_path / "run"
  flags = "--workdir", run, "--checkpoint.best", "lfw/accuracy"
  refused(small_training.call([*SIMPLE, *flags]), "unseen identities/accuracy")
  assert not run.exists()


class Tracker:
  """Notes what it is told, and may fail."""

  def __init__(self, run, told, fails):
    self.known_as, self.told, self.fails = "known", told, fails

  def add(self, step, scalars):
    self.told.append(step)
    if self.fails:
      raise ConnectionError("nobody there")

  def close(self, *, failed):
    self.told.append("failed" if failed else "finished")


@pytest.mark.slow
def test_a_tracker_that_fails_and_a_trace_disturb_no_run(
  tmp_path, begun, people, monkeypatch
):
  run = shutil.copytree(begun, tmp_path / "run")
  told = {"wandb": [], "mlflow": []}
  for name, notes in told.items():
    kind = functools.partial(Tracker, told=notes, fails=name == "wandb")
    monkeypatch.setitem(trackers.KINDS, name, kind)
  monkeypatch.setattr(trackers, "require", lambda names: None)
  flags = "--track", "wandb", "mlflow", "--profile", "5:6"
  code, output = again(run, people, *flags, steps=6)
  assert code == 0, output
  assert output.count("wandb failed (ConnectionError: nobody there)") == 1
  assert told == {"wandb": [5], "mlflow": [5, 6, "finished"]}
  assert [one["step"] for one in history.read(run)] == [1, 2, 3, 4, 5, 6]
  assert len([*(run / "profile").rglob("*.xplane.pb")]) == 1
  # Steps that are gone by: not a reason to stop a run that is started again.
  code, output = again(run, people, "--profile", "5:6", steps=7)
  assert code == 0 and "nothing is traced" in output


@pytest.mark.slow
@pytest.mark.parametrize(
  ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)]
)
def test_a_signal_saves_and_ends_with_its_code(
  tmp_path, people, monkeypatch, number, code
):
  advance = telemetry.Telemetry.advance

  def interrupted(self, step):
    if step == 2:
      os.kill(os.getpid(), number)
    advance(self, step)

  monkeypatch.setattr(telemetry.Telemetry, "advance", interrupted)
  found, output = again(tmp_path / "run", people)
  assert found == code, output
  assert "stopped and saved" in output
  assert checkpoint.Checkpoints(tmp_path / "run" / "checkpoints").steps == [2]
  assert not (tmp_path / "run" / folder.LOCK).exists()


@pytest.mark.slow
def test_a_full_disk_is_one_message_and_the_last_checkpoint_stays(
  tmp_path, begun, people
):
  run = shutil.copytree(begun, tmp_path / "run")
  full = OSError(errno.ENOSPC, "No space left on device")
  with mock.patch.object(
    ocp.training.Checkpointer, "save_async", side_effect=full
  ):
    code, output = again(run, people, steps=6)
  refused((code, output), str(run / "checkpoints"), "No space left on device")
  assert checkpoint.Checkpoints(run / "checkpoints").steps == [4]
  code, output = again(run, people, steps=6)
  assert code == 0 and "resumed at step 4" in output


@pytest.mark.slow
def test_an_image_that_may_not_be_skipped_is_one_message(tmp_path, people):
  other = shutil.copytree(people, tmp_path / "people")
  image = next(next(other.iterdir()).iterdir())
  image.write_bytes(image.read_bytes()[:400])
  flags = "--data.on-error", "raise", "--data.max-bad-share", 1
  found = again(tmp_path / "run", people, "--data.path", other, *flags)
  refused(found, image.name)


@pytest.mark.slow
def test_the_log_has_the_opening_table(begun):
  log = (begun / "train.log").read_text()
  assert log.index("multiply-adds") < log.index("compiled in")
  assert "\x1b" not in log


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
  (tmp_path / "file").write_text("x")
  for place in ("file", "file/run"):
    found = small_training.call([*SIMPLE, "--workdir", tmp_path / place])
    refused(found, f"workdir {tmp_path / place} cannot be written")
