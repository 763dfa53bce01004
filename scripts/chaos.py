"""Lets faults happen to real runs, and says what became of each.

  python scripts/chaos.py --out chaos
  python scripts/chaos.py --faults files --rounds 200
  python scripts/chaos.py --faults kill stop error --rounds 10 --seed 7

Runs of a tiny net in one to four processes are killed at random moments (also
while checkpoints are being written), told to stop, starved of disk, made to
fail, and so on; files of checkpoints are truncated, flipped and removed. After
each fault is asked: did everything end in time, with a message that names the
cause? Is there still a whole checkpoint, no older than before? Does the same
command go on to the losses of a run that nothing happened to (in double
precision, to 1e-9)?

Writes OUT/chaos.json and OUT/chaos.md, a row a fault, as soon as each is known.
Exit status 1 if anything was lost, hung or came without a message. Faults of
disks need the right to mount; without it they are left out.
"""

import argparse
import collections
import dataclasses
import functools
import json
import logging
import os
import pathlib
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import chaos_faults
import chaos_files
import chaos_world as world
import rich.progress

from facejax.runtime import json_files, whole_files

# How often each happens where nobody says.
ROUNDS = {
  "files": 100,
  "kill": 60,
  "stop": 12,
  "error": 8,
  "straggler": 3,
  "two_runs": 4,
  "worker": 4,
  "clock": 3,
  "disk_full": 6,
  "read_only": 3,
  "bad_images": 3,
  "bad_batch": 8,
  "hang": 3,
  "no_memory": 2,
}
# Processes of the runs that are killed, in turn.
_COUNTS = (1, 2, 1, 2, 3, 1, 2, 4)


def main() -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    "--faults", nargs="+", choices=[*ROUNDS], default=[*ROUNDS]
  )
  parser.add_argument("--rounds", type=int, help="of each, instead of its own")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument(
    "--heartbeat",
    type=float,
    default=world.HEARTBEAT,
    help="seconds of silence after which a process counts as gone (4); more on"
    " a busy machine",
  )
  parser.add_argument("--out", type=pathlib.Path, help="folder of the results")
  args = parser.parse_args()
  world.HEARTBEAT = args.heartbeat
  # What Orbax says to itself of files that are damaged on purpose.
  logging.getLogger("asyncio").setLevel(logging.CRITICAL)
  outcomes = []
  with tempfile.TemporaryDirectory(prefix="facejax-chaos-") as folder:
    # Compiled once for all.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{folder}/compiled")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    total = sum(args.rounds or ROUNDS[name] for name in args.faults)
    happening = _all(args, pathlib.Path(folder))
    for one in rich.progress.track(happening, "faults", total=total):
      outcomes.append(one)
      mark = "ok " if one.ok else "BAD"
      print(f"[{mark}] {one.fault}: {one.outcome}, {one.seconds:.1f} s")
      if args.out:
        _write(args.out, outcomes)
  bad = [one for one in outcomes if not one.ok]
  print(f"{len(outcomes)} faults, {len(bad)} of them with a bad end")
  return 1 if bad else 0


def _all(
  args: argparse.Namespace, folder: pathlib.Path
) -> Iterator[world.Outcome]:
  """All faults that were asked for, one after the other."""
  calm: dict[int, float] = {}
  if set(args.faults) - {"files"}:
    calm = world.calm(folder / "calm")
  for name in args.faults:
    happen = _faults_of_kind(name, folder / name, calm)
    for k in range(args.rounds or ROUNDS[name]):
      rng = random.Random(f"{args.seed} {name} {k}")
      began = time.monotonic()
      try:
        outcome = happen(k, rng)
      except world.Hang as error:
        outcome = world.Outcome(
          name, f"HANGS: {error}", time.monotonic() - began, ok=False
        )
      if outcome is not None:
        yield outcome


def _faults_of_kind(
  name: str, folder: pathlib.Path, calm: dict[int, float]
) -> Callable[[int, random.Random], world.Outcome | None]:
  """A function of the round and of what is drawn by."""
  folder.mkdir()
  if name == "files":
    files = chaos_files.Files(folder)
    return lambda k, rng: files.damage(rng)
  if name == "kill":
    kinds = {
      count: chaos_faults.Kills(_made(folder / str(count)), calm, count=count)
      for count in set(_COUNTS)
    }
    return lambda k, rng: kinds[_COUNTS[k % len(_COUNTS)]].kill(rng)
  return functools.partial(_once, chaos_faults.FAULTS[name], folder, calm)


def _once(fault, folder, calm, k, rng):
  own = _made(folder / str(k))
  try:
    return fault(own, calm, rng)
  finally:
    shutil.rmtree(own, ignore_errors=True)


def _made(folder: pathlib.Path) -> pathlib.Path:
  folder.mkdir()
  return folder


def _write(out: pathlib.Path, outcomes: list[world.Outcome]) -> None:
  """Writes what is known so far."""
  out.mkdir(parents=True, exist_ok=True)
  about = {
    "machine": f"{os.cpu_count()} cores, {platform.platform()}",
    "command": " ".join(sys.argv),
    "outcomes": [dataclasses.asdict(one) for one in outcomes],
  }
  json_files.write(out / "chaos.json", json.loads(json.dumps(about)))
  whole_files.write(out / "chaos.md", _table(outcomes))


def _table(outcomes: list[world.Outcome]) -> str:
  """Markdown: a row a kind of fault."""
  kinds: dict[str, list[world.Outcome]] = collections.defaultdict(list)
  for one in outcomes:
    kinds[_kind(one.fault)].append(one)
  lines = ["| fault | times | outcome of the last | seconds | bad |"]
  lines.append("| --- | --- | --- | --- | --- |")
  for kind, found in kinds.items():
    seconds = sorted(one.seconds for one in found)
    bad = sum(not one.ok for one in found)
    lines.append(
      f"| {kind} | {len(found)} | {found[-1].outcome.replace('|', '/')}"
      f" | {seconds[len(seconds) // 2]:.1f}, at most {seconds[-1]:.1f} | {bad} |"
    )
  return "\n".join(lines) + "\n"


def _kind(fault: str) -> str:
  """A fault without what was drawn for it."""
  words = fault.split()
  if words[:2] == ["checkpoint", "file"]:
    return "checkpoint file " + " ".join(words[3:])
  return " ".join("N" if word.isdigit() else word for word in words)


if __name__ == "__main__":
  sys.exit(main())
