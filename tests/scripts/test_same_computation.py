"""One computation, whatever the processes: shown by real runs of a tiny net."""

import dataclasses
import json
import subprocess
import sys

import pytest
from helpers import compiling, paths

SCRIPTS = paths.ROOT / "scripts"
NAMES = (
  *("same_computation", "same_computation_runs", "same_computation_table"),
  "chaos_world",
)


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
  monkeypatch.syspath_prepend(str(SCRIPTS))
  yield
  for name in NAMES:
    sys.modules.pop(name, None)


@pytest.fixture
def found():
  """Three steps of two images each."""
  import same_computation_runs as runs

  batches = {step: {0: f"{step}a", 1: f"{step}b"} for step in (1, 2, 3)}
  return runs.Found({1: 3.0, 2: 2.0, 3: 1.0}, batches, seconds=9.0)


def compared(found, expected, **steps):
  import same_computation_table as table

  return table.compare("cosface.py", "2 x 4", found, expected, last=3, **steps)


@pytest.mark.slow
def test_a_tiny_run_is_one_computation(tmp_path):
  words = ["--tiny", "--steps", 12, "--save-every", 3]
  words += ["--work", tmp_path / "work", "--output", tmp_path / "table.json"]
  done = subprocess.run(
    [sys.executable, SCRIPTS / "same_computation.py", *map(str, words)],
    env=compiling.environment() | {"PYTHONPATH": str(paths.ROOT)},
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert "5 runs, 0 of them another computation" in done.stdout
  runs = json.loads((tmp_path / "table.json").read_text())["runs"]
  assert [one["steps"][1] for one in runs[:2] + runs[3:]] == [12] * 4
  # Killed at step 6, or a little after: so it had saved that of 3 at least.
  assert 6 <= runs[2]["steps"][1] <= 8
  assert all(one["steps"][0] in (4, 7) for one in runs[3:])
  assert all(one["same"] and one["images"] for one in runs)


def test_a_difference_of_rounding_is_none(found):
  near = dataclasses.replace(found, losses={1: 3.0, 2: 2.0 + 1e-12, 3: 1.0})
  row = compared(near, found)
  assert row.same and 0 < row.difference < 1e-11
  assert (row.images, row.differing) == (6, 0)


@pytest.mark.parametrize(
  "losses",
  [
    {1: 3.0, 2: 2.0 + 1e-8, 3: 1.0},
    {1: 3.0, 2: None, 3: 1.0},
    {1: 3.0, 2: 2.0},
    {},
  ],
  ids=["another loss", "not finite", "a step is missing", "none"],
)
def test_other_losses_are_told(losses, found):
  row = compared(dataclasses.replace(found, losses=losses), found)
  assert not row.same


@pytest.mark.parametrize(
  ("batch", "differing"),
  [
    ({0: "2b", 1: "2a"}, 2),
    ({0: "2a"}, 1),
    ({0: "2a", 1: "2b", 2: "3a"}, 1),
    ({}, 2),
  ],
  ids=["permuted", "one is missing", "one more", "none"],
)
def test_other_images_are_told(batch, differing, found):
  other = dataclasses.replace(found, batches={**found.batches, 2: batch})
  row = compared(other, found)
  assert row.differing == differing and not row.same


def test_what_goes_on_is_compared_from_there_and_has_not_begun_anew(found):
  later = {step: found.batches[step] for step in (2, 3)}
  gone_on = dataclasses.replace(found, batches=later)
  assert compared(gone_on, found, first=2).same
  assert not compared(found, found, first=2).same


def test_batches_are_put_together_from_what_processes_note(tmp_path):
  import same_computation_runs as runs

  notes = [
    [{"pid": 7}, {"step": 1, "first": 0, "images": ["a", "b"]}],
    [
      *({"pid": 8}, {"step": 1, "first": 2, "images": ["c"]}),
      {"step": 1, "first": 1, "images": ["x"]},
    ],
  ]
  for k, lines in enumerate(notes):
    text = "\n".join(map(json.dumps, lines)) + '\n{"step": 2, "fir'
    (tmp_path / f"{k}.jsonl").write_text(text)
  # Two devices hold another image at one place: that is like none.
  assert runs.batches(tmp_path) == {1: {0: "a", 1: "b or x", 2: "c"}}


def test_the_table_says_what_was_not_there(found, tmp_path):
  import same_computation_table as table

  short = dataclasses.replace(found, losses={1: 3.0})
  table.write(tmp_path / "table.md", [compared(short, found)])
  text = (tmp_path / "table.md").read_text()
  assert "| `cosface.py` | 2 x 4 | 1 to 3: not all | 0.0e+00 | 0 of 6 |" in text


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["--steps", "9"], "--save-every 10, --kill-after 4"),
    (["--kill-after", "48"], "--kill-after from that to 47"),
    (["--work", SCRIPTS], "is not empty"),
  ],
)
def test_what_cannot_be_is_refused(words, message, monkeypatch, capsys):
  import same_computation

  monkeypatch.setattr(sys, "argv", ["same_computation", *map(str, words)])
  with pytest.raises(SystemExit) as leaving:
    same_computation.main()
  assert leaving.value.code == 2
  assert message in capsys.readouterr().err
