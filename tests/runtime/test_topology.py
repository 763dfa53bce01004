"""Chips that are not here are named, and their compilers asked for."""

import importlib.util

import pytest

from facejax.runtime import extras, topology


@pytest.mark.parametrize(
  "name", ["v5e", "v5e:", "4x4", "rtx:1", "h100:8x8", "h100:0", "v5e:4 4", ""]
)
def test_other_names_are_refused(name):
  with pytest.raises(ValueError, match=f"topology '{name}'.*h100"):
    topology.devices(name)


@pytest.mark.parametrize(
  ("name", "extra"), [("v5e:4x4", "tpu-plan"), ("h100:8", "gpu-plan")]
)
def test_a_missing_compiler_is_named(name, extra, monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(extras.MissingPackageError, match=rf"facejax\[{extra}\]"):
    topology.devices(name)


def test_chips_are_told_by_their_kind():
  for chip in topology.CHIPS:
    assert chip.name in topology.names()

    class Device:
      device_kind = chip.kind

    assert topology.chip_of(Device()) is chip
  Device.device_kind = "cpu"
  assert topology.chip_of(Device()) is None


@pytest.mark.tpu_compiler
@pytest.mark.parametrize(
  ("name", "count"), [("v5e:1x1", 1), ("v5e:4x4", 16), ("v5p:2x2x1", 4)]
)
def test_a_tpu_has_as_many_devices_as_its_shape_says(name, count):
  devices = topology.devices(name)
  assert len(devices) == count
  assert topology.chip_of(devices[0]).name == name.partition(":")[0]


@pytest.mark.tpu_compiler
def test_a_shape_that_no_tpu_has_is_refused():
  with pytest.raises(ValueError, match="knows no such shape"):
    topology.devices("v5e:3x5")
