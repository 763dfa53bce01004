"""What a run holds on each device, and what to change where that is too much."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import jax

from facejax.head import blocks, storage
from facejax.models import functional
from facejax.runtime import host_memory, topology
from facejax.runtime import mesh as mesh_lib
from facejax.training import build
from facejax.training import config as config_lib

_MIB = 2**20


class NoRoomError(OSError):
  """The devices have less memory than the run needs."""


def of_device(
  config: config_lib.Config, program: build.Program
) -> dict[str, int]:
  """Bytes by name of what a device holds for certain, the trunk's part first.

  The activations of the trunk, which grow with the batch, are not among them:
  only a compiler knows what they take.
  """
  like = program.like
  found = {
    "trunk": bytes_of(like.params),
    "its gradient": bytes_of(like.params),
    "its optimizer": bytes_of(like.trunk_optimizer),
    "its average": bytes_of(like.average),
  }
  if like.prototypes is not None:
    whole = config.head.implementation in ("chunked", "dense")
    found |= {
      "prototypes": bytes_of(like.prototypes),
      "their gradient": bytes_of(like.prototypes) if whole else 0,
      "their optimizer": bytes_of(like.head_optimizer),
      "centres": bytes_of(like.loss.centers),
      "a block of logits": _logits(config, program),
      "saved exponentials": config.head.saved_mib * _MIB,
    }
  found["the memory of embeddings"] = bytes_of(like.loss.memory)
  return {name: size for name, size in found.items() if size}


def bytes_of(tree: Any) -> int:
  """Bytes of a tree of abstract arrays on one device."""
  total = 0
  for leaf in jax.tree.leaves(tree):
    shape = leaf.sharding.shard_shape(leaf.shape)
    total += leaf.dtype.itemsize * math.prod(shape)
  return total


def mib(size: int) -> str:
  """Bytes, to be read."""
  return f"{size / _MIB:,.1f} MiB"


def check_room(config: config_lib.Config, program: build.Program) -> None:
  """Refuses, before anything is made, what CPU devices have no memory for.

  Other devices say so themselves. A machine's system promises memory that it
  does not have, and ends whole processes once they use it.

  Raises:
    NoRoomError: with sizes and advice.
  """
  if mesh_lib.platform(program.mesh) != "cpu":
    return
  own = len(program.mesh.local_devices)
  size = own * sum(of_device(config, program).values())
  room = host_memory.total()
  if size > room:
    said = (
      f"{own} CPU device(s) of a machine of {mib(room)} ask for {mib(size)}"
    )
    raise NoRoomError(answer(said, config, program))


@contextlib.contextmanager
def explained(
  config: config_lib.Config, program: build.Program
) -> Iterator[None]:
  """Around a run: says what to change where the devices have no room for it.

  Raises:
    NoRoomError: instead of what JAX raises then.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    said = topology.does_not_fit(error)
    if said is None:
      raise
    raise NoRoomError(answer(said, config, program)) from error


def answer(said: str, config: config_lib.Config, program: build.Program) -> str:
  """What was said of a program that does not fit, with sizes and advice.

  Args:
    said: by the compiler, or by who allocates.
    config: of the run.
    program: of the run.
  """
  sizes = of_device(config, program)
  largest = sorted(sizes.items(), key=lambda item: -item[1])
  each = -(-config.batch_size // (program.mesh.size * config.accumulate))
  # A compiler's words may end in a stop.
  lines = [
    f"the devices have no room for the run: {said.rstrip(' .')}.",
    f"A device{_room(program)} is to hold {mib(sum(sizes.values()))}: "
    + ", ".join(f"{name} {mib(size)}" for name, size in largest),
    f"and, on top, what the net makes of {each} images. What makes it less:",
    *(f"  {one}" for one in advice(config, program)),
  ]
  return "\n".join(lines)


def _room(program: build.Program) -> str:
  chip = topology.chip_of(program.mesh.devices.flat[0])
  return f" ({mib(chip.memory)})" if chip else ""


def advice(config: config_lib.Config, program: build.Program) -> list[str]:
  """Flags that save memory, those for the larger part of it first."""
  sizes = of_device(config, program)
  of_head = sum(
    sizes.get(name, 0)
    for name in ("prototypes", "their gradient", "their optimizer")
  )
  net, head = _for_net(config, program), _for_head(config, program)
  # The net's part that is known is the smaller one: activations are not.
  heavy = of_head > sum(sizes.values()) / 2
  found = [*head, *net] if heavy else [*net, *head]
  if config.check_every:
    found.append(
      "--check-every 0: a step that is checked holds the state twice"
    )
  devices = program.mesh.size
  return [*found, f"more devices than {devices}: images and classes are split"]


def _for_net(config: config_lib.Config, program: build.Program) -> list[str]:
  found = []
  half = config.batch_size // 2
  if half >= program.mesh.size:
    half -= half % program.mesh.size
    found.append(f"--batch-size {half}: half the activations")
  parts = 2 * config.accumulate
  if config.batch_size % (parts * program.mesh.size) == 0:
    found.append(
      f"--accumulate {parts}: half the activations of the same batch, in parts"
    )
  if not config.model.remat and _can_remat(config):
    found.append("--model.remat: activations are computed again")
  if config.model.dtype != "bfloat16":
    found.append("--model.dtype bfloat16: half of each activation")
  return found


def _can_remat(config: config_lib.Config) -> bool:
  model = config.model
  try:
    functional.check_options(
      model.name,
      norm=model.norm,
      se=model.se,
      drop_path=model.drop_path,
      mask_ratio=model.mask_ratio,
      remat=True,
    )
  except ValueError:
    return False
  return True


def _for_head(config: config_lib.Config, program: build.Program) -> list[str]:
  head = config.head
  if program.like.prototypes is None:
    return []
  if head.implementation in ("chunked", "dense"):
    return ["--head.implementation fused: no gradient of all prototypes"]
  found = []
  if program.mesh.shape["model"] < program.mesh.size:
    found.append(f"--mesh.model {program.mesh.size}: classes over all devices")
  sparse = getattr(config.loss, "is_sparse", False)
  if head.saved_mib:
    found.append("--head.saved-mib 0: nothing is kept of the forward pass")
  if head.implementation != "pallas" and config.model.dtype != "float64":
    for flag, kept in (
      ("storage", head.storage),
      ("optimizer-storage", head.optimizer_storage),
    ):
      if kept == "float32":
        found.append(f"--head.{flag} bfloat16: half of it; float8: a quarter")
  if head.implementation == "fused" and not sparse:
    found.append(
      "--head.implementation partial_fc: a sample of the classes at a time"
    )
  return found


def _logits(config: config_lib.Config, program: build.Program) -> int:
  """Bytes of one copy of what a device holds of the logits at a time."""
  shape = program.mesh.shape
  prototypes: Any = program.like.prototypes
  rows, *each = storage.shape(prototypes)
  if config.head.implementation == "dense":
    return 4 * config.batch_size * rows
  batch = config.batch_size // shape["data"]
  size = config.head.block_size or blocks.block_size(
    batch=batch,
    dim=math.prod(each),
    rows=rows // shape["model"],
    platform=mesh_lib.platform(program.mesh),
  )
  return 4 * batch * size
