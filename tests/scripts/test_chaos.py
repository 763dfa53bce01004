"""Faults let happen: those of files by the dozen, some of processes."""

import json
import os
import subprocess
import sys

from helpers import compiling, paths


def chaos(*words, timeout):
  return subprocess.run(
    [sys.executable, paths.ROOT / "scripts" / "chaos.py", *map(str, words)],
    env=compiling.environment() | {"PYTHONPATH": str(paths.ROOT)},
    capture_output=True,
    text=True,
    timeout=timeout,
  )


def test_damaged_files_never_pass_silently():
  done = chaos("--faults", "files", "--rounds", 25, timeout=300)
  assert done.returncode == 0, done.stdout
  assert "25 faults, 0 of them with a bad end" in done.stdout


def test_faults_of_processes_and_folders_are_survived(tmp_path):
  words = ["--faults", "kill", "error", "read_only", "--rounds", 2, "--seed", 1]
  words += ["--heartbeat", 10]
  done = chaos(*words, "--out", tmp_path, timeout=900)
  assert done.returncode == 0, done.stdout + done.stderr
  assert "6 faults, 0 of them with a bad end" in done.stdout
  found = json.loads((tmp_path / "chaos.json").read_text())["outcomes"]
  assert len(found) == 6
  assert "SIGKILL" in (tmp_path / "chaos.md").read_text()
  assert os.sep not in found[0]["fault"]
