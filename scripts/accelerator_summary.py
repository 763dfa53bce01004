"""Keeps the summary of `accelerator_check.sh`: one line a step, then figures.

Imports no JAX, so that it works where that does not.
"""

import argparse
import json
import pathlib
import sys
from typing import Any

from facejax.runtime import whole_files

KILLED = (124, 137)  # what `timeout` says
TAIL = 2000  # characters of a log
TOP = 12  # lines of a profile's table
FIGURES = (
  ("operations_a_second", 1e-12, "{:.1f} TFLOP/s"),
  ("bytes_a_second", 1e-9, "{:.0f} GB/s"),
  ("seconds", 1e3, "{:.3g} ms"),
  ("of_products", 100, "{:.0f} % of the products' rate"),
  ("of_floor", 100, "{:.0f} % of the floor"),
  ("over_fused", 1, "{:.2f} x fused"),
  ("temporaries", 2**-20, "{:.0f} MiB beside the state"),
  ("peak", 2**-30, "peak {:.2f} GiB"),
  ("images_a_second", 1, "{:.0f} images/s"),
  ("pytorch_images_a_second", 1, "PyTorch {:.0f} images/s"),
  ("over_pytorch", 1, "{:.2f} x PyTorch"),
  ("largest", 1, "largest difference {:.2g}"),
)


def read(path: pathlib.Path) -> dict[str, Any]:
  """The object in a file; empty where there is none, or half of one."""
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError):
    return {}


def judged(out: pathlib.Path, args: argparse.Namespace) -> dict[str, Any]:
  """What came of a step that has ended."""
  results = read(out / f"{args.step}.json").get("results", [])
  state = "ok" if args.code == 0 else "failed"
  found = {
    "state": "killed by its limit" if args.code in KILLED else state,
    "seconds": args.seconds,
    "limit": args.limit,
    "code": args.code,
    "results": len(results),
    "skipped": sum("skipped" in each for each in results),
    "errors": [each["name"] for each in results if "error" in each],
  }
  log = out / "logs" / f"{args.step}.txt"
  if args.code and log.exists():
    found["log"] = log.read_text(errors="replace")[-TAIL:]
  return found


def line(result: dict[str, Any]) -> str:
  """A result as people read it."""
  words = [
    form.format(result[key] * factor)
    for key, factor, form in FIGURES
    if isinstance(result.get(key), int | float)
  ]
  counts = result.get("counts", {})
  words += [f"{count} {outcome}" for outcome, count in counts.items()]
  for key in ("skipped", "error"):
    if key in result:
      words.append(f"{key}: {str(result[key]).splitlines()[0][:120]}")
  lines = [f"  {result['name']:44} {', '.join(words)}"]
  lines += [f"    {row}" for row in result.get("table", ())[:TOP]]
  return "\n".join(lines)


def text(out: pathlib.Path, summary: dict[str, Any]) -> str:
  """The summary as text."""
  machine, lines = summary.get("machine") or {}, []
  for key in ("device", "devices", "driver", "cpu", "packages", "commit"):
    if machine.get(key):
      lines.append(f"{key}: {machine[key]}")
  for step, found in summary["steps"].items():
    lines.append(
      f"\n{step}: {found['state']}, {found['seconds']} of {found['limit']} s,"
      f" {found['results']} results, {found['skipped']} skipped,"
      f" {len(found['errors'])} wrong"
    )
    results = read(out / f"{step}.json").get("results", [])
    if step == "tests":  # one a test: those that are not as they should be
      results = [each for each in results if each.get("outcome") != "passed"]
    lines += map(line, results)
  bad = [k for k, v in summary["steps"].items() if v["state"] != "ok"]
  lines.append(
    f"\nnot as it should be: {', '.join(bad)}" if bad else "\nall ran"
  )
  return "\n".join(lines) + "\n"


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  add = parser.add_argument
  add("--out", type=pathlib.Path, required=True)
  add("--begin", action="store_true", help="forget an earlier run")
  add("--step", help="a step that has ended, with --code and so on")
  add("--code", type=int, default=0)
  add("--seconds", type=int, default=0)
  add("--limit", type=int, default=0)
  add("--finish", action="store_true", help="print all; exit 1 if not all ran")
  args = parser.parse_args()
  path = args.out / "summary.json"
  summary = {} if args.begin else read(path)
  summary.setdefault("steps", {})
  if args.step:
    found = summary["steps"][args.step] = judged(args.out, args)
    machine = read(args.out / f"{args.step}.json").get("machine")
    summary["machine"] = summary.get("machine") or machine
    print(f"{args.step}: {found['state']}, {args.seconds} s", flush=True)
  whole_files.write(path, json.dumps(summary, indent=1) + "\n")
  if not args.finish:
    return 0
  told = text(args.out, summary)
  whole_files.write(args.out / "summary.txt", told)
  print(told)
  return int(any(s["state"] != "ok" for s in summary["steps"].values()))


if __name__ == "__main__":
  sys.exit(main())
