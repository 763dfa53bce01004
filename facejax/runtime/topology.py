"""Chips that are not here, for compilers that are: "v5e:4x4", "h100:8".

A compiler needs no chip to make a program for it. From such a program can be
read what a device holds, what crosses the mesh, and, on TPUs, how many cycles
the compiler expects.
"""

import dataclasses
import os
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

from facejax.runtime import extras

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One device as its maker describes it.

  Attributes:
    name: as in the name of a topology.
    kind: the `device_kind` that JAX reports.
    memory: bytes that programs may use.
    flops: products and sums of bfloat16 a second, dense.
    float32_flops: likewise of float32; a TPU makes each product of six.
    float8_flops: likewise of float8; that of bfloat16 where it is converted.
    bandwidth: bytes a second of its memory.
    clock: cycles a second, at which `flops` is reached; 0 where compilers tell
      no cycles.
  """

  name: str
  kind: str
  memory: int
  flops: float
  float32_flops: float
  float8_flops: float
  bandwidth: float
  clock: float = 0.0


def _tpu(
  name: str, kind: str, *, gib: float, flops: float, a_cycle: int, gbs: float
) -> Chip:
  return Chip(
    name=name,
    kind=kind,
    memory=int(gib * _GIB),
    flops=flops,
    float32_flops=flops / 6,
    float8_flops=flops,
    bandwidth=gbs * 1e9,
    clock=flops / a_cycle,
  )


def _hopper(name: str, kind: str, *, memory: int, gbs: float) -> Chip:
  return Chip(
    name=name,
    kind=kind,
    memory=memory,
    flops=989e12,
    float32_flops=67e12,
    float8_flops=1979e12,
    bandwidth=gbs * 1e9,
  )


# From the makers' pages; the memory of TPUs is what their compiler allows, the
# clock the rate over the operations of their matrix units in a cycle.
CHIPS = (
  _tpu("v5e", "TPU v5 lite", gib=15.75, flops=197e12, a_cycle=2**17, gbs=819),
  _tpu("v5p", "TPU v5", gib=95.74, flops=459e12, a_cycle=2**18, gbs=2765),
  _tpu("v6e", "TPU v6 lite", gib=31.25, flops=918e12, a_cycle=2**19, gbs=1640),
  _hopper("h100", "NVIDIA H100 80GB HBM3", memory=84942979072, gbs=3352),
  _hopper("h200", "NVIDIA H200", memory=151397597184, gbs=4800),
)
# Of a TPU: chips in two or three directions. Of a GPU: devices of one node.
_NAME = re.compile(r"(\w+):(\d+(?:x\d+){0,2})")
# Nobody is asked who this machine is; several processes may compile at once.
_QUIET = {
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_ACCELERATOR_TYPE": "v5litepod-4",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# What XLA's GPU compiler asks of a card; both are of the Hopper generation.
_HOPPER = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: {memory}
  cuda_compute_capability {{
    major: 9
    feature_extension: ACCELERATED_FEATURES
  }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  name: "{kind}"
  driver_version: "13.0.0"
  runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 13 }}
device_description_str: "{kind}"
"""


def names() -> str:
  """What may be asked for, for messages and help."""
  tpus, gpus = (
    [chip.name for chip in CHIPS if bool(chip.clock) is is_tpu]
    for is_tpu in (True, False)
  )
  return (
    f"{', '.join(tpus)} with their shape (v5e:4x4, v5p:4x4x4), or"
    f" {', '.join(gpus)} with their number (h100:8)"
  )


def chip_of(device: Any) -> Chip | None:
  """The description of a device, there or not; None if it is none of ours."""
  kind = device.device_kind
  return next((chip for chip in CHIPS if chip.kind == kind), None)


def devices(name: str) -> Sequence[Any]:
  """Devices of a topology, to build a mesh of and to compile for.

  Call it before JAX is used for anything else: this process computes on CPUs
  from here on, so that no compiler takes the place of a device.

  Args:
    name: "CHIP:SHAPE", see `names`.

  Raises:
    ValueError: if there is no such chip, or no such shape of it.
    extras.MissingPackageError: if the compiler for it is not installed.
  """
  found = _NAME.fullmatch(name)
  chip = found and next((c for c in CHIPS if c.name == found[1]), None)
  if not found or chip is None:
    raise ValueError(f"topology {name!r}: must be {names()}")
  jax.config.update("jax_platforms", "cpu")
  if chip.clock:
    return _tpus(name, found[2])
  return _gpus(name, chip, found[2])


def _tpus(name: str, shape: str) -> Sequence[Any]:
  extras.require("libtpu")
  for variable, value in _QUIET.items():
    os.environ.setdefault(variable, value)
  one = set(shape.split("x")) == {"1"}
  # A host of a TPU has several chips unless it is said to have one.
  bounds = {"chips_per_host_bounds": (1, 1, 1)} if one else {}
  try:
    return topologies.get_topology_desc(
      platform="tpu", topology_name=name, **bounds
    ).devices
  except jax.errors.JaxRuntimeError as error:
    raise ValueError(
      f"topology {name!r}: the compiler knows no such shape"
      f" ({str(error).splitlines()[0]}); try {names()}"
    ) from None


def _gpus(name: str, chip: Chip, count: str) -> Sequence[Any]:
  if not count.isdigit() or int(count) < 1:
    raise ValueError(f"topology {name!r}: GPUs have a number, {chip.name}:8")
  extras.require("jax_plugins")
  target = _HOPPER.format(
    bandwidth=int(chip.bandwidth), memory=chip.memory, kind=chip.kind
  )
  return topologies.get_topology_desc(
    platform="cuda",
    topology_name="",
    topology=f"1x1x{count}",
    target_config=target,
  ).devices


def does_not_fit(error: Exception) -> str | None:
  """What a compiler says of a program that is too large for its chip.

  A TPU's compiler makes no such program. None for any other error.
  """
  _, exhausted, said = str(error).partition("RESOURCE_EXHAUSTED: ")
  return said.splitlines()[0] if exhausted else None
