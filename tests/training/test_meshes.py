"""The mesh of a run, chosen by what its steps send."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import small_training

from facejax.head import mesh_choice
from facejax.runtime import host_memory
from facejax.training import config as config_lib
from facejax.training import meshes, recipe
from facejax.training.objectives import registry

AUTO = config_lib.MeshConfig(model="auto")
# Far more examples than classes.
WIDE = config_lib.Config(steps=1, batch_size=2**17, mesh=AUTO)


def shape(config, classes):
  mesh = meshes.make(config, classes)
  return mesh.shape["data"], mesh.shape["model"]


def test_the_flag_is_read_and_goes_on():
  words = ["--config", "cosface.py", "--mesh.model", "auto"]
  config = recipe.parse(words).to_config()
  assert config.mesh.model == "auto"
  assert config_lib.stored(config)["mesh.model"] == "auto"


def test_copies_are_made_where_they_save():
  assert shape(WIDE, 1000) != (1, 8)
  few = dataclasses.replace(WIDE.mesh, devices=1)
  assert shape(dataclasses.replace(WIDE, mesh=few), 1000) == (1, 1)
  assert shape(WIDE, 10**6) == (1, 8)
  kernels = config_lib.HeadConfig(implementation="pallas")
  assert shape(dataclasses.replace(WIDE, head=kernels), 1000) == (1, 8)


def test_processes_choose_alike_whatever_memory_each_has(monkeypatch):
  free = shape(WIDE, 1000)
  monkeypatch.setattr(host_memory, "total", lambda: 2**20)
  assert shape(WIDE, 1000) == (1, 8)
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  assert shape(WIDE, 1000) == free


def test_it_says_why():
  mesh = meshes.make(WIDE, 1000)
  why = meshes.reason(WIDE, 1000, mesh)
  assert why and f"over {mesh.shape['model']} of 8 devices" in why
  assert meshes.complaint(WIDE, 1000, mesh) is None
  told = dataclasses.replace(WIDE, mesh=config_lib.MeshConfig())
  assert meshes.reason(told, 1000, mesh) is None
  two = dataclasses.replace(WIDE, mesh=config_lib.MeshConfig(model=2))
  text = meshes.complaint(two, 10**6, meshes.make(two, 10**6))
  assert text and "--mesh.model 8" in text


def test_losses_without_classes_have_nothing_to_choose():
  config = dataclasses.replace(WIDE, loss=registry.Triplet())
  assert shape(config, 0) == (1, 8)
  assert "no classes" in (
    meshes.reason(config, 0, meshes.make(config, 0)) or ""
  )
  assert meshes.complaint(config, 0, meshes.make(config, 0)) is None


@pytest.mark.slow
def test_losses_do_not_depend_on_it(tmp_path, monkeypatch):
  # As if messages were free, so that a small run has copies.
  monkeypatch.setattr(mesh_choice, "MESSAGE", 0)
  arguments = [
    *small_training.SMALL, "--steps", 3, "--model.name", "sphereface4",
    "--model.dtype", "float64", "--data.image-size", 16, 16, "--batch-size", 64,
    "--eval.pairs", "none",
  ]  # fmt: skip
  found = []
  for name, flags in (("all", []), ("auto", ["--mesh.model", "auto"])):
    workdir = tmp_path / name
    code, output = small_training.call(
      [*arguments, "--workdir", workdir, *flags]
    )
    assert code == 0, output
    assert ("chosen: classes over" in output) == bool(flags)
    assert ("data 1 x model 8" in output) != bool(flags)
    found.append([*small_training.losses(workdir).values()])
  assert len(found[0]) == 3
  np.testing.assert_allclose(found[1], found[0], rtol=1e-9)
