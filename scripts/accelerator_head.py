"""The head's step by implementation and number of classes, on one device.

First what the machine can do: products of matrices in float32 and bfloat16, and
an update in place. Then, for each number of classes, each implementation's time
as a share of those, with the memory that the compiler and the device tell; at
last as many classes as fit. The compiler is asked before anything is allocated:
what does not fit is left out.

  python scripts/accelerator_head.py --out results
"""

import statistics
import sys
import types
from typing import Any

import accelerator_common as common
import bench_head_forms
import bench_head_plot as report
import jax
import numpy as np

from facejax.runtime import mesh as mesh_lib

PRECISION = "bfloat16"
# From little memory to much, so that each peak is its own.
METHODS = ("sampled", "sparse", "fused", "chunked", "dense")
CLASSES = (100_000, 1_000_000, 10_000_000)
BATCH, DIM = 1024, 512


class Rates:
  """What the machine was measured to do, as `bench_head_plot` wants it."""

  def __init__(self, record: common.Record, case: report.Case):
    self.probes: dict[str, Any] = {}
    for name, count, run in report.probes(case, PRECISION):
      square = len({*name.partition("-")[2].split("x")}) == 1
      if count.get("dtype") != PRECISION and not square:
        continue  # of float32 the large product will do
      with record.attempt(name):
        spent = common.timed(run, **({"rounds": 3, "turn": 0.1} | record.pace))
        unit = "bytes" if "bytes" in count else "operations"
        rate = count[unit] / spent["seconds"]
        record.add(name, **count, **spent, **{f"{unit}_a_second": rate})
        self.probes[f"jax {name}"] = {**count, "wall": spent["rounds"]}

  def shares(self, case: report.Case, name: str, seconds: float):
    """Of the time that products alone take, and that the slower of both does."""
    if {"operations", "bytes"} - {k for p in self.probes.values() for k in p}:
      return {}
    device = jax.devices()[0]
    worker = {"platform": device.platform, "devices": 1}
    about = {"workers": {"jax": worker}, "results": self.probes}
    floors = report.floors(
      {**case._asdict(), **about}, PRECISION, f"jax {name}"
    )
    products, larger, _ = (statistics.median(each) for each in floors)
    return {"of_products": products / seconds, "of_floor": larger / seconds}


class Case:
  """A number of classes: prototypes and momentum, made when first needed."""

  def __init__(self, case: report.Case):
    self.case, self.state, self._count = case, None, 0
    self._mesh = mesh_lib.lay_out(jax.devices()[:1], model=1)
    self._init, self._tx, self._batch = bench_head_forms.make_state(
      case, self._mesh
    )
    self._shapes = jax.eval_shape(self._init)
    self._shardings = bench_head_forms.shardings(self._init, self._mesh)

  def lower(self, name: str, **options: Any):
    """The step of a method, lowered; its state is given away."""
    args = types.SimpleNamespace(saved_bytes=0, precision=PRECISION)
    step = bench_head_forms.make_step(
      name, self.case, self._tx, self._mesh, args, **options
    )
    placed = (self._shardings, *(x.sharding for x in self._batch), None)
    step = jax.jit(
      step,
      donate_argnums=0,
      in_shardings=placed,
      out_shardings=(self._shardings, None),
    )
    return step.lower(self._shapes, *self._batch, np.uint32(0))

  def advance(self, program):
    """Runs a step; the arrays to wait for."""
    if self.state is None:
      init = jax.jit(self._init, out_shardings=self._shardings)
      self.state = jax.block_until_ready(init())
    state, self.state = self.state, None
    self.state, values = program(state, *self._batch, np.uint32(self._count))
    self._count += 1
    return self.state, values


def measure(
  held: Case,
  name: str,
  record: common.Record,
  rates: Rates | None = None,
  **options: Any,
) -> None:
  """Compiles a method, runs it if it fits, and keeps what came of it."""
  label = f"{bench_head_forms.METHODS[name]} {held.case}"
  label += "".join(f" {key} {value}" for key, value in options.items())
  if record.late(label):
    return
  with record.attempt(label):
    about: dict[str, Any] = {**held.case._asdict(), **options}
    if short := too_large(held, name):
      record.add(label, **about, skipped=short)
      return
    program, told = common.compiled(held.lower(name, **options))
    about |= told
    needed = told["arguments"] + told["temporaries"]
    if short := shortage(needed, held):
      record.add(label, **about, skipped=short)
      return
    before = common.peak()
    spent = common.timed(lambda: held.advance(program), **record.pace)
    after = common.peak()
    if rates:
      about |= rates.shares(held.case, name, spent["seconds"])
    record.add(
      label,
      **about,
      **spent,
      peak=after,
      # Else it is that of an earlier method, and this one's is below it.
      peak_is_its_own=after is not None and after != before,
    )


def too_large(held: Case, name: str) -> str:
  """What to say of arrays that exist for certain and have no room; else "".

  Compilers that try kernels out would allocate them.
  """
  classes, batch, dim = held.case
  numbers = 2 * classes * dim
  numbers += classes * dim * (name in ("chunked", "dense"))
  numbers += 2 * classes * batch * (name == "dense")
  return shortage(4 * numbers, held)


def shortage(needed: float, held: Case) -> str:
  """What to say where memory is short; the state itself may be there."""
  state = 8 * held.case.classes * held.case.dim if held.state else 0
  stats = jax.devices()[0].memory_stats()
  return report.shortage(needed - state, stats)


def largest(record: common.Record, rates: Rates) -> None:
  """As many classes as fit, of the fused head: it is filled and timed."""
  fused = [each for each in record.results if each["name"][:5] == "fused"]
  limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
  if limit is None or not fused or "temporaries" not in fused[-1]:
    record.add("as many classes as fit", skipped="no memory of its own")
    return
  # Prototypes and momentum; what a step holds beside them does not grow. The
  # rest is for the batch, programs, and what is not in one piece.
  for share in (0.98, 0.95, 0.9):
    free = share * limit - fused[-1]["temporaries"]
    classes = int(free / (8 * DIM)) // 1000 * 1000
    measure(Case(report.Case(classes, BATCH, DIM)), "fused", record, rates)
    if "skipped" not in record.results[-1]:
      return


def main() -> int:
  args = common.arguments(__doc__, "head")
  record = common.Record("head", args)
  batch, dim = (16, 32) if args.tiny else (BATCH, DIM)
  cases = [
    report.Case(classes, batch, dim)
    for classes in ((500, 2000) if args.tiny else CLASSES)
  ]
  rates = Rates(record, cases[0])
  for case in cases:
    held = Case(case)
    for name in METHODS:
      measure(held, name, record, rates)
    del held
  largest(record, rates)
  return record.finish()


if __name__ == "__main__":
  sys.exit(main())
