"""Which triplets to train with: every mining rule, several seeds each.

  python scripts/compare_mining.py --rules all semi_hard_hardest hard --seeds 3

Trains `facenet.py` on generated faces (small ones, so that a run takes a minute
or two on two cores) with each rule and seed, one after the other, and prints,
and writes to --out, the mean and the standard deviation over the seeds of what
is reached on people that no run sees. A run that exists is not repeated.
"""

import argparse
import json
import math
import pathlib
import statistics
import sys
from typing import get_args

import train_all_losses

from facejax.losses import triplet
from facejax.runs import history

RULES = get_args(triplet.Mining)
# 32 x 32 pixels, 300 people with 8 images; batches of 16 people with 4.
SIZE = (
  *("--data.num-identities", "300", "--data.images-per-identity", "8"),
  *("--data.image-size", "32", "32", "--model.embedding-dim", "64"),
  *("--data.identities-per-batch", "16", "--data.images-of-identity", "4"),
  *("--batch-size", "64", "--eval.num-pairs", "4000"),
)


def row(folders: list[pathlib.Path]) -> dict[str, float]:
  """Means and deviations over the runs of one rule."""
  runs = [train_all_losses.summarise(folder) for folder in folders]
  active = [
    [r for r in history.read(f) if "active_share" in r][-1] for f in folders
  ]
  found = {"active_share": statistics.mean(r["active_share"] for r in active)}
  for name in ("accuracy", "tar_at_far_1e-2"):
    values = [run[name] for run in runs]
    found[name] = statistics.mean(values)
    found[f"{name}_deviation"] = (
      statistics.stdev(values) if len(values) > 1 else math.nan
    )
  return found


def table(rows: dict[str, dict[str, float]]) -> str:
  """The rules as a Markdown table."""
  lines = [
    "| mining | accuracy, % | TAR at FAR 1e-2, % | active at the end, % |",
    "| --- | --- | --- | --- |",
  ]
  for rule, found in rows.items():
    cells = [
      f"{100 * found[name]:.1f} ± {100 * found[f'{name}_deviation']:.1f}"
      for name in ("accuracy", "tar_at_far_1e-2")
    ]
    share = f"{100 * found['active_share']:.0f}"
    lines.append(f"| {' | '.join([f'`{rule}`', *cells, share])} |")
  return "\n".join(lines)


def main() -> int:
  """Trains and compares."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--rules", nargs="+", default=RULES, choices=RULES)
  add("--seeds", type=int, default=3)
  add("--steps", type=int, default=300)
  add("--out", type=pathlib.Path, default=pathlib.Path("runs/mining"))
  options = parser.parse_args()
  rows = {}
  for rule in options.rules:
    folders = []
    for seed in range(options.seeds):
      run = argparse.Namespace(
        out=options.out / f"{rule}-{seed}",
        steps=options.steps,
        seed=seed,
        flags=[*SIZE, "--loss.mining", rule],
      )
      folders.append(train_all_losses.train("facenet", run))
      print(f"{rule}, seed {seed}: done", file=sys.stderr, flush=True)
    rows[rule] = row(folders)
  text = table(rows)
  print(text)
  (options.out / "table.md").write_text(text + "\n")
  (options.out / "table.json").write_text(json.dumps(rows, indent=2))
  return 0


if __name__ == "__main__":
  sys.exit(main())
