import random
import signal
import subprocess
import sys
import time

import pytest
from helpers import conversion_cases

from facejax.data import convert
from facejax.data.conversions import copying
from facejax.data.stores import folder
from facejax.runtime import whole_files


def test_workers_do_not_change_the_bytes(tmp_path):
  source = conversion_cases.write_faces(tmp_path / "faces", people=20)
  for to in ("array_record", "record_io", "folder"):
    one, two = tmp_path / f"{to}1", tmp_path / f"{to}2"
    flags = ("--to", to, "--shards", "6")
    assert conversion_cases.run(source, one, *flags) == 0
    assert convert.main([*map(str, (source, two, *flags)), "--workers=2"]) == 0
    assert conversion_cases.tree(one) == conversion_cases.tree(two)


KILLED = """
import os, random, signal, sys
from facejax.data import convert
left = int(sys.argv[1])
def deadly(name):
  call = getattr(os, name)
  def counted(*args, **kwargs):
    global left
    left -= 1
    if left == 0:
      os.kill(os.getpid(), signal.SIGKILL)
    return call(*args, **kwargs)
  setattr(os, name, counted)
for name in ("fsync", "replace", "rename", "unlink", "mkdir", "truncate"):
  deadly(name)
sys.exit(convert.main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("to", ["array_record", "record_io", "folder"])
def test_killed_at_any_step_and_run_again_is_the_same(tmp_path, to):
  source = conversion_cases.write_faces(tmp_path / "faces", people=6)
  flags = ("--to", to, "--shards", "3", "--workers", "1")
  whole = tmp_path / "whole"
  assert convert.main([str(source), str(whole), *flags]) == 0
  out = tmp_path / "out"
  words = [sys.executable, "-c", KILLED]
  rng, kills = random.Random(0), 0
  # An attempt that is given more steps gets further than the one before.
  for attempt in range(1, 30):
    steps = str(rng.randint(1, 12 * attempt))
    done = subprocess.run(
      [*words, steps, source, out, *flags], capture_output=True, check=False
    )
    if out.exists():  # as a whole, or not at all
      left = {
        name
        for name in conversion_cases.tree(out)
        if not name.startswith(b".conv")
      }
      assert left == set(conversion_cases.tree(whole))
    if done.returncode == 0:
      break
    assert done.returncode == -signal.SIGKILL, done.stderr
    kills += 1
  assert kills >= 2
  assert conversion_cases.tree(out) == conversion_cases.tree(whole)
  assert not (tmp_path / "out.partial").exists()


@pytest.mark.slow
def test_killed_with_its_workers_at_random_moments(tmp_path):
  source = conversion_cases.write_faces(tmp_path / "faces", people=50)
  whole, out = tmp_path / "whole", tmp_path / "out"
  flags = ("--shards", "16", "--shuffle", "3")
  assert conversion_cases.run(source, whole, *flags) == 0
  module = [sys.executable, "-m", "facejax.data.convert"]
  words = [*module, source, out, *flags, "--workers", "2"]
  partial = tmp_path / "out.partial"
  rng, kills = random.Random(1), 0
  for _ in range(2):
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    done = len(list(partial.glob(".conversion/*.done")))
    while process.poll() is None and not out.exists():
      if len(list(partial.glob(".conversion/*.done"))) > done:
        time.sleep(rng.uniform(0, 0.02))
        process.kill()  # the parent alone: its workers must follow
        break
      time.sleep(0.001)
    kills += process.wait() == -signal.SIGKILL
  assert kills >= 1
  # Finished shards are kept.
  kept = {
    path: path.stat().st_mtime_ns
    for note in partial.glob(".conversion/*.done")
    for path in partial.glob(f"{note.stem}.array_record")
  }
  assert subprocess.run(words, check=False).returncode == 0
  assert conversion_cases.tree(out) == conversion_cases.tree(whole)
  assert kept or not partial.exists()
  for path, written in kept.items():
    assert (out / path.name).stat().st_mtime_ns == written


def test_finished_shards_are_not_written_again(tmp_path, monkeypatch):
  source = conversion_cases.write_faces(tmp_path / "faces")
  files = folder.ImageFolder(source)
  options = {"to": "array_record", "source_kind": "folder", "shards": 4}
  plan = copying.plan(files, **options)
  commit, commits = whole_files.commit, []

  def fail_at_third(draft, path):
    commits.append(path.name)
    if path.name.startswith("images-00002"):
      raise OSError("disk full")
    commit(draft, path)

  monkeypatch.setattr(whole_files, "commit", fail_at_third)
  with pytest.raises(OSError, match="disk full"):
    copying.convert(files, tmp_path / "out", plan)
  assert not (tmp_path / "out").exists()
  monkeypatch.setattr(whole_files, "commit", commit)
  read = []
  encoded = files.encoded
  monkeypatch.setattr(
    files, "encoded", lambda index: read.append(index) or encoded(index)
  )
  assert copying.convert(files, tmp_path / "out", plan)
  assert read == list(range(len(files) // 2, len(files)))
  assert not copying.convert(files, tmp_path / "out", plan)
