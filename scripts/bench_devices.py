"""The head's step with the CPU as one device and as several, in turns.

  python scripts/bench_devices.py --cases 102400x256x512,1024000x128x128
  python scripts/bench_devices.py --cases 102400x1024x512 --meshes 1x8,2x4,4x2,8x1

A case is written CxBxD, a mesh DATAxMODEL or the number of devices alone. Each
mesh has a process of its own, which sleeps while others work; all are of the
same cores. A round is a step of each, and products of the head's shapes in the
first process. Printed are medians over the rounds: milliseconds, the time over
that of the first mesh in the same round, and the share of the products' rate
over 8 B C D operations; then what a device sends in a step.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import bench_head_forms
import bench_head_plot as report
import jax
import numpy as np

from facejax.runtime import cpu_devices, host_memory, program_text
from facejax.runtime import mesh as mesh_lib


class Child:
  """One mesh, in this process: steps when it is told to."""

  def __init__(self, case: report.Case, mesh: jax.sharding.Mesh):
    init, tx, self._batch = bench_head_forms.make_state(case, mesh)
    shardings = bench_head_forms.shardings(init, mesh)
    args = argparse.Namespace(saved_bytes=None, precision="float32")
    step = jax.jit(
      bench_head_forms.make_step("fused", case, tx, mesh, args),
      donate_argnums=0,
      in_shardings=(shardings, *(x.sharding for x in self._batch), None),
      out_shardings=(shardings, None),
    )
    self._state = jax.jit(init, out_shardings=shardings)()
    self._step = step.lower(self._state, *self._batch, np.uint32(0)).compile()
    text = program_text.ProgramText(self._step.as_text() or "")
    self.sent = [vars(one) for one in text.collectives(mesh) if mesh.size > 1]
    self.probes = {
      name: (about["operations"], run)
      for name, about, run in report.probes(case, "float32")
      if "operations" in about
    }

  def run(self) -> None:
    """One step, to its end."""
    done = self._step(self._state, *self._batch, np.uint32(1))
    self._state, _ = jax.block_until_ready(done)

  def rate(self) -> float:
    """Operations a second of the fastest product."""
    return max(
      operations / _seconds(run) for operations, run in self.probes.values()
    )


def _seconds(run: Callable[[], Any]) -> float:
  start = time.perf_counter()
  jax.block_until_ready(run())
  return time.perf_counter() - start


def serve(case: report.Case, shape: tuple[int, int]) -> None:
  """A process of one mesh: answers each line of stdin with a number."""
  host_memory.keep_freed_memory()
  cpu_devices.ask(shape[0] * shape[1])
  child = Child(case, mesh_lib.make_mesh(model=shape[1]))
  child.run()
  child.rate()
  print(json.dumps(child.sent), flush=True)
  for line in sys.stdin:
    told = line.strip()
    value = child.rate() if told == "rate" else _seconds(child.run)
    print(json.dumps(value), flush=True)


class Worker:
  """The process of a mesh, from outside."""

  def __init__(self, case: report.Case, name: str):
    self._process = subprocess.Popen(
      [sys.executable, __file__, "--cases", str(case), "--serve", name],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    self.sent = self._answer()

  def ask(self, what: str) -> float:
    """Seconds of a "step", or the "rate" of products."""
    print(what, file=self._process.stdin, flush=True)
    return self._answer()

  def _answer(self) -> Any:
    assert self._process.stdout is not None
    line = self._process.stdout.readline()
    if not line:
      raise RuntimeError(f"a process ended, status {self._process.wait()}")
    return json.loads(line)

  def close(self) -> None:
    """Ends the process."""
    self._process.communicate()


def measure(
  case: report.Case, names: list[str], rounds: int
) -> dict[str, dict[str, Any]]:
  """All meshes of a case, in turns."""
  workers = {name: Worker(case, name) for name in names}
  first = workers[names[0]]
  turns = []
  for _ in range(rounds):
    rate = first.ask("rate")
    turns.append({n: w.ask("step") for n, w in workers.items()} | {"": rate})
  operations = 8 * case.classes * case.batch * case.dim
  found = {}
  for name, worker in workers.items():
    worker.close()
    found[name] = {
      "ms": 1e3 * statistics.median(t[name] for t in turns),
      "over first": statistics.median(t[name] / t[names[0]] for t in turns),
      "share": statistics.median(operations / t[name] / t[""] for t in turns),
      "seconds": [t[name] for t in turns],
      "sent": worker.sent,
    }
  return found


def shape_of(name: str) -> tuple[int, int]:
  """ "2x4" as (2, 4), "8" as (1, 8)."""
  data, _, model = name.rpartition("x")
  return int(data or 1), int(model)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--cases", required=True, help="CxBxD,CxBxD,...")
  add("--meshes", default="1,2", help="DATAxMODEL or a number, ... (1,2)")
  add("--rounds", type=int, default=7, help="turns of each (7)")
  add("--json", type=pathlib.Path, help="a file for all figures")
  add("--serve", help=argparse.SUPPRESS)
  args = parser.parse_args()
  args.torch = args.targets = args.sweep = False
  cases = report.parse_cases(args)
  if args.serve:
    serve(cases[0], shape_of(args.serve))
    return
  every = {}
  for case in cases:
    found = every[str(case)] = measure(
      case, args.meshes.split(","), args.rounds
    )
    print(f"\n{case}\n{'mesh':8}{'ms':>9}{'/ first':>9}{'share':>8}")
    for name, one in found.items():
      print(
        f"{name:8}{one['ms']:>9.0f}{one['over first']:>9.2f}"
        f"{one['share']:>8.0%}"
      )
      for sent in one["sent"]:
        loop = ", inside the loop" * sent["in_loop"]
        print(
          f"{'':10}{sent['count']:>5} x {sent['kind']} over {sent['axis']},"
          f" {sent['size'] / 2**20:.2f} MiB{loop}",
          flush=True,
        )
    if args.json:
      args.json.write_text(json.dumps(every, indent=1))


if __name__ == "__main__":
  main()
