"""What the head's step reads and writes in a GPU's memory, without the GPU.

  python scripts/head_traffic.py --classes 1000000 --batch 1024 --dim 512
  python scripts/head_traffic.py --implementation partial_fc --gpu h200
  python scripts/head_traffic.py --storage bfloat16 --json traffic.json

The step (forward, backward, SGD with momentum and weight decay) is compiled for
one H100 or H200 that is not there, and its kernels are read: each operand
counts once as read and each result once as written, times the turns of its
loop; of an array that a kernel takes rows out of, or writes rows into, these
rows. That is what the program asks for: caches, which may keep a part of it
from the memory, do not count, nor does what a kernel reads twice. Nothing is
measured. On the card the compiler also tries several kernels for each product
and keeps the fastest, which may split what is one kernel here.

The time is that of the bytes at the card's stated bandwidth, beside that of
8 B C D operations, the products of the fused head, at its stated rate.

Needs their compiler: pip install 'facejax[gpu-plan]'.
"""

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, get_args

import head_traffic_hlo as hlo
import jax

from facejax.head import api, memory, storage
from facejax.runtime import extras, topology
from facejax.runtime import mesh as mesh_lib

GIB = 2**30


def main(arguments: Sequence[str] | None = None) -> int:
  """The command line; returns the exit code."""
  args = parser().parse_args(arguments)
  try:
    mesh = mesh_lib.make_mesh(among=topology.devices(f"{args.gpu}:1"))
  except extras.MissingPackageError as error:
    print(f"head_traffic: {error}", file=sys.stderr)
    return 2
  figures = measure(args, mesh)
  report(figures)
  if args.json:
    args.json.write_text(json.dumps(figures, indent=2) + "\n")
  return 0


def parser() -> argparse.ArgumentParser:
  """The options."""
  found = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  found.add_argument("--classes", type=int, default=1_000_000)
  found.add_argument("--batch", type=int, default=1024)
  found.add_argument("--dim", type=int, default=512)
  found.add_argument(
    "--storage", choices=get_args(storage.Storage), default="float32",
    help="of prototypes and momentum",
  )  # fmt: skip
  found.add_argument(
    "--implementation",
    choices=("fused", "chunked", "dense", "partial_fc", "sparse"),
    default="fused",
  )
  found.add_argument(
    "--precision", choices=get_args(api.Precision), default="bfloat16"
  )
  found.add_argument(
    "--block-size", type=int, help="classes; default: the rule"
  )
  found.add_argument("--gpu", choices=("h100", "h200"), default="h100")
  found.add_argument("--json", type=pathlib.Path, help="figures as a file")
  found.add_argument(
    "--hlo", type=pathlib.Path, help="the compiled program as a file"
  )
  return found


def measure(
  args: argparse.Namespace, mesh: jax.sharding.Mesh
) -> dict[str, Any]:
  """The figures of one step."""
  gpu = topology.chip_of(mesh.devices.flat[0])
  assert gpu is not None
  head = api.Head(
    memory.COSFACE,
    args.classes,
    mesh,
    tx=memory.OPTIMIZERS["momentum"],
    implementation=args.implementation,
    block_size=args.block_size,
    precision=args.precision,
    storage=args.storage,
    optimizer_storage=args.storage,
  )
  traced = memory.traced_step(head, dim=args.dim, batch=args.batch)
  compiled = traced.lower().compile()
  program = compiled.as_text()
  if args.hlo:
    args.hlo.write_text(program)
  kernels = sorted(hlo.kernels(program), key=lambda kernel: -kernel.total)
  held: Any = compiled.memory_analysis()
  total = sum(kernel.total for kernel in kernels)
  settings = {k: v for k, v in vars(args).items() if k not in ("json", "hlo")}
  return {
    "settings": settings,
    "gpu": gpu.kind,
    "kernels": [kernel._asdict() for kernel in kernels],
    "bytes": total,
    "temporaries": held.temp_size_in_bytes,
    "milliseconds_of_bytes": total / gpu.bandwidth * 1e3,
    "milliseconds_of_products": 8e3
    * args.batch
    * args.classes
    * args.dim
    / gpu.flops,
  }


def report(figures: dict[str, Any]) -> None:
  """Prints kernels that move much, and the sums."""
  print(f"{'kernel':<44}{'runs':>6}{'read':>10}{'written':>10}{'a step':>10}")
  print(f"{'':<50}{'MiB':>10}{'MiB':>10}{'GB':>10}")
  for kernel in figures["kernels"]:
    total = (kernel["read"] + kernel["written"]) * kernel["runs"]
    if total < 1e-3 * figures["bytes"]:
      continue
    print(
      f"{kernel['name'][:43]:<44}{kernel['runs']:>6}"
      f"{kernel['read'] / 2**20:>10.1f}{kernel['written'] / 2**20:>10.1f}"
      f"{total / 1e9:>10.2f}"
    )
  print(
    f"{figures['bytes'] / 1e9:.1f} GB a step on one {figures['gpu']}:"
    f" {figures['milliseconds_of_bytes']:.1f} ms at its bandwidth;"
    f" of 8 B C D operations {figures['milliseconds_of_products']:.1f} ms at its"
    f" rate; temporaries {figures['temporaries'] / 2**20:.0f} MiB."
    " Of the compiler's program, not measured."
  )


if __name__ == "__main__":
  os.environ["JAX_PLATFORMS"] = "cpu"  # the host's own backend
  jax.config.update("jax_platforms", "cpu")
  sys.exit(main())
