"""A program that fails waits for nobody."""

import subprocess
import sys

import pytest
from helpers import compiling, paths

# A thread that Python would wait for at its end.
WAITS = """
import atexit, sys, threading
from facejax.runtime import last_words
def main():
  if sys.argv[1] == "raises":
    raise RuntimeError("an error of its own")
  return int(sys.argv[1])
ended = threading.Event()
if sys.argv[1] == "0":
  ended.set()
threading.Thread(target=ended.wait).start()
print("begun")
last_words.end_by(main)
"""


@pytest.mark.parametrize(("word", "code"), [("0", 0), ("2", 2), ("raises", 1)])
def test_threads_left_behind_are_not_waited_for(word, code):
  done = subprocess.run(
    [sys.executable, "-c", WAITS, word],
    env=compiling.environment() | {"PYTHONPATH": str(paths.ROOT)},
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert done.returncode == code
  assert done.stdout == "begun\n"
  assert ("RuntimeError: an error of its own" in done.stderr) == (
    word == "raises"
  )
