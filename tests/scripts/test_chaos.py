"""Faults let happen: those of files by the dozen, one of a process."""

import importlib
import json
import os
import random
import subprocess
import sys

import pytest
from helpers import compiling, paths

FOLDER = paths.ROOT / "scripts"


@pytest.fixture
def scripts(monkeypatch):
  monkeypatch.syspath_prepend(str(FOLDER))
  return importlib.import_module


def test_damaged_files_never_pass_silently(scripts, tmp_path):
  files = scripts("chaos_files").Files(tmp_path)
  for k in range(25):
    outcome = files.damage(random.Random(k))
    assert outcome.ok, outcome


def test_kills_and_errors_are_survived(tmp_path):
  done = subprocess.run(
    [
      *(sys.executable, FOLDER / "chaos.py", "--faults", "kill", "error"),
      *("--rounds", "2", "--seed", "1", "--out", tmp_path),
    ],
    env=compiling.environment()
    | {"PYTHONPATH": str(paths.ROOT), "XLA_FLAGS": ""},
    capture_output=True,
    text=True,
    timeout=900,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert "4 faults, 0 of them with a bad end" in done.stdout
  found = json.loads((tmp_path / "chaos.json").read_text())["outcomes"]
  assert len(found) == 4
  assert "SIGKILL" in (tmp_path / "chaos.md").read_text()
  assert os.sep not in found[0]["fault"]
