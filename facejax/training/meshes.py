"""The mesh of a run: as it is told, or chosen by what a step sends."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from facejax.head import mesh_choice
from facejax.runtime import cpu_devices, host_memory, topology
from facejax.runtime import mesh as mesh_lib
from facejax.training import config as config_lib
from facejax.training.objectives import definition


def make(
  config: config_lib.Config,
  num_classes: int,
  among: Sequence[Any] | None = None,
) -> jax.sharding.Mesh:
  """The mesh that a run has.

  Args:
    config: of the run.
    num_classes: identities, and distractors.
    among: devices to choose from, that are elsewhere; None for those of this
      machine.

  Raises:
    ValueError: if there are no such devices.
  """
  told = config.mesh
  if among is None:
    cpu_devices.check(told.cpu_devices, flag="mesh.cpu_devices")
  elif told.cpu_devices is not None:
    raise ValueError(
      f"mesh.cpu_devices={told.cpu_devices} is for CPUs of this machine, and"
      f" the topology has {among[0].device_kind}: leave it out"
    )
  model = None if told.model == "auto" else told.model
  mesh = mesh_lib.make_mesh(devices=told.devices, model=model, among=among)
  load = _load(config, num_classes, mesh)
  if told.model != "auto" or load is None:
    return mesh
  chosen = mesh_choice.choose(load, _links(mesh, here=among is None))
  return mesh_lib.make_mesh(
    devices=told.devices, model=chosen.model, among=among
  )


def settled(
  config: config_lib.Config, mesh: jax.sharding.Mesh
) -> config_lib.Config:
  """The settings of a later stage, on the mesh that the first one chose."""
  if config.mesh.model != "auto":
    return config
  told = dataclasses.replace(config.mesh, model=mesh.shape["model"])
  return dataclasses.replace(config, mesh=told)


def reason(
  config: config_lib.Config, num_classes: int, mesh: jax.sharding.Mesh
) -> str | None:
  """Why the mesh is as it is, where it was to be chosen; else None."""
  if config.mesh.model != "auto":
    return None
  load = _load(config, num_classes, mesh)
  if load is None:
    return "the loss has no classes to split"
  return mesh_choice.choose(load, _links(mesh, here=_is_here(mesh))).reason


def complaint(
  config: config_lib.Config, num_classes: int, mesh: jax.sharding.Mesh
) -> str | None:
  """What to say of a mesh that sends far more than another; else None."""
  load = _load(config, num_classes, mesh)
  if load is None or config.mesh.model == "auto":
    return None
  links = _links(mesh, here=_is_here(mesh))
  return mesh_choice.complaint(load, links, mesh.shape["model"])


def _load(
  config: config_lib.Config, num_classes: int, mesh: jax.sharding.Mesh
) -> mesh_choice.Load | None:
  """What the head of a run sends and holds; None if it has none."""
  head, loss = config.head, config.loss
  if not isinstance(loss, definition.OverClasses):
    return None
  centers, dim = (
    loss.definition(num_classes).centers,
    config.model.embedding_dim,
  )
  return mesh_choice.load_of(
    head,
    batch=config.batch_size,
    dim=dim,
    classes=num_classes,
    centers=centers,
    platform=mesh_lib.platform(mesh),
  )


def _links(mesh: jax.sharding.Mesh, *, here: bool) -> mesh_choice.Links:
  devices = [*mesh.devices.flat]
  return mesh_choice.Links(
    mesh.size, mesh_choice.islands(devices), _memory(devices, here=here)
  )


def _memory(devices: Sequence[Any], *, here: bool) -> int | None:
  """Bytes of a device; the same in all processes, or None."""
  chip = topology.chip_of(devices[0])
  if chip is not None:
    return chip.memory
  if not here or jax.process_count() > 1:
    return None
  limit = (devices[0].memory_stats() or {}).get("bytes_limit")
  return limit or host_memory.total() // len(devices)


def _is_here(mesh: jax.sharding.Mesh) -> bool:
  return mesh.devices.flat[0] in jax.devices()
