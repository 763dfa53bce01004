"""Several processes train as one, and none is left waiting for another."""

import json
import shutil
import signal

import pytest
from helpers import processes, small_training

from facejax.runs import history

# Of a process that is gone: the others end within twice the heartbeat.
HEARTBEAT = ["--heartbeat", 10]
QUICK = ["--end-timeout", 60, "--start-timeout", 120]


def arguments(workdir, *options, steps=6):
  return [*processes.TINY, "--steps", steps, "--workdir", workdir, *options]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """The losses of one process, uninterrupted."""
  workdir = tmp_path_factory.mktemp("alone") / "run"
  [code], [output] = processes.run(arguments(workdir), count=1, devices=2)
  assert code == 0, output
  return small_training.losses(workdir)


def assert_same_curve(workdir, expected):
  found = small_training.losses(workdir)
  assert found.keys() == expected.keys()
  for step, loss in expected.items():
    assert found[step] == pytest.approx(loss, rel=1e-9)


def recipe(folder, *lines):
  """A recipe of the tiny net that does something besides."""
  path = folder / "faulty.py"
  path.write_text(
    "import os, sys, time\n"
    "from facejax.training import loop, recipe\n"
    'me = os.environ["FACEJAX_TEST_PROCESS"]\n'
    "after = loop.Trainer._after\n"
    + "\n".join(lines)
    + '\ndef get_config(preset=""):\n'
    f'  return recipe.load("{processes.NARROW}")\n'
  )
  return ["--config", path]


def test_stopped_by_one_killed_and_resumed_on_others(tmp_path, alone):
  workdir = tmp_path / "run"
  slow = recipe(
    tmp_path,
    "def patient(self, step, state):",
    "  after(self, step, state)",
    "  time.sleep(0.5)",
    "loop.Trainer._after = patient",
  )
  running = processes.start(arguments(workdir, *slow, *QUICK))
  processes.wait_for_step(workdir, 1, running)
  running[1].send_signal(signal.SIGTERM)
  codes, outputs = processes.finish(running)
  assert codes == [75, 75], outputs
  assert "stopped and saved" in outputs[0]
  steps = sorted(int(p.name) for p in (workdir / "checkpoints").glob("[0-9]*"))
  assert steps
  assert steps[-1] < 6
  # Two processes wrote it, one with two devices goes on.
  codes, outputs = processes.run(arguments(workdir, *slow), count=1, devices=2)
  assert codes == [0], outputs
  assert f"resumed at step {steps[-1]}" in outputs[0]
  assert_same_curve(workdir, alone)


def test_one_writes_and_all_read_what_one_does(tmp_path, alone):
  workdir = tmp_path / "run"
  waits = "--eval.every", 3, "--eval.patience", 9
  codes, outputs = processes.run(arguments(workdir, *waits))
  assert codes == [0, 0], outputs
  assert_same_curve(workdir, alone)
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  assert len(lines) == len(history.read(workdir)) == 8
  assert "best of 2 verifications" in outputs[0]
  # The other one had nothing to warn of.
  assert "step 1/6" in outputs[0]
  assert "step 1/6" not in outputs[1]
  log = workdir / "train.1.log"
  warnings = log.read_text().splitlines() if log.exists() else []
  # But of a busy machine.
  assert [line for line in warnings if "holds the others up" not in line] == []
  environment = json.loads((workdir / "env.json").read_text())
  assert environment["processes"] == 2
  assert not list(workdir.glob("run.lock"))


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_is_named_by_the_other(tmp_path, victim):
  running = processes.start(
    arguments(tmp_path / "run", *QUICK, *HEARTBEAT, steps=100_000)
  )
  processes.wait_for_step(tmp_path / "run", 2, running)
  running[victim].kill()
  codes, outputs = processes.finish(running)
  assert codes[victim] == -signal.SIGKILL
  assert codes[1 - victim] == 76, outputs
  assert f"error: process {victim} (" in outputs[1 - victim]
  assert f"pid {running[victim].pid}): it is gone" in outputs[1 - victim]


def test_an_error_in_one_ends_all_with_its_message(tmp_path):
  faulty = recipe(
    tmp_path,
    "def fails(self, step, state):",
    "  after(self, step, state)",
    '  if me == "1" and step == 2:',
    '    raise RuntimeError("the cat sat on the keyboard")',
    "loop.Trainer._after = fails",
  )
  codes, outputs = processes.run(arguments(tmp_path / "run", *faulty, *QUICK))
  assert codes == [1, 1], outputs
  assert "Traceback" in outputs[1]
  assert "error: process 1 (" in outputs[0]
  assert "the cat sat on the keyboard" in outputs[0]
  assert "the cat sat" in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.parametrize("victim", [0, 1])
def test_an_abort_in_one_ends_all_and_names_it(tmp_path, victim):
  faulty = recipe(
    tmp_path,
    "def aborting(self, step, state):",
    "  after(self, step, state)",
    f'  if step == 2 and me == "{victim}":',
    "    os.abort()",
    "loop.Trainer._after = aborting",
  )
  # It waits for so long for news of another that would be the cause.
  running = processes.start(
    [
      *faulty, "--steps", 4, "--workdir", tmp_path / "run", *QUICK,
      "--heartbeat", 4,
    ],
  )  # fmt: skip
  codes, outputs = processes.finish(running)
  assert codes[1 - victim] == 1, outputs
  assert f"error: process {victim} (" in outputs[1 - victim]
  assert f"pid {running[victim].pid}): it aborted" in outputs[1 - victim]
  # By what it tells the others, or by itself if that takes longer.
  assert codes[victim] in (1, -signal.SIGABRT), outputs


def test_processes_that_differ_are_told_in_what(tmp_path):
  codes, outputs = processes.run(
    arguments(tmp_path / "run", *QUICK),
    each=[[], ["--optim.momentum", "0.5"]],
  )
  assert codes == [2, 2], outputs
  assert "is about to run something else" in outputs[0]
  assert "optim.momentum: 0.5 there, 0.9 in process 0" in outputs[0]
  assert not (tmp_path / "run").exists()


def test_a_mistake_of_one_is_that_of_all(tiny_faces, tmp_path):
  codes, outputs = processes.run(
    arguments(tmp_path / "run", "--data.source", "folder", *QUICK),
    each=[["--data.path", path] for path in (tiny_faces, tmp_path / "none")],
  )
  assert codes == [2, 2], outputs
  assert str(tmp_path / "none") in outputs[0]
  assert "Traceback" not in outputs[0]


def test_folders_that_are_not_shared_are_refused(tmp_path, monkeypatch):
  workdirs = [["--workdir", tmp_path / name] for name in ("a", "b")]
  hasty = recipe(
    tmp_path,
    "from facejax.runs import run_lock",
    "run_lock._SHARED_WITHIN = 0.5",
  )
  codes, outputs = processes.run(
    [*processes.TINY, "--steps", 3, *hasty, *QUICK], each=workdirs
  )
  assert codes == [2, 2], outputs
  assert "must be one folder that all share" in outputs[0]
  assert not (tmp_path / "a").exists()


def test_one_process_scans_the_folder_for_all(tiny_faces, tmp_path):
  # The second one looks for images where nothing is; it is told their names,
  # and finds them under its own root.
  elsewhere = tmp_path / "elsewhere"
  elsewhere.symlink_to(tiny_faces, target_is_directory=True)
  noisy = recipe(
    tmp_path,
    "from facejax.data.stores import folder",
    "if me == '1': folder.ImageFolder = None",
  )
  codes, outputs = processes.run(
    arguments(
      tmp_path / "run", *noisy, "--data.source", "folder", *QUICK, steps=2
    ),
    each=[["--data.path", path] for path in (tiny_faces, elsewhere)],
  )
  assert codes == [0, 0], outputs
  assert "12 of 4 identities" in outputs[0]


def test_who_is_alone_is_told(tmp_path):
  code, output = small_training.call(
    [*small_training.SMALL, "--steps", 1, "--distributed", "on"]
  )
  assert code == 2
  assert "nothing says who the others are" in output


def test_embedding_is_shared(tiny_run, tiny_faces, tmp_path):
  outs = [tmp_path / name for name in ("one.npz", "two.npz")]
  for out, count in zip(outs, (1, 2), strict=True):
    codes, outputs = processes.run(
      [tiny_run, tiny_faces, out, "--batch-size", 2, "--part", 5],
      command=("-m", "facejax.embed"),
      count=count,
    )
    assert codes == [0] * count, outputs
    assert f"{out}: 12 embeddings" in outputs[0]
    assert all("embeddings" not in one for one in outputs[1:])
  assert outs[0].read_bytes() == outs[1].read_bytes()


def test_evaluation_is_shared(tiny_run, tiny_faces, tmp_path):
  # Other tests count what is there.
  run = shutil.copytree(tiny_run, tmp_path / "run")
  results = []
  for count in (1, 2):
    codes, outputs = processes.run(
      [run, "--protocol", "identification", "--path", tiny_faces],
      command=("-m", "facejax.evaluate"),
      count=count,
    )
    assert codes == [0] * count, outputs
    [file] = (run / "report").glob("identification*.json")
    results.append(json.loads(file.read_text()))
    assert all("written" not in one for one in outputs[1:])
  assert results[0]["quantities"] == results[1]["quantities"]
