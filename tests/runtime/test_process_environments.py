"""Which devices each of several processes is given."""

import pytest

from facejax.runtime import process_environments


def own(name, *, processes, devices=None, platform="auto", **base):
  found = process_environments.environments(
    base, processes=processes, devices=devices, platform=platform, port=1234
  )
  return [environment.get(name) for environment in found]


GPUS = {"CUDA_VISIBLE_DEVICES": "1, 2,5,GPU-8a"}


@pytest.mark.parametrize(
  ("processes", "devices", "expected"),
  [
    (4, None, ["1", "2", "5", "GPU-8a"]),
    (2, None, ["1,2", "5,GPU-8a"]),
    (1, None, ["1,2,5,GPU-8a"]),
    (3, 1, ["1", "2", "5"]),
  ],
)
def test_gpus_are_dealt_out(processes, devices, expected):
  found = own(
    "CUDA_VISIBLE_DEVICES", processes=processes, devices=devices, **GPUS
  )
  assert found == expected


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"processes": 3, **GPUS}, "give --processes 1, 2, 4"),
    ({"processes": 2, "devices": 3, **GPUS}, "need 6 GPUs, 4 are there"),
    (
      {"processes": 2, "platform": "cuda", "CUDA_VISIBLE_DEVICES": "-1"},
      "no NVIDIA GPU is there .* --platform cpu",
    ),
  ],
)
def test_what_cannot_be_dealt_out_is_told(options, message):
  with pytest.raises(ValueError, match=message):
    own("CUDA_VISIBLE_DEVICES", **options)


@pytest.mark.parametrize(
  "options", [{"platform": "cpu"}, {"JAX_PLATFORMS": "cpu"}]
)
def test_a_cpu_is_shared(options):
  options = {"processes": 2, "devices": 3, **GPUS, **options}
  assert own("JAX_NUM_CPU_DEVICES", **options) == ["3", "3"]
  assert own("JAX_PLATFORMS", **options) == ["cpu", "cpu"]
  assert own("CUDA_VISIBLE_DEVICES", **options) == [*GPUS.values()] * 2


def test_settings_of_one_process_are_not_handed_on():
  base = {"JAX_LOCAL_DEVICE_IDS": "3", "JAX_PROCESS_ID": "7", "HOME": "/h"}
  options = {"processes": 2, "platform": "cpu", **base}
  assert own("JAX_LOCAL_DEVICE_IDS", **options) == [None, None]
  assert own("JAX_PROCESS_ID", **options) == ["0", "1"]
  assert own("JAX_NUM_CPU_DEVICES", **options) == [None, None]
  assert own("HOME", **options) == ["/h", "/h"]
