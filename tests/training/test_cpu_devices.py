"""A CPU as several devices, by a flag: in processes of their own."""

import numpy as np
import pytest
from helpers import processes, small_training

from facejax.runs import folder
from facejax.runtime import topology
from facejax.training import config as config_lib
from facejax.training import meshes

RUN = [
  *small_training.SMALL, "--steps", 3, "--model.name", "sphereface4",
  "--model.dtype", "float64", "--data.image-size", 16, 16,
  "--eval.pairs", "none",
]  # fmt: skip


def trained(workdir, *flags):
  """What a run says; its process is told of eight devices, too."""
  code, output = small_training.run([*RUN, "--workdir", workdir, *flags])
  assert code == 0, output
  return output


@pytest.mark.slow
def test_losses_and_resuming_do_not_depend_on_it(tmp_path):
  one, two = tmp_path / "one", tmp_path / "two"
  for workdir, count in ((one, 1), (two, 2)):
    output = trained(workdir, "--mesh.cpu-devices", count)
    assert f"mesh data 1 x model {count}" in output
    environment = folder.read_environment(workdir)
    assert environment and environment["devices"] == ["cpu"] * count
  alone, split = map(small_training.losses, (one, two))
  assert list(alone) == list(split) == [1, 2, 3]
  np.testing.assert_allclose([*split.values()], [*alone.values()], rtol=1e-9)
  again = trained(two, "--mesh.cpu-devices", 4)
  assert "resumed at step 3" in again and "data 1 x model 4" in again


@pytest.mark.slow
def test_each_process_has_so_many(tmp_path):
  codes, outputs = processes.run(
    [*RUN, "--workdir", tmp_path, "--mesh.cpu-devices", 2], count=2, devices=1
  )
  assert codes == [0, 0], "\n".join(outputs)
  assert "2 of 4 devices are here" in outputs[0]
  assert list(small_training.losses(tmp_path)) == [1, 2, 3]


@pytest.mark.slow
def test_embedding_takes_it_too(tiny_run, tiny_faces, tmp_path):
  from facejax import embed

  words = [tiny_run, tiny_faces, tmp_path / "out.npz", "--cpu-devices"]
  assert embed.main([*map(str, words), "8"]) == 0
  assert embed.main([*map(str, words), "2", "--overwrite"]) == 2


def test_chips_that_are_elsewhere_are_not_cut_up():
  config = config_lib.Config(mesh=config_lib.MeshConfig(cpu_devices=2))

  class Chip:
    device_kind = topology.CHIPS[0].kind

  with pytest.raises(
    ValueError, match="cpu_devices=2 is for CPUs.*TPU v5 lite"
  ):
    meshes.make(config, 10, [Chip()])
