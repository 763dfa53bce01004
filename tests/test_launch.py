"""Several processes of one machine: children without JAX, real signals."""

import fcntl
import json
import re
import signal
import subprocess
import sys
import time

import pytest
from helpers import imports

from facejax import launch
from facejax.runs import folder as run_folder

# No test waits so long but one that fails.
LIMIT = 120
WAIT = "\nprint('ready')\nimport time\ntime.sleep(1000)\n"
# Saves and leaves when told to, as facejax.train does.
SAVING = """
import os, signal, sys
def leave(number, frame):
  print("saved", signal.Signals(number).name)
  sys.exit(75 if number == signal.SIGTERM else 130)
signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGINT, leave)
"""
RANK = 'import os, sys\nrank = os.environ["JAX_PROCESS_ID"]\n'


@pytest.fixture
def script(tmp_path):
  def write(text):
    path = tmp_path / "child.py"
    path.write_text(text)
    return path

  return write


@pytest.fixture
def start():
  """Starts the launcher; nothing of it is left after a test that fails."""
  started = []
  # What is ignored stays so, and nohup ignores it for all that it starts.
  before = signal.signal(signal.SIGHUP, signal.SIG_DFL)

  def start(path, *flags, processes=2, words=()):
    flags = ["--processes", processes, *flags, "--", path, *words]
    started.append(
      subprocess.Popen(
        [sys.executable, "-m", "facejax.launch", *map(str, flags)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
    )
    return started[-1]

  yield start
  signal.signal(signal.SIGHUP, before)
  for running in started:
    running.kill()
    running.wait()
    running.stdout.close()
    running.stderr.close()


@pytest.fixture
def run(start):
  return lambda *arguments, **options: finish(start(*arguments, **options))


def finish(running):
  out, error = running.communicate(timeout=LIMIT)
  return running.returncode, out, error


def wait_until_ready(running, count=2):
  for _ in range(count):
    assert running.stdout.readline().endswith("] ready\n")


def lines_of(out, process):
  label = f"[{process}] "
  return [
    line.removeprefix(label)
    for line in out.splitlines()
    if line.startswith(label)
  ]


def test_each_process_knows_which_one_it_is(script, run):
  path = script(
    "import json, os, sys\nprint(json.dumps([sys.argv[1:], dict(os.environ)]))"
  )
  code, out, _ = run(
    path, "--devices-per-process", 4, "--platform", "cpu", words=("--a", "b c")
  )
  assert code == 0
  found = [json.loads(lines_of(out, k)[0]) for k in range(2)]
  addresses = set()
  for k, (words, environment) in enumerate(found):
    assert words == ["--a", "b c"]
    assert environment["JAX_PROCESS_ID"] == str(k)
    assert environment["JAX_NUM_PROCESSES"] == "2"
    assert environment["JAX_NUM_CPU_DEVICES"] == "4"
    assert environment["JAX_PLATFORMS"] == "cpu"
    addresses.add(environment["JAX_COORDINATOR_ADDRESS"])
  assert len(addresses) == 1
  assert re.fullmatch(r"127\.0\.0\.1:\d+", *addresses)


def test_commands_of_facejax_are_known():
  words = ["--", "data", "convert", "--help"]
  assert launch.program(words)[1:] == ["-m", "facejax", *words[1:]]


def test_all_that_they_say_comes_in_order(script, run):
  """More than a pipe holds, on both outputs, without an end of the last line."""
  count = 30_000
  path = script(
    RANK + f"for k in range({count}):\n"
    "  (sys.stderr if k % 3 else sys.stdout).write(f'{k} of {rank}\\n')\n"
    "sys.stdout.write('the last')"
  )
  code, out, _ = run(path)
  assert code == 0 and out.endswith("\n")
  for k in ("0", "1"):
    assert lines_of(out, k) == [
      *(f"{n} of {k}" for n in range(count)),
      "the last",
    ]


def test_one_fault_ends_all(script, run):
  path = script(RANK + "if rank == '1': sys.exit(3)" + WAIT)
  code, _, error = run(path, processes=3)
  assert code == 3
  assert "process 1 ended with exit code 3" in error
  assert "ending processes 0, 2" in error


def test_who_does_not_end_is_killed(script, run):
  path = script(
    RANK + "import signal\n"
    "if rank == '0':\n"
    "  signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "  open(sys.argv[1], 'w').close()\n"
    "else:\n"
    "  while not os.path.exists(sys.argv[1]): pass\n"
    "  os.kill(os.getpid(), signal.SIGSEGV)" + WAIT
  )
  code, _, error = run(path, "--grace", 0.1, words=[path.with_suffix(".deaf")])
  assert code == 128 + signal.SIGSEGV
  assert "process 1 was killed by SIGSEGV" in error
  assert "killing process 0" in error


@pytest.mark.parametrize(
  ("number", "passed", "expected"),
  [
    ("SIGTERM", "SIGTERM", 75),
    ("SIGHUP", "SIGTERM", 75),
    ("SIGINT", "SIGINT", 130),
  ],
)
def test_signals_reach_all(script, number, passed, expected, start):
  running = start(script(SAVING + WAIT), "--restarts", 3)
  wait_until_ready(running)
  running.send_signal(signal.Signals[number])
  code, out, _ = finish(running)
  assert code == expected
  for k in range(2):
    assert lines_of(out, k) == [f"saved {passed}"]


def test_told_to_stop_before_anything_was_begun(script, start):
  """Nobody has set a handler yet: that is no fault."""
  running = start(script(WAIT), "--restarts", 3)
  wait_until_ready(running)
  running.send_signal(signal.SIGTERM)
  assert finish(running)[0] == 75


def test_what_fails_is_started_again(script, tmp_path, run):
  path = script(
    RANK + "seen = f'{sys.argv[1]}.{rank}.'\n"
    "starts = next(n for n in range(9) if not os.path.exists(seen + str(n)))\n"
    "open(seen + str(starts), 'w').close()\n"
    "print('start', starts)\n"
    "if starts == 0: sys.exit(9)\n"
  )
  code, out, error = run(
    path, "--restarts", 3, "--backoff", 0, processes=1, words=[tmp_path / "n"]
  )
  assert code == 0 and lines_of(out, 0) == ["start 0", "start 1"]
  assert "restart 1 of 3" in error and "restart 2" not in error


@pytest.mark.parametrize("planned", [2, 75, 130])
def test_what_was_refused_or_stopped_is_not(script, planned, run):
  path = script(f"import sys\nprint('once')\nsys.exit({planned})")
  code, out, error = run(path, "--restarts", 3, "--backoff", 0, processes=1)
  assert code == planned and lines_of(out, 0) == ["once"]
  assert "restart" not in error


# Saves a step more at each start, up to the number given, and fails.
FAILING = """
import os, sys
folder = os.path.join(sys.argv[2], "checkpoints")
os.makedirs(folder, exist_ok=True)
step = len(os.listdir(folder))
if step < int(sys.argv[3]):
  os.mkdir(os.path.join(folder, str(step)))
print("start")
sys.exit(1)
"""


@pytest.mark.parametrize(("saved", "starts"), [(0, 3), (2, 4), (9, 6)])
def test_a_crash_loop_is_seen(script, tmp_path, saved, starts, run):
  """Two restarts without a new checkpoint; else as often as was allowed."""
  code, out, error = run(
    *(script(FAILING), "--restarts", 5, "--backoff", 0),
    processes=1,
    words=["--workdir", tmp_path / "run", saved],
  )
  assert code == 1 and lines_of(out, 0) == ["start"] * starts
  if saved < 9:
    assert "crash loop" in error and str(tmp_path / "run") in error
  else:
    assert "--restarts 5" in error and "crash loop" not in error


def test_a_crash_loop_is_seen_by_its_time(script, run):
  path = script("print('start')\nraise SystemExit(1)")
  code, out, error = run(path, "--restarts", 9, "--backoff", 0, processes=1)
  assert code == 1 and lines_of(out, 0) == ["start"] * 3
  assert "crash loop" in error


def test_stopped_while_it_waits(script, start):
  running = start(
    script("raise SystemExit(1)"), "--restarts", 9, "--backoff", 250
  )
  assert any("restart 1 of 9 in 250 s" in line for line in running.stderr)
  running.send_signal(signal.SIGTERM)
  assert finish(running)[0] == 75


# Holds a lock for as long as it lives, which a number of it does not tell.
LOCKING = """
import fcntl, sys
lock = open(sys.argv[1] + rank, "w")
fcntl.flock(lock, fcntl.LOCK_EX)
"""


def wait_for_death(tmp_path, count=2):
  deadline = time.monotonic() + LIMIT
  for k in range(count):
    with open(f"{tmp_path / 'lock'}{k}", "w") as lock:
      while True:
        try:
          fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
          break
        except BlockingIOError:
          assert time.monotonic() < deadline, f"process {k} lives"
          time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone can")
def test_a_killed_launcher_leaves_nobody(script, tmp_path, start):
  deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
  running = start(
    script(RANK + LOCKING + deaf + WAIT), words=[tmp_path / "lock"]
  )
  wait_until_ready(running)
  running.kill()
  wait_for_death(tmp_path)
  finish(running)


def test_nobody_reads_on(script, tmp_path, start):
  text = "\nprint('ready')\nwhile True: print('more')\n"
  running = start(script(RANK + LOCKING + text), words=[tmp_path / "lock"])
  running.stdout.readline()
  running.stdout.close()
  assert running.wait(LIMIT) == 141
  assert running.stderr.read() == ""
  wait_for_death(tmp_path)


def test_what_they_leave_behind_is_ended(script, tmp_path, run):
  """A process that a process started, deaf and holding its output open."""
  path = script(
    RANK + "read, write = os.pipe()\n"
    "if os.fork():\n"
    "  os.read(read, 1)\n"
    "  os._exit(0)\n" + LOCKING + "os.write(write, b'.')" + WAIT
  )
  code, out, _ = run(path, processes=1, words=[tmp_path / "lock"])
  assert code == 0 and lines_of(out, 0) == ["ready"]
  wait_for_death(tmp_path, 1)


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ([], "COMMAND is missing: such as train"),
    (["--"], "COMMAND is missing"),
    (["--", "trian"], "did you mean 'train'?"),
    (["--", "launch", "--processes", "2", "train"], "another command"),
    (["nowhere.py"], "there is no script 'nowhere.py'"),
    (["./nowhere"], "there is no script './nowhere'"),
    ([__file__.removesuffix(".py") + ".txt"], "there is no script"),
  ],
)
def test_mistakes(words, message, capsys):
  assert launch.main(["--processes", "2", *words]) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and message in error


def test_a_program_that_may_not_be_run(tmp_path, capsys, run):
  path = tmp_path / "run.sh"
  path.write_text("#!/bin/sh\necho $JAX_PROCESS_ID\n")
  assert launch.main(["--processes", "2", str(path)]) == 2
  assert "chmod +x" in capsys.readouterr().err
  path.chmod(0o700)
  code, out, _ = run(path)
  assert code == 0 and sorted(out.splitlines()) == ["[0] 0", "[1] 1"]


def test_checkpoints_lie_where_runs_have_them():
  assert launch.CHECKPOINTS == run_folder.CHECKPOINTS


def test_it_brings_no_jax():
  imports.assert_without("import facejax.launch", "jax", "numpy", "tyro")
