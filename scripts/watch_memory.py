"""Trains for long and watches the resident memory of trainer and workers.

  python scripts/watch_memory.py --steps 5000 --out memory
  python scripts/watch_memory.py -- --config cosface.py:lfw --data.workers 2

Samples the resident set of the training process and of all its children once a
second, after `--skip` of the steps (by then all is compiled and all buffers are
full), and holds the median of the last quarter of the samples against that of
the first. Writes OUT/memory.json and OUT/memory.png. Exit status 1 if any of
them grew by more than `--most` MiB. Everything after `--` goes to facejax.train;
without it, a tiny net on generated faces, read by one worker.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from facejax.runs import history
from facejax.runtime import json_files

TINY = [
  *("--config", "cosface.py", "--model.name", "sphereface4"),
  *("--batch-size", "8", "--data.image-size", "16", "16"),
  *("--data.num-identities", "10", "--data.images-per-identity", "4"),
  *("--model.embedding-dim", "8", "--eval.num-pairs", "20"),
  *("--data.workers", "1", "--log-every", "50", "--checkpoint.every", "250"),
  *("--eval.every", "500", "--optim.learning-rate", "0.001"),
]
_MIB = 2**20


def main() -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--steps", type=int, default=5000)
  add("--skip", type=float, default=0.2, help="share of the steps (0.2)")
  add("--most", type=float, default=16, help="MiB of growth allowed (16)")
  add("--out", type=pathlib.Path, help="folder of the results")
  add("train", nargs="*", help="flags of facejax.train, after --")
  args = parser.parse_args()
  with tempfile.TemporaryDirectory(prefix="facejax-memory-") as folder:
    samples, code = watch(pathlib.Path(folder, "run"), args)
  if code:
    print(f"training ended with {code}")
    return 1
  rows = {role: _growth(values) for role, values in samples.items()}
  for role, row in rows.items():
    print(
      f"{role}: {row['first']:.1f} MiB in the first quarter,"
      f" {row['last']:.1f} MiB in the last ({row['samples']} samples)"
    )
  if args.out:
    args.out.mkdir(parents=True, exist_ok=True)
    about = {"steps": args.steps, "command": " ".join(sys.argv), "roles": rows}
    json_files.write(args.out / "memory.json", about | {"samples": samples})
    _draw(args.out / "memory.png", samples)
  grown = [
    k for k, row in rows.items() if row["last"] - row["first"] > args.most
  ]
  print(f"growing: {', '.join(grown) or 'none'}")
  return 1 if grown else 0


def watch(
  workdir: pathlib.Path, args: argparse.Namespace
) -> tuple[dict[str, list[float]], int]:
  """Trains; MiB by role and second, and the exit code."""
  words = [*(args.train or TINY), "--workdir", workdir, "--steps", args.steps]
  log = workdir.with_suffix(".txt")
  process = subprocess.Popen(
    [sys.executable, "-m", "facejax.train", *map(str, words)],
    stdout=log.open("w"),
    stderr=subprocess.STDOUT,
  )
  samples: dict[str, list[float]] = {}
  shown = 0
  while process.poll() is None:
    time.sleep(1.0)
    step = max((one["step"] for one in history.read(workdir)), default=0)
    if step >= shown + args.steps // 10:
      shown = step
      print(f"step {step}/{args.steps}", file=sys.stderr, flush=True)
    if step < args.skip * args.steps:
      continue
    for role, size in _resident(process.pid):
      samples.setdefault(role, []).append(size / _MIB)
  if process.returncode:
    print(log.read_text()[-2000:])
  return samples, process.returncode


def _resident(pid: int) -> list[tuple[str, int]]:
  """Bytes of a process and of each of its children, by role."""
  # Each child is listed under the thread that started it.
  tasks = pathlib.Path(f"/proc/{pid}/task").glob("*/children")
  found = []
  try:
    children = [int(one) for task in tasks for one in task.read_text().split()]
    pids = [pid, *sorted(children)]
    for k, one in enumerate(pids):
      pages = int(pathlib.Path(f"/proc/{one}/statm").read_text().split()[1])
      role = f"child {k}" if k else "trainer"
      found.append((role, pages * os.sysconf("SC_PAGE_SIZE")))
  except (OSError, IndexError, ValueError):  # it has just ended
    pass
  return found


def _growth(values: list[float]) -> dict[str, float]:
  quarter = max(1, len(values) // 4)
  return {
    "first": statistics.median(values[:quarter]),
    "last": statistics.median(values[-quarter:]),
    "samples": len(values),
  }


def _draw(path: pathlib.Path, samples: dict[str, list[float]]) -> None:
  from matplotlib import figure

  drawing = figure.Figure(figsize=(6, 3), layout="constrained")
  axes = drawing.subplots()
  for role, values in samples.items():
    axes.plot(values, label=role)
  axes.set(xlabel="seconds", ylabel="resident memory (MiB)", ylim=(0, None))
  axes.legend()
  drawing.savefig(path)


if __name__ == "__main__":
  sys.exit(main())
