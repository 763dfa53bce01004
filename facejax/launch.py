"""Several processes on one machine: python -m facejax.launch -- train ..."""

import argparse
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from facejax import __main__ as front
from facejax.runtime import (
  command_line,
  process_environments,
  processes,
  restarts,
)

_DESCRIPTION = """Runs a command as several processes of this machine.

COMMAND is a command of facejax with its flags, or a script: PATH.py runs with
this Python, any other PATH as it is. Each process is told by JAX's variables
where the first one listens, how many they are and which one it is; together
they train as one process with all devices would. What they say comes out here,
lines of process 1 after [1].

On a CPU each process makes itself --devices-per-process devices. GPUs are dealt
out: one process a GPU with as many processes as GPUs, one for all with one.

When a process ends with a fault the others are ended. SIGTERM and Ctrl-C are
passed on to all, which save and stop. With --restarts the same command starts
again after a fault and goes on from its last checkpoint; not after bad input,
and not in a crash loop: two restarts in a row that left no new checkpoint in
the --workdir of COMMAND or, where none is given, lasted less than a minute.

Examples:
  python -m facejax.launch --processes 2 --devices-per-process 4 -- \\
      train --config cosface.py
      two processes with four CPU devices each
  python -m facejax.launch --processes 8 --restarts 5 -- \\
      train --config cosface.py:ms1mv3_r50 --workdir runs/large
      one process for each of eight GPUs, started again up to five times
  python -m facejax.launch --processes 2 -- my_script.py --its-flag
      a script that calls jax.distributed.initialize itself

On clusters their own launchers do this: docs/scale_out.md, scripts/launch.

Exit codes: 0 all done, 2 bad input, 75 saved and stopped by SIGTERM, 130 by
Ctrl-C; else that of the process that failed first, 128 + N if signal N did."""

# As facejax.runs has it, which would bring JAX; a test compares them.
CHECKPOINTS = "checkpoints"
# EX_TEMPFAIL: saved and told to stop.
_SAVED = os.EX_TEMPFAIL
_PLANNED = (0, _SAVED, command_line.EXIT_STOPPED)


@command_line.command()
def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  args = parser().parse_args(arguments)
  words = program(args.command)
  # Before the first start: nothing half begun.
  _environments(args, port=0)
  again = restarts.Restarts(
    args.restarts, args.backoff, **_progress(args.command)
  )
  with processes.StopSignals() as stop:
    while True:
      started = time.monotonic()
      code = _run(args, words, stop)
      if code in (*_PLANNED, command_line.EXIT_MISTAKE) or stop.requested:
        return code
      try:
        wait = again.after_fault(time.monotonic() - started)
      except restarts.GivenUpError as reason:
        if args.restarts:
          _tell(str(reason))
        return code
      _tell(f"restart {again.count} of {again.most} in {wait:g} s")
      stop.wait(wait)
      if stop.requested:
        return _stopped(stop.requested)


def _run(
  args: argparse.Namespace, words: Sequence[str], stop: processes.StopSignals
) -> int:
  """Starts all processes once; the exit code that stands for theirs."""
  endings = processes.run(
    words,
    _environments(args, port=process_environments.free_port()),
    stop=stop,
    is_fault=lambda code: _is_fault(code, stop.requested),
    grace=args.grace,
    write=_write,
    tell=_tell,
  )
  return _code([one.code for one in endings], stop.requested)


def _is_fault(code: int, asked: signal.Signals | None) -> bool:
  """Whether a process ended as it should not; one told to stop may just end."""
  return code not in _PLANNED and not (asked and code == 128 + asked)


def _code(codes: Sequence[int], asked: signal.Signals | None) -> int:
  """Of several exit codes, in the order of time, the one that says most."""
  faults = [code for code in codes if _is_fault(code, asked)]
  if faults:
    return faults[0]
  if not any(codes):
    return 0
  return _stopped(asked) if asked else next(filter(None, codes))


def _stopped(asked: signal.Signals) -> int:
  return command_line.EXIT_STOPPED if asked == signal.SIGINT else _SAVED


def program(command: Sequence[str]) -> list[str]:
  """What to run for the words after the flags.

  Raises:
    ValueError: if they name no command of facejax.
    FileNotFoundError, PermissionError: if they name a script that is not there,
      or a program that cannot be run.
  """
  words = list(command)
  if words[:1] == ["--"]:
    del words[0]
  if not words:
    raise ValueError("COMMAND is missing: such as train --config cosface.py")
  path = words[0]
  if path.endswith(".py") or os.sep in path:
    if not os.path.isfile(path):
      raise FileNotFoundError(f"there is no script {path!r}")
    if path.endswith(".py"):
      return [sys.executable, *words]
    if not os.access(path, os.X_OK):
      raise PermissionError(f"{path!r} cannot be run: chmod +x it")
    return [os.path.abspath(path), *words[1:]]
  if front.find(words)[0] == "facejax.launch":
    raise ValueError("launch does not launch itself: name another command")
  return [sys.executable, "-m", "facejax", *words]


def _environments(
  args: argparse.Namespace, *, port: int
) -> list[dict[str, str]]:
  return process_environments.environments(
    os.environ,
    processes=args.processes,
    devices=args.devices_per_process,
    platform=args.platform,
    port=port,
  )


def _progress(command: Sequence[str]) -> dict[str, Any]:
  """How the restarts see progress: by the checkpoints of the --workdir."""
  finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
  finder.add_argument("--workdir")
  workdir = finder.parse_known_args([w for w in command if w != "--"])[
    0
  ].workdir
  if workdir is None:
    return {}
  folder = pathlib.Path(workdir, CHECKPOINTS)
  return {"newest": _newest(folder), "what": f"checkpoint in {folder}"}


def _newest(folder: pathlib.Path) -> Callable[[], int]:
  def newest() -> int:
    names = os.listdir(folder) if folder.is_dir() else []
    return max((int(name) for name in names if name.isdecimal()), default=-1)

  return newest


def _write(lines: bytes) -> None:
  if lines:
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()


def _tell(text: str) -> None:
  print(f"launch: {text}", file=sys.stderr, flush=True)


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("launch", _DESCRIPTION)
  add = parser.add_argument
  count: Any = command_line.number(int, 1, 4096)
  add("--processes", metavar="N", type=count, required=True, help="how many")
  add(
    "--devices-per-process",
    metavar="K",
    type=count,
    help="CPU devices or GPUs of each (CPU: as JAX decides; GPUs: an even share)",
  )
  add(
    "--platform",
    choices=process_environments.PLATFORMS,
    default="auto",
    help="auto: NVIDIA GPUs where there are any, else what JAX finds",
  )
  add(
    "--restarts",
    metavar="K",
    type=command_line.number(int, 0),
    default=0,
    help="how often to start again after a fault (0)",
  )
  seconds: Any = command_line.number(float, 0, 86_400)
  add(
    "--backoff",
    metavar="SECONDS",
    type=seconds,
    default=5.0,
    help="before the first restart; doubled each time, up to 5 minutes (5)",
  )
  add(
    "--grace",
    metavar="SECONDS",
    type=seconds,
    default=20.0,
    help="after a fault, from SIGTERM to SIGKILL for the others (20)",
  )
  add(
    "command",
    metavar="COMMAND",
    nargs=argparse.REMAINDER,
    help="-- and what to run, with its flags",
  )
  return parser


if __name__ == "__main__":
  sys.exit(main())
