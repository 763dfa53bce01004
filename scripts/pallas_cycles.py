"""Estimates the time of the head's kernels on a TPU that is not there.

  python scripts/pallas_cycles.py --topology v5e:4x4 --classes 1_000_000

needs libtpu (`pip install "facejax[tpu-plan]"`) and no TPU. Three figures of one
device, none of them measured:

  floor    the four products at the matrix unit's published rate
  pallas   bundles of instructions in the schedule of the compiled kernels, times
           the turns of the loops that they stand in: without waiting for memory,
           which is shown beside them as bytes over the published bandwidth
  fused    cycles that XLA writes on the operations of its own program

The last two are of different kinds: for a plain product of bfloat16
[16384, 512] x [512, 1024] on a v5e XLA writes 1.8 times the floor, while the
schedule of the same program has no more bundles than the floor has cycles. So
their ratio is no measurement; it says whether measuring is worth while.
"""

import argparse
import collections
import math
import os
import pathlib
import re
import tempfile

_BUNDLE = re.compile(r"\s*(?:0x)?[0-9a-f]+\s+(?:\w+\s*)?:\s*([> ]*)\{")
_DIM = 512


def main() -> None:
  """Compiles both and prints the figures."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--topology", default="v5e:4x4")
  parser.add_argument("--classes", type=int, default=1_000_000)
  parser.add_argument("--batch", type=int, default=1024)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    # Read by libtpu when it is loaded.
    os.environ |= {
      "JAX_PLATFORMS": "cpu",
      "LIBTPU_INIT_ARGS": f"--xla_jf_dump_to={folder}"
      " --xla_jf_dump_llo_text=true",
    }
    _, plan, rows = _compile(args, "pallas")
    from facejax.head import kernel_tiles
    from facejax.runtime import program_text

    tiles = kernel_tiles.make_tiles(plan, (rows, _DIM), args.batch)
    kernels = {
      name: _bundles(pathlib.Path(folder), name, tiles)
      for name in ("head_forward", "head_backward")
    }
  text, _, _ = _compile(args, "fused")
  _report(args, rows, kernels, program_text.ProgramText(text).cycles())


def _compile(args: argparse.Namespace, implementation: str) -> tuple:
  """The program's text, its plan, and the rows of a device."""
  from facejax.head import api, memory, shard_plan
  from facejax.runtime import mesh as mesh_lib
  from facejax.runtime import topology

  mesh = mesh_lib.make_mesh(among=topology.devices(args.topology))
  head = api.Head(
    memory.COSFACE,
    args.classes,
    mesh,
    tx=memory.OPTIMIZERS["momentum"],
    implementation=implementation,
    precision="bfloat16",
  )
  text = memory.compile_step(head, dim=_DIM, batch=args.batch).as_text()
  plan = shard_plan.make_plan(head, (head.rows, _DIM), args.batch)
  return text, plan, head.rows // head.shards


def _bundles(folder: pathlib.Path, kernel: str, tiles: object) -> int:
  """Bundles that one core issues in all turns of a kernel."""
  (file,) = (
    path
    for path in folder.glob(f"*{kernel}*final_bundles.txt")
    if "schedule-analysis" not in path.name
  )
  # By the loops that they stand in: none, over tiles, over chunks of examples.
  at = collections.Counter(
    found.group(1).count(">")
    for line in file.read_text().splitlines()
    if (found := _BUNDLE.match(line))
  )
  turns, chunks = tiles.grid[1], tiles.batch // tiles.chunk
  return at[0] + turns * (at[1] + chunks * at[2])


def _report(
  args: argparse.Namespace, rows: int, kernels: dict[str, int], xla: int
) -> None:
  """Prints cycles and the milliseconds that they are."""
  from facejax.runtime import topology

  chip = next(
    c for c in topology.CHIPS if args.topology.startswith(f"{c.name}:")
  )
  clock, each = chip.clock, chip.flops / chip.clock
  one = 2 * args.batch * rows * _DIM / each  # cycles of one product
  # Prototypes once; prototypes and momentum in and out.
  passes = {"head_forward": (1, 1), "head_backward": (3, 4)}
  print(f"{args.topology}, {rows:,} classes a device, batch {args.batch:,}")
  for name, (products, arrays) in passes.items():
    moved = arrays * 4 * rows * _DIM
    print(
      f"  {name:<14}{kernels[name] / 1e6:8.3f} M bundles, floor"
      f" {products * one / 1e6:.3f} M cycles, memory"
      f" {moved / chip.bandwidth * clock / 1e6:.3f} M"
    )
  total = sum(kernels.values())
  lines = {"floor": 4 * one, "pallas": total, "fused, by XLA": xla}
  for name, count in lines.items():
    print(
      f"  {name:<14}{count / 1e6:8.3f} M {count / clock * 1e3:7.2f} ms"
      f" {count / math.ceil(4 * one):5.2f} x floor"
    )


if __name__ == "__main__":
  main()
