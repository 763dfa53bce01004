"""Trains every recipe on the same generated faces and compares them.

  python scripts/train_all_losses.py --steps 200
  python scripts/train_all_losses.py --recipes cosface arcface --steps 50

Each recipe runs as users run it, `python -m facejax.train`, in a process of its
own and one after the other. Prints, and writes to --out, a table (Markdown) and
the numbers (JSON): loss at the start and at the end, accuracy and TAR on
identities that no recipe sees, seconds a step. Losses of different recipes have
different units: compare the accuracies. A run that exists already is not
repeated.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time

from facejax.runs import folder, history, metrics_file
from facejax.training import recipe

# Steps whose mean loss is the first and the last one.
_SHARE = 0.1


def train(name: str, arguments: argparse.Namespace) -> pathlib.Path:
  """Runs a recipe and returns its work folder.

  Raises:
    RuntimeError: with the end of the log, if the run fails.
  """
  folder = arguments.out / f"{name}-{arguments.steps}"
  if (folder / "report" / "metrics.json").exists():
    return folder
  command = [
    *(sys.executable, "-m", "facejax.train", "--config", f"{name}.py"),
    *("--steps", str(arguments.steps), "--log-every", "5"),
    *("--eval.every", "0", "--seed", str(arguments.seed)),
    *("--workdir", str(folder), *arguments.flags),
  ]
  done = subprocess.run(command, text=True, capture_output=True, check=False)
  if done.returncode:
    raise RuntimeError(f"{name} failed:\n{(done.stdout + done.stderr)[-2000:]}")
  return folder


def summarise(run: pathlib.Path) -> dict[str, float]:
  """The numbers of one run."""
  lines = [r for r in history.read(run) if r["kind"] == "train"]
  losses = [record["loss"] for record in lines]
  few = max(1, round(_SHARE * len(losses)))
  speeds = [r["images_per_s"] for r in lines if r.get("images_per_s")]
  metrics = next(iter(metrics_file.metrics(run).values()))
  batch_size = (folder.read_config(run) or {})["batch_size"]
  return {
    "first_loss": statistics.mean(losses[:few]),
    "last_loss": statistics.mean(losses[-few:]),
    "accuracy": metrics["accuracy"],
    "accuracy_std": metrics["accuracy_std"],
    # Few pairs do not resolve so small a rate.
    "tar_at_far_1e-2": metrics.get("tar_at_far_1e-2", math.nan),
    "seconds_a_step": batch_size / statistics.median(speeds),
  }


def table(rows: dict[str, dict[str, float]]) -> str:
  """The runs as a Markdown table, best accuracy first."""
  lines = [
    "| recipe | loss, start | end | accuracy, % | TAR at FAR 1e-2, % |"
    " s a step |",
    "| --- | --- | --- | --- | --- | --- |",
  ]
  ordered = sorted(rows.items(), key=lambda item: -item[1]["accuracy"])
  for name, row in ordered:
    lines.append(
      f"| {name} | {row['first_loss']:.2f} | {row['last_loss']:.2f} |"
      f" {100 * row['accuracy']:.1f} ± {100 * row['accuracy_std']:.1f} |"
      f" {100 * row['tar_at_far_1e-2']:.1f} | {row['seconds_a_step']:.2f} |"
    )
  return "\n".join(lines)


def main() -> int:
  """Trains, compares; returns 1 if a loss did not go down."""
  known = [path.stem for path in recipe.installed()]
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--steps", type=int, default=200)
  add("--seed", type=int, default=0)
  # Not those that need another run first.
  alone = [name for name in known if not recipe.load(name).init_from]
  add("--recipes", nargs="+", default=alone, choices=known)
  add("--out", type=pathlib.Path, default=pathlib.Path("runs/all_losses"))
  add("flags", nargs="*", help="after --, further flags of the trainer")
  arguments = parser.parse_args()
  rows, diverged = {}, []
  for name in arguments.recipes:
    started = time.monotonic()
    folder = train(name, arguments)
    rows[name] = row = summarise(folder)
    fell = math.isfinite(row["last_loss"])
    fell = fell and row["last_loss"] < row["first_loss"]
    if not fell:
      diverged.append(name)
    took = time.monotonic() - started
    print(f"{name}: {row['accuracy']:.3f} in {took:.0f} s", flush=True)
  text = table(rows)
  print(f"\n{text}\n")
  arguments.out.mkdir(parents=True, exist_ok=True)
  (arguments.out / "table.md").write_text(text + "\n")
  result = {"steps": arguments.steps, "cpus": os.cpu_count(), "recipes": rows}
  (arguments.out / "table.json").write_text(json.dumps(result, indent=2))
  if diverged:
    print(f"did not go down: {', '.join(diverged)}", file=sys.stderr)
  return 1 if diverged else 0


if __name__ == "__main__":
  sys.exit(main())
