"""What the devices do and hold while they train, from figures at hand.

Nothing here waits for a device: operations follow from the speed, memory is
what the allocator says.
"""

from typing import Any

import jax

from facejax.head import roofline
from facejax.runtime import topology
from facejax.training import build
from facejax.training import config as config_lib

_GIB = 2**30


def trunk_operations(
  config: config_lib.Config, program: build.Program
) -> float:
  """Products and sums of a step of the net on each device.

  Forward and backward pass: the products of the forward pass three times.
  """
  each = 6 * program.backbone.multiply_adds
  return each * config.batch_size / program.mesh.size


class DeviceFigures:
  """Figures of a run's devices.

  Args:
    config: of the run.
    program: of the run.
  """

  def __init__(self, config: config_lib.Config, program: build.Program):
    operations = trunk_operations(config, program)
    if program.head is not None:
      operations += roofline.asked_operations(
        program.head, dim=config.model.embedding_dim, batch=config.batch_size
      )
    devices = program.mesh.devices.flat
    self._chip = topology.chip_of(devices[0])
    self._count = program.mesh.size
    self._an_image = operations / config.batch_size
    here = jax.process_index()
    self._devices = [one for one in devices if one.process_index == here]

  def at(self, images_per_s: float) -> dict[str, float]:
    """The figures at a speed of all devices together.

    Returns:
      `model_tflops`: 1e12 products and sums a second that net and loss ask for,
        of all devices together; what is computed again does not count.
      `peak_share`: 0 to 1, of what the devices can do in bfloat16; absent where
        that is not known.
      `memory_gib`, `peak_memory_gib`: in use now and at most so far, on the
        fullest device of this process; absent where that is not known.
    """
    each = self._an_image * images_per_s
    figures = {"model_tflops": each * self._count / 1e12}
    if self._chip is not None:
      figures["peak_share"] = each / self._chip.flops
    return figures | _memory(self._devices)


def _memory(devices: list[Any]) -> dict[str, float]:
  stats = [device.memory_stats() or {} for device in devices]
  names = {"memory_gib": "bytes_in_use", "peak_memory_gib": "peak_bytes_in_use"}
  return {
    name: max(one[key] for one in stats) / _GIB
    for name, key in names.items()
    if stats and all(key in one for one in stats)
  }
