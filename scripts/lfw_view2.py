"""LFW's View 2 as it is meant: trained on nine folds' people, tested on one.

  FACEJAX_DATA=data python scripts/lfw_view2.py --folds 9

For each fold named, a net is trained on the people of the nine others (those
with two images or more; no pair is looked at), the threshold is chosen on the
5,400 pairs of these, and the fold's 600 pairs are judged by it once. Further
flags go to the training: `-- --epochs 40`. With all ten folds the mean is the
number that the protocol asks for (image-restricted or not, and with outside
data or not, depends on what the net was trained on: here on LFW alone, with
its labels, after an alignment whose detector saw other images).
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

from facejax.data.pairs import lfw


def write_fold(protocol: pathlib.Path, folder: pathlib.Path, fold: int) -> None:
  """Writes people.txt, test.txt and train.txt of one fold."""
  sets = lfw.read_lfw_people(protocol / "people.txt")
  others = [name for k, names in enumerate(sets) if k != fold for name in names]
  lines = (protocol / "pairs.txt").read_text().splitlines()
  folds, size = map(int, lines[0].split())
  parts = [
    lines[1 + 2 * size * k : 1 + 2 * size * (k + 1)] for k in range(folds)
  ]
  tested = parts.pop(fold)
  trained = [line for part in parts for line in part]
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "people.txt").write_text("\n".join(others) + "\n")
  (folder / "test.txt").write_text("\n".join([str(size), *tested]) + "\n")
  head = f"{folds - 1}\t{size}"
  (folder / "train.txt").write_text("\n".join([head, *trained]) + "\n")


def run_fold(args: argparse.Namespace, fold: int) -> float:
  """Trains and tests one fold; returns its accuracy."""
  folder = args.out / f"fold{fold}"
  write_fold(args.data / "lfw_protocol", folder, fold)
  command = [
    *(sys.executable, "-m", "facejax.train", "--config", args.config),
    *("--data.identities", folder / "people.txt"),
    *("--eval.pairs", folder / "test.txt"),
    *("--eval.threshold-pairs", folder / "train.txt"),
    *("--workdir", folder / "run", *args.flags),
  ]
  environment = {**os.environ, "FACEJAX_DATA": str(args.data)}
  subprocess.run(list(map(str, command)), env=environment, check=True)
  report = json.loads((folder / "run/report/metrics.json").read_text())
  metrics = report["results"]["test"]["metrics"]
  return metrics["accuracy_at_given_threshold"]


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  home = pathlib.Path(os.environ.get("FACEJAX_DATA", "data"))
  add("--data", type=pathlib.Path, default=home, help=f"default {home}")
  add("--folds", type=int, nargs="+", default=list(range(10)), help="0 to 9")
  add("--config", default="cosface.py:lfw", help="recipe (cosface.py:lfw)")
  add("--out", type=pathlib.Path, default=pathlib.Path("runs/lfw_view2"))
  add("flags", nargs="*", help="after --: further flags of facejax.train")
  args = parser.parse_args()
  if not all(0 <= fold <= 9 for fold in args.folds):
    parser.error(f"--folds {args.folds}: there are folds 0 to 9")
  return args


def main() -> None:
  args = parse()
  found = {}
  for fold in args.folds:
    found[fold] = run_fold(args, fold)
    print(f"fold {fold}: {found[fold]:.4f} of 600 pairs", flush=True)
  if len(found) > 1:
    values = list(found.values())
    error = statistics.stdev(values) / len(values) ** 0.5
    print(f"mean {statistics.mean(values):.4f} ± {error:.4f} (standard error)")


if __name__ == "__main__":
  main()
