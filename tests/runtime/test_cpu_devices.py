"""As how many devices the CPU is taken; these tests have eight."""

from unittest import mock

import jax
import pytest

from facejax.runtime import cpu_devices


@pytest.mark.parametrize("count", [None, 8])
def test_what_jax_has_may_be_asked_for_again(count):
  cpu_devices.ask(count)
  cpu_devices.check(count, flag="--cpu-devices")
  assert jax.local_device_count() == 8


def test_another_number_comes_too_late():
  cpu_devices.ask(3)
  message = r"--cpu-devices=3, but JAX runs already with 8 CPU.*: give 8, or"
  with pytest.raises(ValueError, match=message):
    cpu_devices.check(3, flag="--cpu-devices")
  assert jax.config.jax_num_cpu_devices == 8


def test_accelerators_are_not_cut_up():
  with mock.patch.object(jax, "default_backend", return_value="gpu"):
    cpu_devices.check(None, flag="mesh.cpu_devices")
    message = "mesh.cpu_devices=2 is for CPUs, and JAX computes on gpu.*leave"
    with pytest.raises(ValueError, match=message):
      cpu_devices.check(2, flag="mesh.cpu_devices")
