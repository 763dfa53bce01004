"""The devices of a run: their settings, and the mesh that comes of them."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import annotated_types
import jax

from facejax.runtime import cpu_devices as cpu_lib
from facejax.runtime import mesh as mesh_lib


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """The devices."""

  devices: Annotated[int, annotated_types.Ge(1)] | None = None
  """How many devices to use; all if not given."""
  model: Annotated[int, annotated_types.Ge(1)] | None = None
  """Devices that classes are split over; all if not given."""
  cpu_devices: (
    Annotated[int, annotated_types.Interval(ge=1, le=cpu_lib.MOST)] | None
  ) = None
  """Devices that the CPU is taken for, of each process; as many as cores is
  often faster than one, which is what JAX takes. Refused on accelerators."""


def make(
  config: MeshConfig, among: Sequence[Any] | None = None
) -> jax.sharding.Mesh:
  """The mesh that a run is told to have.

  Args:
    config: of the run.
    among: devices to choose from, that are elsewhere; None for those of this
      machine.

  Raises:
    ValueError: if there are no such devices.
  """
  if among is None:
    cpu_lib.check(config.cpu_devices, flag="mesh.cpu_devices")
  elif config.cpu_devices is not None:
    raise ValueError(
      f"mesh.cpu_devices={config.cpu_devices} is for CPUs of this machine, and"
      f" the topology has {among[0].device_kind}: leave it out"
    )
  return mesh_lib.make_mesh(
    devices=config.devices, model=config.model, among=among
  )
