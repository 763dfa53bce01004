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
# Parts of a batch, each split so.
PARTS = P(None, ("data", "model"))
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
  if among is None and jax.process_count() > 1 and devices != visible:
    raise ValueError(
      f"mesh.devices={devices}, but {jax.process_count()} processes have"
      f" {visible} device(s): each must take part, so leave mesh.devices out, or"
      " start fewer processes"
    )
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


def local_places(size: int, mesh: jax.sharding.Mesh) -> np.ndarray:
  """The places of a batch that lie on this process's devices, int [n], rising.

  >>> local_places(4, make_mesh(devices=1))
  array([0, 1, 2, 3])
  """
  found = sharding(mesh, BATCH).addressable_devices_indices_map((size,))
  # With one device, the slice has no ends.
  parts = (range(*index[0].indices(size)) for index in found.values() if index)
  return np.unique(np.concatenate([np.asarray(part) for part in parts]))


def put_batch(
  batch: Mapping[str, np.ndarray],
  mesh: jax.sharding.Mesh,
  *,
  size: int | None = None,
) -> dict[str, typing.Array]:
  """Places a batch, split over all devices.

  Args:
    batch: arrays of the whole batch; every process may hold it, and gives its
      devices their part.
    mesh: the devices.
    size: of the batch, where only the examples at `local_places` are given.

  Raises:
    ValueError: if it does not divide by the devices, or the examples are not
      those of this process.
  """
  return {name: _put(values, mesh, size) for name, values in batch.items()}


def _put(
  values: np.ndarray, mesh: jax.sharding.Mesh, size: int | None
) -> typing.Array:
  whole = len(values) if size is None else size
  check_batch(whole, mesh)
  shape, where = (whole, *values.shape[1:]), sharding(mesh, BATCH)
  if len(values) == whole:
    return jax.make_array_from_callback(shape, where, values.__getitem__)
  places = local_places(whole, mesh)
  if len(values) != len(places):
    raise ValueError(
      f"{len(values)} examples given, but {len(places)} of {whole} lie on the"
      " devices of this process"
    )

  def part(index: Any) -> np.ndarray:
    start, stop, _ = index[0].indices(whole)
    # The places of a device follow each other.
    first = int(np.searchsorted(places, start))
    return values[first : first + stop - start]

  return jax.make_array_from_callback(shape, where, part)
