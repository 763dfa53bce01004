"""Time and memory of the classification head's step, beside what limits them.

  python scripts/bench_head.py --cases 102400x256x512,1024000x128x128
  python scripts/bench_head.py --sweep 12800:819200 --batch 128 --dim 128
  python scripts/bench_head.py --targets

A step is forward, backward and SGD with momentum and weight decay on the
prototypes [C, D], for a batch of B embeddings; a case is written CxBxD. Needs
jax, optax and numpy alone (and PYTHONPATH=. where facejax is not installed);
draws a picture if matplotlib is there. --torch adds PyTorch; --targets runs the
cases with stated targets, PyTorch included.

Methods: dense (all logits), chunked (in blocks; all of the gradient), fused
(the update in the blocks too), fused-saved (keeps the exponentials), sampled
(Partial FC, a tenth of the classes), sparse (exact loss; gradient of the
likeliest classes), alpha (exact: alpha-divergence 1.5, whose softmax gives most
classes 0), fused-bfloat16 and fused-float8 (prototypes and momentum kept so),
fused-float8-sgd (no momentum). PyTorch: Partial FC at rates 0.1 and 1.0, as it
comes and tuned (freed memory is kept, as facejax keeps it on a CPU).

All take turns, --rounds times; PyTorch has processes of its own, which sleep
while others work. So do products of the shapes in the head and of a large
square, and an update in place: the floors, explained below the table.

Memory: temporaries are what XLA's compiled step takes on a device beside what
it is given; PyTorch's, the growth of its process's peak in a first step (Linux).
"""

import argparse
import contextlib
import ctypes
import functools
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import bench_head_forms as forms
import bench_head_plot as report
import bench_head_worker
import jax
import numpy as np

from facejax.runtime import cpu_devices, host_memory
from facejax.runtime import mesh as mesh_lib

COSINE = "of embeddings and own prototypes, as if trained (0: drawn apart)"
TURN = 0.1  # seconds; quicker steps are repeated within a turn
KEEP = str(2**34)  # bytes; freed blocks below this are kept
TUNED = {"MALLOC_MMAP_THRESHOLD_": KEEP, "MALLOC_TRIM_THRESHOLD_": KEEP}


class InJax:
  """The methods in JAX, compiled for one case; alike ones share a state."""

  def __init__(self, case: report.Case, args: argparse.Namespace):
    mesh = mesh_lib.make_mesh(devices=args.devices)

    device = mesh.devices.flat[0]
    self.about = {
      "version": jax.__version__,
      "device": device.device_kind,
      "platform": device.platform,
      "devices": mesh.size,
    }
    self.methods, self.skipped, self._run = {}, {}, {}
    self._states, self._count = {}, 0
    for name in args.methods.split(","):
      kept = forms.kept_by(name)
      init, tx, self._batch = forms.make_state(case, mesh, args.cosine, kept)
      shapes = jax.eval_shape(init)
      shardings = forms.shardings(init, mesh)
      step = jax.jit(
        forms.make_step(name, case, tx, mesh, args),
        donate_argnums=0,
        in_shardings=(shardings, *(x.sharding for x in self._batch), None),
        out_shardings=(shardings, None),
      )
      step = step.lower(shapes, *self._batch, np.uint32(0)).compile()
      self._admit(name, step, device)
      if name in self._run and kept not in self._states:
        self._states[kept] = jax.jit(init, out_shardings=shardings)()
    for name, count, function in report.probes(case, args.precision):
      self.methods[name], self._run[name] = count, function

  def _admit(self, name, step, device):
    """Takes a method if a device has room for it."""
    memory = step.memory_analysis()
    arguments = memory.argument_size_in_bytes
    temporaries = memory.temp_size_in_bytes
    temporaries += memory.output_size_in_bytes - memory.alias_size_in_bytes
    needed = arguments + temporaries
    if short := report.shortage(needed, device.memory_stats()):
      self.skipped[name] = short
    else:
      self.methods[name] = {"temporaries": temporaries, "arguments": arguments}
      kept = forms.kept_by(name)
      self._run[name] = functools.partial(self._advance, step, kept)

  def _advance(self, step, kept):
    count = np.uint32(self._count)
    state = self._states[kept]
    self._states[kept], values = step(state, *self._batch, count)
    self._count += 1
    return values

  def step(self, name: str, repeats: int) -> dict[str, Any]:
    """Seconds a step, by the wall and of all cores."""
    values, wall, cpu = None, time.perf_counter(), time.process_time()
    for _ in range(repeats):
      values = self._run[name]()
    jax.block_until_ready((values, self._states))
    return {
      "wall": (time.perf_counter() - wall) / repeats,
      "cpu": (time.process_time() - cpu) / repeats,
    }

  def close(self) -> None:
    """Frees the state, for the next case."""
    self.__dict__.clear()
    with contextlib.suppress(AttributeError, OSError):
      ctypes.CDLL(None).malloc_trim(0)


class InTorch(bench_head_worker.Worker):
  """PyTorch's Partial FC at both rates, in a process of its own."""

  def __init__(self, case: report.Case, environment: dict[str, str]):
    # Six arrays of each size at the peak, or nearly so.
    needed = 24 * case.classes * (case.dim + case.batch)
    if short := report.shortage(needed):
      raise MemoryError(short)
    options = ["--case", str(case), "--rates", f"{report.RATE},1.0"]
    super().__init__(options, environment)
    self.methods, self.skipped = self.about.pop("methods"), {}


def measure(case: report.Case, args: argparse.Namespace) -> dict[str, Any]:
  """Times all methods of a case in turn."""
  makers: dict[str, Callable[[], InJax | InTorch]] = {}
  makers["jax"] = lambda: InJax(case, args)
  if args.torch or args.targets:
    makers["torch"] = lambda: InTorch(case, {})
    makers["torch-tuned"] = lambda: InTorch(case, TUNED)
  workers, results = {}, {}
  for name, make in makers.items():
    print(f"{case}: preparing {name}", file=sys.stderr, flush=True)
    try:
      worker = workers[name] = make()
    except MemoryError as problem:
      results[f"{name} 1.0"] = {"skipped": str(problem)}
      continue
    for method, reason in worker.skipped.items():
      results[f"{name} {method}"] = {"skipped": reason}
    for method, about in worker.methods.items():
      first = worker.step(method, 1)
      if "growth" in first:
        about["temporaries"] = first["growth"]
      seconds = worker.step(method, 1)["wall"]
      about["repeats"] = min(max(1, round(TURN / seconds)), 100)
      results[f"{name} {method}"] = {**about, "wall": [], "cpu": []}
  for _ in range(args.rounds):
    for key, found in results.items():
      if "skipped" not in found:
        name, method = key.split()
        times = workers[name].step(method, found["repeats"])
        found["wall"].append(times["wall"])
        found["cpu"].append(times["cpu"])
  about = {name: worker.about for name, worker in workers.items()}
  for worker in workers.values():
    worker.close()
  return {**case._asdict(), "workers": about, "results": results}


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--cases", default="", help="CxBxD,CxBxD,...")
  add("--sweep", metavar="MIN:MAX", help="C from MIN to MAX, each 4 times more")
  add("--batch", type=int, default=128, help="B of --sweep (128)")
  add("--dim", type=int, default=128, help="D of --sweep (128)")
  add("--targets", action="store_true", help="the cases with stated targets")
  add("--methods", default=",".join(forms.METHODS), help="some of those above")
  add("--torch", action="store_true", help="PyTorch too")
  add("--saved-bytes", type=int, help="of fused-saved (default: all, 4 B C)")
  add("--precision", choices=("float32", "bfloat16"), default="float32")
  add(
    "--devices",
    type=int,
    default=1,
    help="JAX devices; a CPU is taken for so many (1)",
  )
  add("--cosine", type=float, default=0.0, help=COSINE)
  add("--rounds", type=int, default=7, help="turns of each method (7)")
  add("--out", type=pathlib.Path, default="benchmarks", help="folder")
  args = parser.parse_args()
  unknown = set(args.methods.split(",")) - forms.METHODS.keys()
  if unknown:
    parser.error(
      f"--methods {', '.join(unknown)}: choose from {[*forms.METHODS]}"
    )
  if args.rounds < 2:
    parser.error(f"--rounds {args.rounds}: 2 or more, for a spread")
  try:
    cases = report.parse_cases(args)
  except ValueError as problem:
    parser.error(str(problem))
  host_memory.keep_freed_memory()
  cpu_devices.ask(args.devices)
  found = report.describe(args)
  for case in cases:
    found["cases"].append(measure(case, args))
    print(report.table(found["cases"][-1], found["precision"]), flush=True)
    report.write(found, args.out)
  print(report.LEGEND)


if __name__ == "__main__":
  main()
