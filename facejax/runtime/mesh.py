"""The device mesh ("data", "model") and how arrays lie on it.

The batch is split over both axes for the backbone; prototypes are split by
class over "model" and replicated over "data". One device is the same program.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from facejax.runtime import typing

P = jax.P
BATCH = P(("data", "model"))
CLASSES = P("model")
REPLICATED = P()


def make_mesh(
  *,
  devices: int | None = None,
  model: int | None = None,
  among: Sequence[Any] | None = None,
) -> jax.sharding.Mesh:
  """A ("data", "model") mesh.

  Args:
    devices: how many of the visible devices to use; None takes all.
    model: size of the axis that classes are split over; None takes all
      devices, the classic layout. A smaller one bounds the batch that each
      device gathers on large clusters.
    among: devices to choose from, such as those of `runtime.topology`; None
      for those of this machine.

  Raises:
    ValueError: if there are too few devices or `model` does not divide them.
  """
  found = jax.devices() if among is None else among
  visible = len(found)
  devices = visible if devices is None else devices
  if not 1 <= devices <= visible:
    there = "are visible to JAX" if among is None else "has the topology"
    raise ValueError(
      f"mesh.devices={devices}, but {visible} device(s) {there}:"
      f" choose 1 to {visible}"
    )
  model = devices if model is None else model
  if model < 1 or devices % model:
    raise ValueError(
      f"mesh.model={model} must divide the number of devices, {devices}"
    )
  return lay_out(found[:devices], model=model)


def lay_out(devices: Sequence[Any], *, model: int) -> jax.sharding.Mesh:
  """Devices as a ("data", "model") mesh; `model` divides their number."""
  # Shape, names and types by position: their keywords change between versions.
  return jax.make_mesh(
    (len(devices) // model, model),
    ("data", "model"),
    (jax.sharding.AxisType.Auto,) * 2,
    devices=devices,
  )


def platform(mesh: jax.sharding.Mesh) -> str:
  """What its programs are compiled for: "cpu", "gpu" or "tpu".

  Not `jax.default_backend()`: a CPU compiles for chips that are not there.
  """
  return mesh.devices.flat[0].platform


def sharding(mesh: jax.sharding.Mesh, spec: P) -> jax.NamedSharding:
  """The placement `spec` on this mesh."""
  return jax.NamedSharding(mesh, spec)


def check_batch(
  size: int, mesh: jax.sharding.Mesh, *, name: str = "batch"
) -> None:
  """Refuses a batch that cannot be split evenly over the devices.

  Args:
    size: examples on all devices together.
    mesh: the devices.
    name: what the size is called, for the message.

  Raises:
    ValueError: naming the sizes next to it.

  >>> check_batch(1, make_mesh(devices=1))
  """
  if size % mesh.size or size < 1:
    lower = size // mesh.size * mesh.size
    near = [n for n in (lower, lower + mesh.size) if n > 0]
    raise ValueError(
      f"{name}={size} does not divide by the {mesh.size} devices: use"
      f" {' or '.join(map(str, near))}"
    )


def put_batch(
  batch: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh
) -> dict[str, typing.Array]:
  """Places this process's part of a batch, split over all devices.

  Raises:
    ValueError: if it does not divide by the devices of this process.
  """
  for values in batch.values():
    check_batch(len(values), mesh.local_mesh)
  batch_sharding = sharding(mesh, BATCH)
  return {
    name: jax.make_array_from_process_local_data(batch_sharding, values)
    for name, values in batch.items()
  }
