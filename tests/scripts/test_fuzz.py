"""Every reader takes damaged files; and the fuzzer finds what is wrong."""

import os
import re
import subprocess
import sys

import pytest
from helpers import paths

SCRIPTS = paths.ROOT / "scripts"
READERS = [
  *("record_io", "record_io_idx", "record_io_scan", "record_io_lst"),
  *("array_records", "array_records_json", "tfds", "pack_bin", "pack_npz"),
  *("jpeg", "png", "netpbm", "gif", "bmp", "webp", "tiff"),
  *(
    "lfw_lists",
    "protocols",
    "protocol_cfp",
    "splits",
    "templates",
    "landmarks",
  ),
  "dlib",
]

BROKEN = """
import os, time
from fuzz_mutations import Target

KEPT = []

def crash(data):
  os.abort()

def hang(data):
  while True:
    time.sleep(1)

def swell(data):
  KEPT.append(bytearray(os.urandom(1)) * 700 * 2**20)
  KEPT.clear()

def leak(data):
  KEPT.append(os.urandom(2**20))

def surprise(data):
  raise KeyError("surprise")

def refuse(data):
  raise ValueError("no")

def undecodable(data):
  b"\\xff".decode()

def make(name, act):
  def read(folder):
    data = (folder / "a").read_bytes()
    if data != b"fine":
      act(data)
  return Target(name, lambda: [{"a": b"fine"}], read)

ACTS = [crash, hang, swell, leak, surprise, refuse, undecodable]
TARGETS = {act.__name__: make(act.__name__, act) for act in ACTS}
"""


def fuzz(*options, path=""):
  return subprocess.run(
    [sys.executable, SCRIPTS / "fuzz_readers.py", *map(str, options)],
    env={**os.environ, "PYTHONPATH": f"{path}:{SCRIPTS.parent}"},
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_are_refused_or_read(tmp_path, reader):
  options = ("--reader", reader, "--inputs", 500, "--out", tmp_path / "found")
  done = fuzz(*options)
  reports = "\n".join(
    path.read_text() for path in sorted(tmp_path.glob("found/*/*.txt"))
  )
  assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{reports}"


def test_every_reader_is_fuzzed_here(monkeypatch):
  monkeypatch.syspath_prepend(str(SCRIPTS))
  import fuzz_targets

  assert {*fuzz_targets.TARGETS} == {*READERS}


@pytest.mark.parametrize(
  ("act", "said"),
  [
    ("crash", "died of SIGABRT"),
    ("hang", "took longer than 2 s"),
    ("swell", r"took [67]\d\d MiB"),
    ("leak", "memory grew by"),
    ("surprise", "KeyError: 'surprise'"),
    ("undecodable", "UnicodeDecodeError"),
    ("refuse", None),
  ],
)
def test_the_fuzzer_finds_what_is_wrong(tmp_path, act, said):
  (tmp_path / "broken.py").write_text(BROKEN)
  out = tmp_path / "found"
  inputs = 60 if act == "leak" else 3
  seconds = 2 if act == "hang" else 60
  options = ("--targets", "broken", "--inputs", inputs, "--seconds", seconds)
  done = fuzz(*options, "--reader", act, "--out", out, path=tmp_path)
  assert done.returncode == int(said is not None), done.stderr
  reports = sorted((out / act).glob("*.txt")) if out.exists() else []
  assert bool(reports) == (said is not None)
  if said:
    assert re.search(said, reports[0].read_text())
  if act == "surprise":
    # The files of a finding do it again.
    kept = reports[0].with_suffix("")
    again = fuzz("--targets", "broken", "--replay", kept, path=tmp_path)
    assert again.returncode == 1 and "KeyError" in again.stdout
