"""The comparison of meshes of CPU devices runs, each in its own process."""

import json
import os
import subprocess
import sys

import pytest
from helpers import compiling, paths

SCRIPT = paths.ROOT / "scripts" / "bench_devices.py"


@pytest.mark.slow
def test_meshes_take_turns(tmp_path):
  out = tmp_path / "out.json"
  words = ["--cases", "9000x16x32", "--meshes", "2,2x1", "--rounds", "2"]
  done = subprocess.run(
    [sys.executable, SCRIPT, *words, "--json", out],
    env=compiling.environment() | {"PYTHONPATH": os.fspath(paths.ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert "all-gather over model" in done.stdout
  (found,) = json.loads(out.read_text()).values()
  assert [*found] == ["2", "2x1"]
  split, copied = found.values()
  assert split["over first"] == 1
  assert any(each["in_loop"] for each in copied["sent"])
  assert not any(each["in_loop"] for each in split["sent"])
  assert all(len(each["seconds"]) == 2 for each in found.values())
