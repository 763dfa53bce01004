"""The machine that the head is planned for: this one, or one that is not here."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import jax

from facejax.head import memory, mesh_choice, plan_report
from facejax.runtime import command_line, host_memory, topology
from facejax.runtime import mesh as mesh_lib

_GIB = 2**30


def add_flags(add: Callable[..., Any]) -> None:
  """Options that say what it is to run on."""
  count = command_line.number(int, 1, 1024)
  add("--devices", type=count, metavar="N", help="how many to plan for (all)")
  add(
    "--model",
    type=lambda text: text if text == "auto" else count(text),
    metavar="M",
    help="devices that classes are split over (all); auto: as a training run"
    " with --mesh.model auto chooses",
  )
  add(
    "--topology",
    metavar="CHIP:SHAPE",
    help=f"chips that are not here, whose compiler is: {topology.names()}",
  )
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


def mesh_of(args: argparse.Namespace) -> jax.sharding.Mesh:
  """The devices that were asked for.

  Raises:
    ValueError: if flags contradict each other, or there are no such devices.
  """
  if args.topology and args.platform:
    raise ValueError(
      f"--platform {args.platform} with --topology {args.topology}: the"
      " topology says the platform; leave --platform out"
    )
  among = topology.devices(args.topology) if args.topology else None
  model = None if args.model == "auto" else args.model
  mesh = _mesh(args.devices, model, among)
  if args.model != "auto":
    return mesh
  chosen = mesh_choice.choose(*_choice(args, mesh))
  return _mesh(args.devices, chosen.model, among)


def about_mesh(args: argparse.Namespace, mesh: jax.sharding.Mesh) -> str | None:
  """Why it was chosen, or what is bad about it; None if there is nothing."""
  if args.model == "auto":
    return f"chosen: {mesh_choice.choose(*_choice(args, mesh)).reason}"
  return mesh_choice.complaint(*_choice(args, mesh), mesh.shape["model"])


def _mesh(
  devices: int | None, model: int | None, among: Sequence[Any] | None
) -> jax.sharding.Mesh:
  if among is not None:
    return mesh_lib.make_mesh(devices=devices, model=model, among=among)
  return memory.make_mesh(devices=devices, model=model)


def _choice(
  args: argparse.Namespace, mesh: jax.sharding.Mesh
) -> tuple[mesh_choice.Load, mesh_choice.Links]:
  """What the step sends and holds, and where."""
  load = mesh_choice.load_of(
    args,
    batch=args.batch,
    dim=args.dim,
    classes=args.classes,
    centers=args.centers,
    platform=args.platform or mesh_lib.platform(mesh),
  )
  islands = mesh_choice.islands([*mesh.devices.flat])
  free = room(args, mesh)["free"]
  return load, mesh_choice.Links(mesh.size, islands, free)


def compiled_for(mesh: jax.sharding.Mesh) -> str:
  """Whose compiler was asked."""
  device = mesh.devices.flat[0]
  if mesh_lib.platform(mesh) != "cpu":
    return f"compiled for {mesh.size} {device.device_kind}"
  return (
    f"compiled for {mesh.size} CPU device(s); an accelerator's compiler may lay"
    " out temporaries differently"
  )


def room(args: argparse.Namespace, mesh: jax.sharding.Mesh) -> dict[str, Any]:
  """What there is: as told, as the accelerator says, or the host's memory."""
  device, devices = mesh.devices.flat[0], mesh.size
  chip = topology.chip_of(device)
  # A device that is not here cannot be asked.
  stats = {} if args.topology else device.memory_stats() or {}
  if args.memory_gib is not None:
    total, source = args.memory_gib * _GIB, f"{args.memory_gib:g} GiB given"
  elif "bytes_limit" in stats:
    total, source = stats["bytes_limit"], f"of {device.device_kind}, says JAX"
  elif chip is not None:
    total, source = chip.memory, f"of {device.device_kind}, says its maker"
  else:
    # Simulated devices share the memory of one host.
    host = host_memory.total()
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
