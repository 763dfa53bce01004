"""Says how much memory the head will need, before anything is allocated."""

import argparse
import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, get_args

import jax

from facejax.head import (
  api,
  blocks,
  memory,
  options,
  plan_machine,
  plan_report,
  roofline,
  shard_plan,
  storage,
)
from facejax.runtime import command_flags, command_line, json_files, topology
from facejax.runtime import mesh as mesh_lib

_DESCRIPTION = """Says how much memory the head will need.

The training step of the head is compiled for arrays that do not exist, and the
compiler is asked what one device holds. Beside the chosen implementation stand
the dense head, which writes all logits out, and Partial FC. With --topology the
compiler is that of chips which need not be here; it also says what crosses the
mesh and, of TPUs, how many cycles it expects. That takes minutes, and the chosen
implementation stands alone.

Examples:
  python -m facejax.head.plan --classes 1_000_000
      on the devices of this machine
  python -m facejax.head.plan --classes 29_000_000 --devices 8 --platform gpu \\
      --memory-gib 16
      29 million people on eight GPUs of 16 GiB, from a laptop
  python -m facejax.head.plan --classes 92_000_000 --devices 8 --platform gpu \\
      --storage bfloat16 --optimizer-storage bfloat16 --memory-gib 24
      92 million, prototypes and momentum in bfloat16
  python -m facejax.head.plan --classes 1_000_000_000 --devices 8 --platform gpu \\
      --storage float8 --momentum 0 --memory-gib 80
      a billion, a byte a number, and no momentum
  python -m facejax.head.plan --classes 29_000_000 --topology v5e:4x4 \\
      --precision bfloat16
      by the compiler of sixteen TPUs that are not here; also h100:8
  python -m facejax.head.plan --classes 2_000_000 --devices 4 --memory-gib 24 \\
      --reserve-gib 10 --json plan.json
      leaving 10 GiB to the backbone; the figures also as a file

Exit codes: 0 planned, whether it fits or not; 2 bad input."""


@command_line.command()
def main(arguments: Sequence[str] | None = None) -> int:
  """The command line; returns the exit code."""
  args = parser().parse_args(arguments)
  # Compiling needs none of an accelerator's memory; another program may.
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  file = args.json if isinstance(args.json, pathlib.Path) else None
  if file and not file.parent.is_dir():
    raise FileNotFoundError(f"--json {file}: make its folder first")
  mesh = plan_machine.mesh_of(args)
  figures = plan(args, mesh)
  if args.json is True:
    print(json.dumps(figures, indent=2))
  else:
    print(plan_report.report(figures))
  if file:
    json_files.write(file, figures)
  return 0


def plan(args: argparse.Namespace, mesh: jax.sharding.Mesh) -> dict[str, Any]:
  """All figures; sizes in bytes of one device.

  The chosen implementation, then the dense one and Partial FC.
  """
  platform = mesh_lib.platform(mesh)
  if args.implementation == "pallas" and platform != "tpu":
    raise ValueError(
      "--implementation pallas: its kernels are compiled for TPUs, not for"
      f" {platform}; give a --topology of one, or plan for fused, which holds"
      " about the same"
    )
  storage.check_optimizer(args.optimizer, args.optimizer_storage)
  settings = {name: v for name, v in vars(args).items() if name != "json"}
  # Of another platform; else the head chooses.
  size = args.platform and blocks.block_size(
    batch=args.batch // mesh.shape["data"],
    dim=args.dim * args.centers,
    rows=options.MAX_CLASSES,
    platform=args.platform,
  )
  room = plan_machine.room(args, mesh)
  names: list[api.Implementation] = [args.implementation]
  if not args.topology:
    # Which would take minutes to compile for TPUs.
    names = [*dict.fromkeys((*names, "dense", "partial_fc"))]
  found = {
    name: _figures(name, args, mesh, block_size=size, room=room["free"])
    for name in names
  }
  return {
    "settings": settings | {"devices": mesh.size, "model": mesh.shape["model"]},
    "compiled_for": plan_machine.compiled_for(mesh),
    "block_size": found[args.implementation]["block_size"],
    "room": room,
    "implementations": found,
  }


def _figures(
  name: api.Implementation,
  args: argparse.Namespace,
  mesh: jax.sharding.Mesh,
  *,
  block_size: int | None,
  room: int,
) -> dict[str, Any]:
  """Those of one implementation."""
  # The dense head, to compare with, keeps float32 alone.
  dtypes = args.storage, args.optimizer_storage
  if name == "dense":
    dtypes = "float32", "float32"
  saved = int(args.saved_mib * 2**20) if name == "fused" else 0
  moves_on = args.optimizer == "sgd" and args.momentum > 0
  head = api.Head(
    memory.COSFACE,
    args.classes,
    mesh,
    tx=memory.OPTIMIZERS["momentum" if moves_on else args.optimizer],
    implementation=name,
    rate=args.rate,
    block_size=block_size,
    saved_bytes=saved,
    precision=args.precision,
    centers=args.centers,
    storage=dtypes[0],
    optimizer_storage=dtypes[1],
  )
  # One program of the classes asked for, two larger ones for bytes a class.
  found = memory.estimate(head, dim=args.dim, batch=args.batch)
  growth = memory.growth(
    dataclasses.replace(head, saved_bytes=0), dim=args.dim, batch=args.batch
  )
  shards = head.shards
  chip = topology.chip_of(mesh.devices.flat[0])
  shape = (head.rows, args.dim)
  if head.centers > 1:
    shape = (head.rows, head.centers, args.dim)
  return {
    "block_size": shard_plan.make_plan(head, shape, args.batch).size,
    "dtype": head.storage,
    "state_dtype": head.optimizer_storage,
    "rows": found.rows,
    "buffers": found.buffers,
    "peak": found.total,
    "fits": found.total <= room and not found.refused,
    "refused": found.refused,
    "bytes_per_class": growth.per_class,
    "constant_bytes": growth.constant + saved,
    "classes_that_fit": growth.classes(room - saved, shards=shards),
    "collectives": [dataclasses.asdict(one) for one in found.collectives],
    "seconds": _seconds(head, args, found, chip) if chip else {},
  }


def _seconds(
  head: api.Head,
  args: argparse.Namespace,
  found: memory.Estimate,
  chip: topology.Chip,
) -> dict[str, float]:
  """What a step might take: as the compiler expects, and at the least."""
  state = sum(
    size
    for name, size in found.buffers.items()
    if name.startswith(("prototypes", "optimizer state"))
  )
  least = roofline.floor(
    head, dim=args.dim, batch=args.batch, state_bytes=state, chip=chip
  )
  times = {f"least, {name}": value for name, value in least._asdict().items()}
  if found.cycles:
    times["by the compiler's cycles"] = found.cycles / chip.clock
  return times


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("head.plan", _DESCRIPTION)
  _add_head(parser.add_argument_group("the head").add_argument)
  plan_machine.add_flags(parser.add_argument_group("the machine").add_argument)
  command_flags.json(parser, file=True)
  return parser


def _add_head(add: Callable[..., Any]) -> None:
  """What the head is; `add` is `add_argument`."""
  dtypes = get_args(storage.Storage)
  count = command_line.number(
    int, 1, options.MAX_CLASSES, why="class ids are int32"
  )
  add("--classes", type=count, required=True, help="such as 10_000_000")
  add(
    "--dim", type=command_line.number(int, 1, 65_536), default=512, help="(512)"
  )
  add(
    *("--batch-size", "--batch"),
    dest="batch",
    type=command_line.number(int, 1, 2**20),
    default=1024,
    help="examples a step, on all devices together (1024)",
  )
  add(
    "--centers",
    type=command_line.number(int, 1, 16),
    default=1,
    help="a class (1)",
  )
  optimizers = [name for name in memory.OPTIMIZERS if name != "momentum"]
  add("--optimizer", choices=optimizers, default="sgd", help="(sgd)")
  add(
    "--momentum",
    type=command_line.number(float, 0, 0.9999),
    default=0.9,
    help="of sgd (0.9); with 0 nothing is kept beside the prototypes",
  )
  add("--storage", choices=dtypes, default="float32", help="of prototypes")
  add(
    "--optimizer-storage",
    choices=dtypes,
    default="float32",
    help="of its state",
  )
  add(
    "--implementation",
    choices=[i for i in get_args(api.Implementation) if i != "dense"],
    default="fused",
  )
  add(
    "--rate",
    type=command_line.number(float, 1e-3, 1),
    default=0.1,
    help="share of classes of partial_fc and sparse (0.1)",
  )
  add("--precision", choices=get_args(api.Precision), default="float32")
  add(
    "--saved-mib",
    type=command_line.number(float, 0, 2**20),
    default=0,
    help="room of fused to keep exponentials of the forward pass (0); not"
    " taken where their sum might not fit float32",
  )


if __name__ == "__main__":
  sys.exit(main())
