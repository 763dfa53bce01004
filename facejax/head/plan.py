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

from facejax.head import api, blocks, memory, options, plan_report, storage
from facejax.runtime import command_flags, command_line, json_files

_DESCRIPTION = """Says how much memory the head will need.

The training step of the head is compiled for arrays that do not exist, and the
compiler is asked what one device holds. Beside the chosen implementation stand
the dense head, which writes all logits out, and Partial FC.

Examples:
  python -m facejax.head.plan --classes 1_000_000
      on the devices of this machine
  python -m facejax.head.plan --classes 29_000_000 --devices 8 --platform gpu \\
      --memory-gib 16
      29 million people on eight GPUs of 16 GiB, from a laptop
  python -m facejax.head.plan --classes 92_000_000 --devices 8 --platform gpu \\
      --storage bfloat16 --optimizer-storage bfloat16 --memory-gib 24
      92 million, prototypes and momentum in bfloat16
  python -m facejax.head.plan --classes 2_000_000 --devices 4 --memory-gib 24 \\
      --reserve-gib 10 --json plan.json
      leaving 10 GiB to the backbone; the figures also as a file

Exit codes: 0 planned, whether it fits or not; 2 bad input."""

_GIB = 2**30


@command_line.command()
def main(arguments: Sequence[str] | None = None) -> int:
  """The command line; returns the exit code."""
  args = parser().parse_args(arguments)
  # Compiling needs none of an accelerator's memory; another program may.
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  file = args.json if isinstance(args.json, pathlib.Path) else None
  if file and not file.parent.is_dir():
    raise FileNotFoundError(f"--json {file}: make its folder first")
  mesh = memory.make_mesh(devices=args.devices, model=args.model)
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
  device = mesh.devices.flat[0]
  if args.implementation == "pallas" and device.platform != "tpu":
    raise ValueError(
      "--implementation pallas: its kernels are compiled for TPUs, not for"
      f" {device.platform}; plan for fused, which holds about the same"
    )
  settings = {name: v for name, v in vars(args).items() if name != "json"}
  size = blocks.block_size(
    batch=args.batch // mesh.shape["data"],
    dim=args.dim * args.centers,
    rows=options.MAX_CLASSES,
    platform=args.platform,
  )
  room = _room(args, mesh.size)
  names = dict.fromkeys((args.implementation, "dense", "partial_fc"))
  return {
    "settings": settings | {"devices": mesh.size, "model": mesh.shape["model"]},
    "compiled_for": _compiled_for(mesh),
    "block_size": size,
    "room": room,
    "implementations": {
      name: _figures(name, args, mesh, block_size=size, room=room["free"])
      for name in names
    },
  }


def _figures(
  name: api.Implementation,
  args: argparse.Namespace,
  mesh: jax.sharding.Mesh,
  *,
  block_size: int,
  room: int,
) -> dict[str, Any]:
  """Those of one implementation."""
  # The dense head, to compare with, keeps float32 alone.
  dtypes = args.storage, args.optimizer_storage
  if name == "dense":
    dtypes = "float32", "float32"
  saved = int(args.saved_mib * 2**20) if name == "fused" else 0
  head = api.Head(
    memory.COSFACE,
    args.classes,
    mesh,
    tx=memory.OPTIMIZERS[args.optimizer],
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
  return {
    "dtype": head.storage,
    "state_dtype": head.optimizer_storage,
    "rows": found.rows,
    "buffers": found.buffers,
    "peak": found.total,
    "fits": found.total <= room,
    "bytes_per_class": growth.per_class,
    "constant_bytes": growth.constant + saved,
    "classes_that_fit": growth.classes(room - saved, shards=shards),
  }


def _compiled_for(mesh: jax.sharding.Mesh) -> str:
  """Whose compiler was asked."""
  device = mesh.devices.flat[0]
  if device.platform != "cpu":
    return f"compiled for {mesh.size} {device.device_kind}"
  return (
    f"compiled for {mesh.size} CPU device(s); an accelerator's compiler may lay"
    " out temporaries differently"
  )


def _room(args: argparse.Namespace, devices: int) -> dict[str, Any]:
  """What there is: as told, as the accelerator says, or the host's memory."""
  device = jax.devices()[0]
  stats = device.memory_stats() or {}
  if args.memory_gib is not None:
    total, source = args.memory_gib * _GIB, f"{args.memory_gib:g} GiB given"
  elif "bytes_limit" in stats:
    total, source = stats["bytes_limit"], f"of {device.device_kind}, says JAX"
  else:
    # Simulated devices share the memory of one host.
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    total = host / devices
    source = (
      f"{plan_report.readable(host)} of this host for {devices} device(s)"
    )
  if args.reserve_gib * _GIB >= total:
    raise ValueError(
      f"--reserve-gib {args.reserve_gib:g}: must be less than the memory of a"
      f" device, {plan_report.readable(total)} ({source})"
    )
  reserved = int(args.reserve_gib * _GIB)
  free = int(total) - reserved
  return {"free": free, "reserved": reserved, "source": source}


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("head.plan", _DESCRIPTION)
  _add_head(parser.add_argument_group("the head").add_argument)
  _add_machine(parser.add_argument_group("the machine").add_argument)
  command_flags.json(parser, file=True)
  return parser


def _add_head(add: Callable[..., Any]) -> None:
  """What the head is; `add` is `add_argument`."""
  dtypes = get_args(storage.Storage)
  count = command_line.number(int, 1, options.MAX_CLASSES)
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
  add("--optimizer", choices=memory.OPTIMIZERS, default="momentum")
  add("--storage", choices=dtypes, default="float32", help="of prototypes")
  add(
    "--optimizer-storage", choices=dtypes, default="float32", help="of momentum"
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


def _add_machine(add: Callable[..., Any]) -> None:
  """Options that say what it is to run on."""
  count = command_line.number(int, 1, 1024)
  add("--devices", type=count, metavar="N", help="how many to plan for (all)")
  add("--model", type=count, help="devices that classes are split over (all)")
  add(
    "--platform",
    choices=("cpu", "gpu", "tpu"),
    help="in blocks of the size for this one (that of this machine)",
  )
  add(
    "--memory-gib",
    type=command_line.number(float, 0.01, 2**20),
    help="of one device (that of this machine)",
  )
  add(
    "--reserve-gib",
    type=command_line.number(float, 0, 2**20),
    default=0,
    help="of it for the backbone (0)",
  )


if __name__ == "__main__":
  sys.exit(main())
