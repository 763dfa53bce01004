"""The classes of a run: their names, and where their prototypes are read."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_run

from facejax.runs import checkpoint, classes, folder, imported
from facejax.runtime import mesh as mesh_lib


def test_names_are_read_as_they_were_written(tmp_path):
  assert classes.read(tmp_path) is None
  names = ["ada", "bob\nsmith", "ç", "ada"]
  classes.write(tmp_path, names)
  assert classes.read(tmp_path) == names


def test_names_are_matched():
  old, new = ["ada", "bob", "cid", "dan"], ["cid", "eve", "ada", "bob", "fay"]
  assert classes.matched(old, new).tolist() == [2, -1, 0, 1, -1]
  assert classes.matched([], new).tolist() == [-1] * len(new)
  # The second of a name is the second.
  assert classes.matched(["a", "a"], ["b", "a", "a", "a"]).tolist() == [
    *(-1, 0, 1, -1)
  ]


@pytest.mark.parametrize("text", ["[1]", '{"names": [1]}', "{"])
def test_damaged_names_are_refused(text, tmp_path):
  (tmp_path / folder.CLASSES).write_text(text)
  with pytest.raises(ValueError, match="classes.json is damaged"):
    classes.read(tmp_path)


@pytest.mark.parametrize("devices", [1, 8])
def test_prototypes_are_read_onto_any_mesh(devices, tmp_path):
  whole = np.random.default_rng(0).normal(size=(13, 2, 4)).astype("f4")
  state = imported.ImportedWeights({"a": jnp.ones(2)}, {}, jnp.asarray(whole))
  with checkpoint.Checkpoints(tmp_path / folder.CHECKPOINTS) as checkpoints:
    checkpoints.save(3, state)
  mesh = mesh_lib.make_mesh(devices=devices)
  found = classes.read_prototypes(tmp_path, step=3, mesh=mesh)
  assert found is not None and found.shape[0] == -(-13 // devices) * devices
  assert len(found.sharding.device_set) == devices
  np.testing.assert_array_equal(found[:13], whole)
  assert not np.asarray(found[13:]).any()


def test_a_run_without_prototypes_has_none(tmp_path):
  run = tiny_run.write_run(tmp_path / "run")
  mesh = mesh_lib.make_mesh(devices=1)
  step = tiny_run.STEP
  assert classes.read_prototypes(run, step=step, mesh=mesh) is None
  with pytest.raises(FileNotFoundError, match="no checkpoint of step 1"):
    classes.read_prototypes(run, step=1, mesh=mesh)
