"""What devices do and hold, from figures at hand."""

import dataclasses
import types

import jax
import numpy as np
import pytest
from helpers import small_training

from facejax.runtime import topology
from facejax.training import device_figures, log_line, recipe


class Device:
  """A chip that is not here."""

  process_index = 0

  def __init__(self, stats, kind=topology.CHIPS[0].kind):
    self.device_kind, self._stats = kind, stats

  def memory_stats(self):
    return self._stats


@pytest.fixture(scope="module")
def parts():
  arguments = [*small_training.SMALL, "--steps", "1", "--mesh.devices", "2"]
  return (
    recipe.parse(arguments).to_config(),
    small_training.build([*small_training.SMALL, "--steps", 1], devices=2),
  )


def with_devices(program, *devices):
  mesh = types.SimpleNamespace(
    devices=np.array(devices), size=len(devices), shape=program.mesh.shape
  )
  return dataclasses.replace(program, mesh=mesh)


def test_operations_follow_from_the_speed(parts):
  config, program = parts
  found = device_figures.DeviceFigures(*parts).at(100.0)
  # Ten classes, padded to the devices: three products of 2 B C D.
  net = 6 * program.backbone.multiply_adds
  head = 3 * 2 * program.head.rows * config.model.embedding_dim
  assert found == {"model_tflops": pytest.approx(100 * (net + head) / 1e12)}


def test_a_known_chip_has_a_peak_and_memory(parts):
  config, program = parts
  stats = {"bytes_in_use": 2**30, "peak_bytes_in_use": 3 * 2**30}
  fuller = {"bytes_in_use": 2**31, "peak_bytes_in_use": 2**31}
  some = with_devices(program, Device(stats), Device(fuller))
  found = device_figures.DeviceFigures(config, some).at(1e6)
  assert found["memory_gib"] == 2 and found["peak_memory_gib"] == 3
  each = found["model_tflops"] * 1e12 / 2
  assert found["peak_share"] == pytest.approx(each / topology.CHIPS[0].flops)
  line = log_line.train(
    *(3, 9, {"loss": 2.0}),
    {"images_per_s": 1e6, "input_wait": 0, "eta_s": 5, "goodput": 0.5} | found,
  )
  assert line.startswith("step 3/9  loss 2  1000000 images/s  wait 0%  ")
  assert "of the peak)  memory 2.0 GiB (most 3.0)  goodput 50%  eta 5" in line


@pytest.mark.parametrize("stats", [None, {}, {"bytes_in_use": 1}])
def test_what_is_not_known_is_absent(parts, stats):
  config, program = parts
  some = with_devices(program, *[Device(stats, "abacus")] * 2)
  found = device_figures.DeviceFigures(config, some).at(1.0)
  assert "peak_share" not in found and "peak_memory_gib" not in found
  assert jax.process_index() == Device.process_index
