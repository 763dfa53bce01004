"""The settings of the devices."""

import dataclasses
from typing import Annotated, Literal

import annotated_types

from facejax.runtime import cpu_devices as cpu_lib


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """The devices."""

  devices: Annotated[int, annotated_types.Ge(1)] | None = None
  """How many devices to use; all if not given."""
  model: Annotated[int, annotated_types.Ge(1)] | Literal["auto"] | None = None
  """Devices that classes are split over; all if not given. auto: as many as make
  a step send the least, see facejax.head.mesh_choice; where several copies of the
  classes send less than half of it, that is fewer."""
  cpu_devices: (
    Annotated[int, annotated_types.Interval(ge=1, le=cpu_lib.MOST)] | None
  ) = None
  """Devices that the CPU is taken for, of each process; JAX takes one. As many
  as cores is faster where nothing else uses them. Refused on accelerators."""
