"""How a head keeps its prototypes: memory, time and accuracy of each form.

  python scripts/bench_head.py --cases 102400x256x512 --out bench \\
    --methods fused,fused-bfloat16,fused-float8,fused-float8-sgd
  python scripts/plot_head_forms.py bench/bench_head.json runs/*/ \\
    --out docs/head_forms.png

Of the benchmark are the bytes that a class takes, the time of a step over that of
float32 (medians of the ratios within a round), and what a step holds beside. The
runs are told apart by what their configurations say of the head and of their
data, whatever their seeds: CosFace's alone. Each is a point, a bar their mean.
"""

import argparse
import json
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

from matplotlib import figure

from facejax.head import storage

# (storage, optimizer storage, momentum is kept) -> method of the benchmark.
FORMS: dict[str, tuple[storage.Storage, storage.Storage, bool]] = {
  "float32": ("float32", "float32", True),
  "bfloat16": ("bfloat16", "bfloat16", True),
  "float8": ("float8", "float8", True),
  "float8, no momentum": ("float8", "float32", False),
}
METHODS = dict(
  zip(
    FORMS,
    ["fused", "fused-bfloat16", "fused-float8", "fused-float8-sgd"],
    strict=True,
  )
)
COLORS = ("#0072B2", "#56B4E9", "#D55E00", "#E69F00")


def class_bytes(form: str, dim: int) -> int:
  """Of prototypes and momentum."""
  kept, momentum, has_momentum = FORMS[form]
  size = storage.row_bytes(dim, kept)
  return size + has_momentum * storage.row_bytes(dim, momentum)


def form_of(config: dict[str, Any]) -> str | None:
  """Which form a run has; None for another loss or form."""
  momentum = config["optim.head.momentum"]
  if momentum is None:
    momentum = config["optim.momentum"]
  found = (
    config["head.storage"],
    config["head.optimizer_storage"],
    momentum > 0,
  )
  forms = [form for form, each in FORMS.items() if each == found]
  is_cosface = config["loss.name"] == "cosface"
  return forms[0] if forms and is_cosface else None


def accuracies(runs: Sequence[pathlib.Path]) -> dict[str, dict[str, list]]:
  """Accuracies in percent, data -> form -> one a run."""
  found: dict[str, dict[str, list]] = {}
  for run in runs:
    path = run / "report" / "metrics.json"
    if not path.exists():  # not yet at its end
      continue
    page = json.loads(path.read_text())
    form = form_of(page["summary"]["config"])
    if form is None:
      continue
    # The first set of pairs; others choose a threshold.
    for name, result in list(page["results"].items())[:1]:
      each = found.setdefault(name, {form: [] for form in FORMS})
      each[form].append(100 * result["metrics"]["accuracy"])
  return found


def rows(case: dict[str, Any], found: dict[str, dict[str, list]]) -> list[list]:
  """Form, bytes a class, time over float32, MB beside, accuracies."""
  results = case["results"]
  base = results["jax " + METHODS["float32"]]["wall"]
  table = []
  for form, method in METHODS.items():
    one = results["jax " + method]
    ratio = statistics.median(
      a / b for a, b in zip(one["wall"], base, strict=True)
    )
    bytes_ = class_bytes(form, case["dim"])
    held = one["temporaries"] / 1e6
    table.append([form, bytes_, ratio, held, [s[form] for s in found.values()]])
  return table


def fragment(table: list[list], names: Sequence[str]) -> str:
  """The table in Markdown."""
  head = ["", "bytes a class", "time", "held beside, MB", *names]
  lines = [head, ["---"] * len(head)]
  for form, bytes_, ratio, held, series in table:
    each = [
      f"{statistics.mean(s):.2f} ({', '.join(f'{a:.1f}' for a in s)})"
      for s in series
    ]
    lines.append([form, f"{bytes_:,}", f"{ratio:.2f}", f"{held:.1f}", *each])
  return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw(table: list[list], names: Sequence[str], path: pathlib.Path) -> None:
  """A panel for bytes, one for time, one for each kind of run."""
  canvas = figure.Figure(
    figsize=(4 + 3 * len(names), 3.2), layout="constrained"
  )
  panels = canvas.subplots(1, 2 + len(names))
  forms = [row[0].replace(", ", ",\n") for row in table]
  titles = ["bytes a class", "time of a step, float32 = 1", *names]
  for panel, title in zip(panels, titles, strict=True):
    panel.set_title(title, fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params("x", labelrotation=30, labelsize=8)
  for panel, column in zip(panels[:2], (1, 2), strict=True):
    bars = panel.bar(forms, [row[column] for row in table], color=COLORS)
    panel.bar_label(bars, fmt="{:,.4g}", fontsize=8)
  for number, panel in enumerate(panels[2:]):
    for form, row, color in zip(forms, table, COLORS, strict=True):
      values = row[4][number]
      panel.plot([form] * len(values), values, "o", color=color, alpha=0.6)
      panel.plot(form, statistics.mean(values), "_", color=color, markersize=24)
    panel.set_ylabel("accuracy, %", fontsize=8)
  canvas.savefig(path, dpi=150)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("bench", type=pathlib.Path, help="bench_head.json")
  parser.add_argument(
    "runs", type=pathlib.Path, nargs="+", help="their folders"
  )
  parser.add_argument("--out", type=pathlib.Path, default="head_forms.png")
  args = parser.parse_args()
  case = json.loads(args.bench.read_text())["cases"][0]
  found = accuracies(args.runs)
  if not found or any(not s for each in found.values() for s in each.values()):
    parser.error(
      "runs: give at least one of CosFace with each form: " + ", ".join(FORMS)
    )
  table = rows(case, found)
  print(fragment(table, list(found)))
  draw(table, list(found), args.out)
  print(f"{args.out} written")


if __name__ == "__main__":
  main()
