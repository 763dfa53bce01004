"""What a run writes, shows, and takes back when it resumes."""

import io
import json
import logging
import math
import re

import pytest
import rich
from tensorboardX import proto

from facejax.runs import history
from facejax.training import telemetry


@pytest.fixture(autouse=True)
def restored_logging():
  """Gives the log back as it was, so that other tests can listen to it."""
  root = logging.getLogger("facejax")
  yield
  for handler in root.handlers[:]:
    root.removeHandler(handler)
    handler.close()
  root.propagate = True
  root.setLevel(logging.NOTSET)


@pytest.fixture
def screen(monkeypatch):
  """A terminal of 120 columns that can be read."""
  file = io.StringIO()
  console = rich.console.Console(
    file=file, force_terminal=True, width=120, color_system=None
  )
  monkeypatch.setattr(rich, "_console", console)
  return file


def lines(workdir) -> list[dict]:
  text = (workdir / "metrics.jsonl").read_text()
  assert text.endswith("\n") or not text

  def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")

  return [json.loads(x, parse_constant=refuse) for x in text.splitlines()]


def run(workdir, **options) -> telemetry.Telemetry:
  settings = {"total_steps": 100, "batch_size": 32, "terminal": False}
  return telemetry.Telemetry(workdir, **settings | options)


def test_lines_are_strict_json_on_disk_at_once(tmp_path):
  with run(tmp_path / "new" / "folder") as recorder:
    recorder.advance(1)
    recorder.train(10, {"loss": 2.5, "grad_norm": math.inf, "cos": math.nan})
    recorder.evaluation(10, {"lfw/accuracy": 0.75})
    train, evaluation = lines(tmp_path / "new" / "folder")
  assert (train["step"], train["kind"], train["loss"]) == (10, "train", 2.5)
  assert train["grad_norm"] is None and train["cos"] is None
  assert train["images_per_s"] > 0 and train["eta_s"] >= 0
  assert 0 <= train["input_wait"] <= 1
  assert evaluation["kind"] == "eval" and evaluation["lfw/accuracy"] == 0.75
  assert history.read(tmp_path / "new" / "folder") == [
    train,
    evaluation,
  ]


def test_resume_takes_back_what_came_after_its_checkpoint(tmp_path):
  with run(tmp_path) as recorder:
    for step in (10, 20, 30):
      recorder.train(step, {"loss": step})
      recorder.evaluation(step, {"accuracy": step})
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 31, "kind": "tr')
  assert [x["step"] for x in history.read(tmp_path)][-1] == 30
  with run(tmp_path, start_step=20) as recorder:
    assert [x["step"] for x in lines(tmp_path)] == [10, 10, 20, 20]
    recorder.train(25, {"loss": 1})
  assert [x["step"] for x in lines(tmp_path)] == [10, 10, 20, 20, 25]
  assert [p.name for p in tmp_path.glob("*.partial")] == []
  with run(tmp_path):
    assert lines(tmp_path) == []


def test_unreadable_lines_are_reported(tmp_path, caplog):
  assert history.read(tmp_path) == []
  path = tmp_path / "metrics.jsonl"
  path.write_bytes(
    b'{"step": 1}\nnoise\n[2]\n{"loss": 1}\n{"step": 4}\n\x00\xff'
  )
  with caplog.at_level(logging.WARNING, "facejax"):
    assert history.read(tmp_path) == [{"step": 1}, {"step": 4}]
  assert "[2, 3, 4, 6]" in caplog.text
  caplog.clear()
  path.write_text('{"step": 1}\n{"ste')
  history.read(tmp_path)
  assert not caplog.records


def events(workdir) -> list:
  """Events of all TensorBoard files: length, checksum, event, checksum."""
  found = []
  for path in sorted((workdir / "tensorboard").iterdir()):
    content, at = path.read_bytes(), 0
    while at < len(content):
      size = int.from_bytes(content[at : at + 8], "little")
      event = proto.event_pb2.Event()
      event.ParseFromString(content[at + 12 : at + 12 + size])
      found.append(event)
      at += 16 + size
  return found


def test_tensorboard_files(tmp_path):
  with run(tmp_path, start_step=40) as recorder:
    recorder.train(50, {"loss": 2.5, "cos": math.nan})
    recorder.evaluation(50, {"lfw/accuracy": 0.75})
  scalars = {
    value.tag: (event.step, value.simple_value)
    for event in events(tmp_path)
    for value in event.summary.value
  }
  assert scalars["train/loss"] == (50, 2.5)
  assert scalars["eval/lfw/accuracy"] == (50, 0.75)
  assert "train/cos" not in scalars
  starts = [e.step for e in events(tmp_path) if e.HasField("session_log")]
  assert starts == [41]


def test_plain_lines_when_not_on_a_terminal(tmp_path, capsys):
  telemetry.setup_logging(tmp_path)
  scalars = {"loss": 12.312, "learning_rate": 0.095, "accuracy": 0.0214}
  with run(tmp_path, total_steps=1500, terminal=None) as recorder:
    recorder.advance(100)
    with recorder.waiting(), recorder.paused():
      pass
    recorder.train(120, scalars)
    recorder.evaluation(120, {"lfw/accuracy": 0.5})
  logging.getLogger("facejax.anything").warning("look out")
  train, evaluation, warning = capsys.readouterr().out.splitlines()
  assert train.startswith("step 120/1500  loss 12.31  lr 0.095  acc 0.0214  ")
  assert re.search(r"images/s  wait .*  eta [0-9.]+ s\b", train)
  assert evaluation == "step 120/1500  lfw/accuracy 0.5"
  assert warning == "WARNING: look out"
  log = (tmp_path / "train.log").read_text().splitlines()
  assert [x.split(" INFO ")[-1] for x in log[:2]] == [train, evaluation]
  assert log[2].endswith(" WARNING look out") and log[2][:2] == "20"


def test_bar_on_a_terminal(tmp_path, screen):
  telemetry.setup_logging(tmp_path)
  with run(tmp_path, total_steps=1500, terminal=None) as recorder:
    recorder.advance(100)
    recorder.train(120, {"loss": 12.312, "learning_rate": 0.095, "cos": 0.5})
    recorder.evaluation(120, {"lfw/accuracy": 0.5})
  shown = screen.getvalue()
  assert "step 120/1500" in shown and "loss 12.31  lr 0.095" in shown
  assert "images/s  wait" in shown
  assert "lfw/accuracy 0.5" in shown, "evaluations are printed above the bar"
  assert "cos 0.5" not in shown, "the bar takes the place of the line"
  assert "cos 0.5" in (tmp_path / "train.log").read_text()


def test_setting_up_twice_prints_once(tmp_path, capsys):
  for folder in ("one", "two"):
    log = telemetry.setup_logging(tmp_path / folder, terminal=False)
  log.info("hello")
  assert capsys.readouterr().out == "hello\n"
  assert (tmp_path / "one" / "train.log").read_text() == ""


def test_other_processes_are_quiet(tmp_path, capsys):
  log = telemetry.setup_logging(tmp_path, primary=False)
  with run(tmp_path, primary=False) as recorder:
    recorder.advance(1)
    recorder.train(1, {"loss": 1.0})
    recorder.evaluation(1, {"accuracy": 1.0})
  log.warning("still heard")
  assert list(tmp_path.iterdir()) == []
  assert capsys.readouterr().out == "WARNING: still heard\n"
