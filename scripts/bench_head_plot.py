"""Cases, floors, table and picture of `bench_head.py`; of a finished run:

python scripts/bench_head_plot.py benchmarks/bench_head.json
"""

import functools
import importlib.util
import json
import math
import os
import pathlib
import platform
import shlex
import statistics
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

LEGEND = """
Medians over the rounds, with the quartiles of the time; ratios (to PyTorch at
rate 1.0, to the same with its allocator tuned, to dense) and shares are of
times in the same round. Shares, of JAX's rates in the line above a table:
  matmul: of the floor of 8 B C D operations, 2 forward and 6 backward; 6 in all
    where logits are kept (dense, fused-saved). C are the sampled classes
    (sampled), or backward those that get a gradient (sparse; alpha: B).
  max, sum: of the larger, and of the sum, of that and the traffic of 20 C D bytes
    (W forward, W and momentum both ways backward): with overlap and without."""
RATE = 0.1  # share of the classes that are sampled

FULL, TUNED, PART = "torch 1.0", "torch-tuned 1.0", f"torch {RATE}"
EXACT, SAMPLED = ("jax fused", "jax fused-saved"), ("jax sampled",)
# Case: (methods of which the fastest counts, beside what, at most).
TARGETS = {
  (102_400, 256, 512): [
    (EXACT, FULL, 0.36),
    (EXACT, TUNED, 0.65),
    (EXACT, "jax dense", 0.8),
    (SAMPLED, PART, 0.3),
    (EXACT[:1], "matmul floor", 1 / 0.85),
  ],
  (1_024_000, 128, 128): [
    (EXACT, FULL, 0.17),
    (SAMPLED, PART, 0.3),
    (EXACT[:1], "matmul floor", 1 / 0.85),
  ],
}
# Colour-blind safe; PyTorch dashed.
STYLES = {
  "jax dense": ("#D55E00", "-"),
  "jax chunked": ("#E69F00", "-"),
  "jax fused": ("#0072B2", "-"),
  "jax fused-saved": ("#56B4E9", "-"),
  "jax sampled": ("#009E73", "-"),
  "jax sparse": ("#CC79A7", "-"),
  "jax alpha": ("#882255", "-"),
  FULL: ("#000000", "--"),
  TUNED: ("#777777", "--"),
  PART: ("#009E73", "--"),
}


class Case(NamedTuple):
  """Numbers of classes and of examples, and the size of the embeddings."""

  classes: int
  batch: int
  dim: int

  def __str__(self) -> str:
    return "x".join(map(str, self))


def parse_cases(args) -> list[Case]:
  """The cases of the command line; ValueError if they cannot be run."""
  if (args.torch or args.targets) and not importlib.util.find_spec("torch"):
    raise ValueError("--torch and --targets need `pip install torch==2.13.0`")
  cases = [Case(*case) for case in TARGETS if args.targets]
  for text in filter(None, args.cases.split(",")):
    cases.append(Case(*_numbers(text, "x", "1000x32x64")))
  if args.sweep:
    low, high = _numbers(args.sweep, ":", "12800:819200")
    while low <= high:
      cases.append(Case(low, args.batch, args.dim))
      low *= 4
  if not cases:
    raise ValueError("nothing to do: give --cases, --sweep or --targets")
  return cases


def _numbers(text: str, separator: str, example: str) -> list[int]:
  parts = text.split(separator)
  good = all(part.isdigit() and int(part) > 0 for part in parts)
  if not good or len(parts) != len(example.split(separator)):
    raise ValueError(f"{text!r}: write whole numbers above 0, as in {example}")
  return [int(part) for part in parts]


def describe(args) -> dict[str, Any]:
  """Where and how the figures come about; without cases yet."""
  cpuinfo = pathlib.Path("/proc/cpuinfo")
  text = cpuinfo.read_text() if cpuinfo.exists() else ""
  named = text.partition("model name\t: ")[2]
  return {
    "command": shlex.join(["python", "scripts/bench_head.py", *sys.argv[1:]]),
    "cpu": named.partition("\n")[0] or platform.machine(),
    "cores": os.cpu_count(),
    "platform": platform.platform(),
    "precision": args.precision,
    "cases": [],
  }


def shortage(needed: float, device: dict[str, int] | None = None) -> str:
  """What to say where memory is short, on a device or the host; else ""."""
  meminfo, free = pathlib.Path("/proc/meminfo"), math.inf
  if device:
    free = device["bytes_limit"] - device["bytes_in_use"]
  elif meminfo.exists():
    _, _, rest = meminfo.read_text().partition("MemAvailable:")
    free = 1024 * int(rest.split()[0])
  told = f"needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB free"
  return told if needed > free else ""


def probes(case: Case, precision: str):
  """Yields name, what it counts and function of each probe of the machine."""
  cpu = jax.default_backend() == "cpu"
  block, side, length = (2048, 2048, 2**26) if cpu else (65536, 8192, 2**28)
  batch, dim = case.batch, case.dim
  shapes = (block, dim, batch), (block, batch, dim), (batch, block, dim)
  multiply = jax.jit(
    functools.partial(
      jnp.matmul, precision="highest", preferred_element_type=jnp.float32
    )
  )
  for dtype in dict.fromkeys(["float32", precision]):
    for m, k, n in (*shapes, (side, side, side)):
      operands = jnp.ones((m, k), dtype), jnp.ones((k, n), dtype)
      count = {"operations": 2 * m * k * n, "dtype": dtype}
      run = functools.partial(multiply, *operands)
      yield f"{dtype}-{m}x{k}x{n}", count, run
  add = jax.jit(lambda x: x + 1, donate_argnums=0)
  held = [jnp.zeros(length)]

  def update():
    held[0] = add(held[0])
    return held[0]

  yield "update", {"bytes": 8 * length}, update


def fastest(case: dict[str, Any], unit: str, dtype: str | None = None):
  """Name of the fastest probe; its operations or bytes/s in each round."""
  rates = {
    name: [found[unit] / seconds for seconds in found["wall"]]
    for name, found in case["results"].items()
    if unit in found and found.get("dtype") == dtype and name[:3] == "jax"
  }
  return max(rates.items(), key=lambda item: statistics.median(item[1]))


def floors(case: dict[str, Any], precision: str, key: str) -> list[list[float]]:
  """Seconds in each round: matmul floor, larger floor, sum of both."""
  method, about = key.removeprefix("jax "), case["workers"]["jax"]
  classes, batch, dim = case["classes"], case["batch"], case["dim"]
  part = min(classes, RATE * classes + batch)
  forward = part if method == "sampled" else classes
  few = {"sampled": part, "sparse": part, "alpha": batch}
  backward = few.get(method, classes)
  products = 4 if method in ("dense", "fused-saved") else 6
  # Virtual CPU devices share the cores that a probe had all of.
  devices = 1 if about["platform"] == "cpu" else about["devices"]
  operations = (2 * forward + products * backward) * batch * dim / devices
  moved = (4 * forward + 16 * backward) * dim / devices
  matmul = [operations / s for s in fastest(case, "operations", precision)[1]]
  traffic = [moved / speed for speed in fastest(case, "bytes")[1]]
  pairs = list(zip(matmul, traffic, strict=True))
  return [matmul, [max(pair) for pair in pairs], [sum(pair) for pair in pairs]]


def quotient(top: list[float], bottom: list[float]) -> float:
  return statistics.median(a / b for a, b in zip(top, bottom, strict=True))


def table(case: dict[str, Any], precision: str) -> str:
  """Everything measured in one case, as text."""
  results, about = case["results"], case["workers"]["jax"]
  name, speeds = fastest(case, "operations", precision)
  update = statistics.median(fastest(case, "bytes")[1])
  lines = [
    f"\nC {case['classes']:,}  B {case['batch']}  D {case['dim']}  {precision}"
    f"  {about['devices']} x {about['device']}",
    f"matmul {statistics.median(speeds) / 1e9:,.0f} GFLOP/s ({name}), update"
    f" in place {update / 1e9:,.1f} GB/s",
    f"{'method':16}{'ms':>9}{'quartiles':>16}{'/torch':>8}{'/tuned':>8}"
    f"{'/dense':>8}{'temp. MB':>10}{'matmul':>8}{'max':>5}{'sum':>5}",
  ]
  if theirs := results.get("torch matmul"):
    speed = theirs["operations"] / statistics.median(theirs["wall"])
    lines[1] += f"; PyTorch's matmul {speed / 1e9:,.0f} GFLOP/s"
  for key, found in results.items():
    if "skipped" in found:
      lines.append(f"{key:16} skipped: {found['skipped']}")
    elif "temporaries" in found:
      lines.append(_row(case, precision, key))
  return "\n".join([*lines, *_beside_targets(case, precision)])


def _row(case, precision, key):
  results, wall = case["results"], case["results"][key]["wall"]
  low, middle, high = statistics.quantiles(wall, n=4, method="inclusive")
  row = f"{key:16}{1e3 * middle:9.1f}{f'{1e3 * low:.1f}-{1e3 * high:.1f}':>16}"
  for reference in (FULL, TUNED, "jax dense"):
    other = results.get(reference, {}).get("wall")
    row += f"{f'{quotient(wall, other):.3f}' if other else '':>8}"
  memory = results[key]["temporaries"]
  row += f"{'' if memory is None else f'{memory / 1e6:,.1f}':>10}"
  if key.startswith("jax"):
    shares = [quotient(each, wall) for each in floors(case, precision, key)]
    row += "{:8.0%}{:5.0%}{:5.0%}".format(*shares)
  return row


def _beside_targets(case, precision):
  """A line for each target of the case whose methods were measured."""
  known = {key: each.get("wall") for key, each in case["results"].items()}
  sizes = case["classes"], case["batch"], case["dim"]
  for keys, reference, wanted in TARGETS.get(sizes, ()):
    tried = [key for key in keys if known.get(key)]
    best = min(tried, key=lambda key: statistics.median(known[key]), default="")
    other = known.get(reference)
    if best and reference == "matmul floor":
      other = floors(case, precision, best)[0]
    if best and other:
      value = quotient(known[best], other)
      verdict = "reached" if value <= wanted else "MISSED"
      limit = f"{best} <= {wanted:.2f} of {reference}"
      yield f"target: {limit}: {value:.3f}, {verdict}"


def write(found: dict[str, Any], folder: pathlib.Path) -> None:
  """Writes bench_head.json, and bench_head.png where matplotlib is there."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "bench_head.json").write_text(json.dumps(found, indent=1) + "\n")
  if importlib.util.find_spec("matplotlib"):
    draw(found, folder / "bench_head.png")


def draw(found: dict[str, Any], path: pathlib.Path) -> None:
  """Time and memory against the classes, for the most measured B and D."""
  from matplotlib import figure  # an extra: the figures do not need it

  precision, cases = found["precision"], found["cases"]
  batch, dim = statistics.mode((c["batch"], c["dim"]) for c in cases)
  cases = [c for c in cases if (c["batch"], c["dim"]) == (batch, dim)]
  cases.sort(key=lambda case: case["classes"])
  canvas = figure.Figure(figsize=(10, 4), layout="constrained")
  left, right = panels = canvas.subplots(1, 2)
  for key, (color, dashes) in STYLES.items():
    held = [c for c in cases if "wall" in c["results"].get(key, {})]
    classes = [c["classes"] for c in held]
    times = [statistics.median(c["results"][key]["wall"]) for c in held]
    memory = [c["results"][key]["temporaries"] or math.nan for c in held]
    style = {"color": color, "linestyle": dashes, "marker": "."}
    if held:
      left.plot(classes, times, label=key.replace("torch", "PyTorch"), **style)
      right.plot(classes, [each / 1e6 for each in memory], **style)
  style = {"color": "#AAAAAA", "linestyle": ":"}
  classes = [c["classes"] for c in cases]
  floor = (floors(c, precision, "jax fused")[0] for c in cases)
  floor = [statistics.median(each) for each in floor]
  left.plot(classes, floor, label="8 B C D at matmul rate", **style)
  state = [8 * each * dim / 1e6 for each in classes]
  right.plot(classes, state, label="W and momentum", **style)
  labels = "seconds a step", "memory beside W and momentum, MB"
  for axes, label in zip(panels, labels, strict=True):
    axes.set(xscale="log", yscale="log", xlabel="classes", ylabel=label)
    axes.spines[["top", "right"]].set_visible(False)
  right.legend(frameon=False)
  canvas.legend(*left.get_legend_handles_labels(), loc="outside right center")
  device = cases[0]["workers"]["jax"]["device"].replace("cpu", found["cpu"])
  canvas.suptitle(f"B {batch}, D {dim}, {precision}, {device}")
  canvas.savefig(path, dpi=150)


def main() -> None:
  if len(sys.argv) != 2:
    sys.exit(__doc__)
  path = pathlib.Path(sys.argv[1])
  found = json.loads(path.read_text())
  for case in found["cases"]:
    print(table(case, found["precision"]))
  print(LEGEND)
  draw(found, path.with_suffix(".png"))


if __name__ == "__main__":
  main()
