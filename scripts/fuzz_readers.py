"""Feeds damaged files to every reader and looks for crashes, hangs and leaks.

  python scripts/fuzz_readers.py
  python scripts/fuzz_readers.py --reader record_io --inputs 1000 --seed 7
  python scripts/fuzz_readers.py --replay fuzz_findings/record_io/0-1234

Every input is a small valid file that was damaged at random: bits flipped,
lengths and counts replaced by extreme ones, parts cut out, doubled or taken
from another file. A reader may accept it or refuse it with ValueError (such as
BadImageError) or FileNotFoundError; anything else is a finding, as are a death
of the process, more than the time or the memory allowed, and memory that grows
from input to input. Each finding is kept with its files, to be replayed.

The readers run in a process of their own with a limit on its address space;
input i of a reader depends on the seed and on i alone. Exit status 1 when
anything was found. The readers are listed in `fuzz_targets.py`.
"""

import argparse
import collections
import ctypes
import functools
import gc
import importlib
import json
import logging
import os
import pathlib
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Any

import fuzz_mutations
import rich.console
import rich.progress
import rich.table

MIB = 2**20
# What one input may take beside the program itself, and what all of them
# together may leave behind.
PEAK_LIMIT = 512 * MIB
ADDRESS_LIMIT = 2048 * MIB
GROWTH_LIMIT = 24 * MIB
_WARM_SHARE = 0.2
# In memory, where there is such a folder.
_SCRATCH = next(filter(os.path.isdir, ["/dev/shm"]), None)


def readers(module: str) -> dict[str, fuzz_mutations.Target]:
  return importlib.import_module(module).TARGETS


def status(field: str) -> int:
  """Returns a size of this process in bytes, such as its VmRSS."""
  with open("/proc/self/status", encoding="ascii") as lines:
    for line in lines:
      if line.startswith(field + ":"):
        return 1024 * int(line.split()[1])
  raise ValueError(f"/proc/self/status has no {field}")


def settled_memory() -> int:
  """Returns the resident memory after everything that is free was given back."""
  gc.collect()
  ctypes.CDLL(None).malloc_trim(0)
  return status("VmRSS")


def outcome(
  target: fuzz_mutations.Target, folder: pathlib.Path
) -> tuple[bool, str | None]:
  """Returns whether a reader took its files, and the traceback of a finding."""
  try:
    target.read(folder)
  except (ValueError, FileNotFoundError) as error:
    kind = type(error)
    if kind in (ValueError, FileNotFoundError):
      return False, None
    # Subclasses from elsewhere (UnicodeDecodeError, JSONDecodeError) carry a
    # message that does not name the file.
    ours = kind.__module__.startswith("facejax")
    return False, None if ours else traceback.format_exc()
  except Exception:
    return False, traceback.format_exc()
  return True, None


def work(args: argparse.Namespace) -> None:
  """The child: reads the inputs of one reader and says how it goes."""
  logging.disable()
  # Some libraries print: what the parent is told has a channel of its own.
  reports = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
  os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
  tell = functools.partial(print, file=reports, flush=True)
  target = readers(args.targets)[args.reader]
  folder, kept = pathlib.Path(args.work), args.out / args.reader
  samples = target.samples()
  for files in samples:
    fuzz_mutations.save(files, folder)
    if trouble := outcome(target, folder)[1]:
      raise SystemExit(f"a sample cannot be read: {trouble}")
  limit = status("VmSize") + ADDRESS_LIMIT
  resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
  base = settled_memory()
  warm, peak, slowest, accepted = base, 0, 0.0, 0
  for index in range(args.first, args.inputs):
    tell(json.dumps({"at": index}))
    if index == args.first + int(_WARM_SHARE * (args.inputs - args.first)):
      warm = settled_memory()
    files = fuzz_mutations.damaged(target, samples, args.seed, index)
    fuzz_mutations.save(files, folder)
    before = time.monotonic()
    good, trouble = outcome(target, folder)
    accepted += good
    slowest = max(slowest, time.monotonic() - before)
    used = status("VmHWM") - base
    if used > max(PEAK_LIMIT, peak):
      trouble = trouble or f"took {used // MIB} MiB"
    peak = max(peak, used)
    if trouble:
      fuzz_mutations.keep(kept / f"{args.seed}-{index}", trouble, folder)
      tell(json.dumps({"finding": trouble, "index": index}))
  growth = settled_memory() - warm
  if growth > GROWTH_LIMIT + target.kept * (args.inputs - args.first):
    trouble = f"memory grew by {growth // MIB} MiB over all inputs"
    fuzz_mutations.keep(kept / f"{args.seed}-{args.inputs}", trouble, None)
    tell(json.dumps({"finding": trouble, "index": args.inputs}))
  summary = {"peak": peak, "growth": growth, "slowest": slowest}
  tell(json.dumps({**summary, "accepted": accepted}))


class Run:
  """The parent's view of one reader."""

  def __init__(self, reader: str, args: argparse.Namespace):
    self.reader = reader
    self.args = args
    self.done = 0
    self.findings: list[tuple[int, str]] = []
    self.worst = collections.Counter[str]()
    self.seconds = 0.0

  def __call__(self, advance) -> None:
    """Runs all inputs, in a new process after each that ends it."""
    begin = time.monotonic()
    while self.done < self.args.inputs:
      ending = self._run_child(advance)
      if ending is not None:
        self.findings.append((self.done, ending))
        self.done += 1
    self.seconds = time.monotonic() - begin

  def _run_child(self, advance) -> str | None:
    """Returns what ended the child early, or None."""
    with (
      tempfile.TemporaryDirectory(dir=_SCRATCH) as work_folder,
      tempfile.TemporaryFile() as errors,
    ):
      command = [sys.executable, __file__, "--work", work_folder]
      command += ["--targets", self.args.targets]
      command += ["--out", str(self.args.out)]
      command += ["--reader", self.reader, "--seed", str(self.args.seed)]
      command += ["--first", str(self.done), "--inputs", str(self.args.inputs)]
      with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors
      ) as child:
        ending = self._listen(child, advance)
        child.kill()
      errors.seek(0)
      if ending is None:
        return None
      said = errors.read()[-4000:].decode("utf-8", "backslashreplace")
      ending = f"{ending}\n{said}"
      folder = self.args.out / self.reader / f"{self.args.seed}-{self.done}"
      fuzz_mutations.keep(folder, ending, pathlib.Path(work_folder))
      return ending

  def _listen(self, child: subprocess.Popen, advance) -> str | None:
    output, rest, started = child.stdout.fileno(), b"", False
    with selectors.DefaultSelector() as selector:
      selector.register(output, selectors.EVENT_READ)
      while True:
        # Imports are slow on a busy machine; one input is not.
        patience = self.args.seconds if started else 120.0
        if not selector.select(patience):
          return f"took longer than {patience:.0f} s"
        # Unbuffered, or lines would wait here while the selector sees none.
        text = os.read(output, 65536)
        if not text:
          break
        *lines, rest = (rest + text).split(b"\n")
        for line in lines:
          self._note(json.loads(line), advance)
        started = True
    code = child.wait()
    if code >= 0 and not started:
      return "could not be started"
    if code < 0:
      return f"died of {signal.Signals(-code).name}"
    return f"ended with status {code}" if code else None

  def _note(self, message: dict[str, Any], advance) -> None:
    if "at" in message:
      advance(message["at"] - self.done)
      self.done = message["at"]
    elif "finding" in message:
      self.findings.append((message["index"], message["finding"]))
    else:
      self.done = self.args.inputs
      self.worst |= collections.Counter(message)


def report(runs: list[Run], console: rich.console.Console) -> None:
  table = rich.table.Table(rich.table.Column("reader", no_wrap=True))
  for name in ("inputs", "found", "read", "slowest", "peak", "growth", "per s"):
    table.add_column(name, justify="right")
  for run in runs:
    table.add_row(
      run.reader,
      f"{run.done:,}",
      str(len(run.findings)),
      f"{run.worst['accepted'] / run.args.inputs:.0%}",
      f"{1000 * run.worst['slowest']:.0f} ms",
      f"{run.worst['peak'] / MIB:.0f} MiB",
      f"{run.worst['growth'] / MIB:.1f} MiB",
      f"{run.done / max(run.seconds, 1e-9):.0f}",
    )
  console.print(table)
  for run in runs:
    for index, trouble in run.findings[:5]:
      last = (trouble.strip().splitlines() or ["?"])[-1]
      console.print(f"{run.reader} {run.args.seed}-{index}: {last}")


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--reader", action="append", help="default all")
  parser.add_argument("--inputs", type=int, default=10_000, help="for each")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--seconds", type=float, default=20.0, help="an input")
  parser.add_argument(
    "--out", type=pathlib.Path, default=pathlib.Path("fuzz_findings")
  )
  parser.add_argument("--replay", type=pathlib.Path, help="a finding's folder")
  parser.add_argument(
    "--targets", default="fuzz_targets", help="the module of the readers"
  )
  parser.add_argument("--work", help=argparse.SUPPRESS)
  parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
  return parser.parse_args()


def main() -> int:
  args = parse()
  known = readers(args.targets)
  unknown = {*(args.reader or ())} - known.keys()
  if unknown:
    raise SystemExit(f"{unknown} are no readers; known: {', '.join(known)}")
  if args.work:
    args.reader = args.reader[0]
    work(args)
    return 0
  if args.replay:
    target = known[args.replay.resolve().parent.name]
    _, trouble = outcome(target, args.replay)
    print(trouble or "accepted, or refused as it should be")
    return int(trouble is not None)
  console = rich.console.Console()
  runs = [Run(name, args) for name in args.reader or known]
  with rich.progress.Progress(
    *rich.progress.Progress.get_default_columns(),
    console=console,
    disable=not console.is_terminal,
  ) as progress:
    for run in runs:
      task = progress.add_task(run.reader, total=args.inputs)
      run(lambda steps, task=task: progress.advance(task, steps))
      console.print(f"{run.reader}: {len(run.findings)} findings")
  report(runs, console)
  return int(any(run.findings for run in runs))


if __name__ == "__main__":
  sys.exit(main())
