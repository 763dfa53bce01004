"""The mesh and where batches land on it."""

import numpy as np
import pytest

from facejax.runtime import mesh as mesh_lib


@pytest.mark.parametrize(
  ("devices", "model", "shape"),
  [(None, None, (1, 8)), (2, None, (1, 2)), (8, 2, (4, 2)), (1, 1, (1, 1))],
)
def test_shape(devices, model, shape):
  mesh = mesh_lib.make_mesh(devices=devices, model=model)
  assert (mesh.shape["data"], mesh.shape["model"]) == shape


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"devices": 9}, "mesh.devices=9, but 8 device"),
    ({"devices": 0}, "choose 1 to 8"),
    ({"devices": 8, "model": 3}, "mesh.model=3 must divide"),
  ],
)
def test_impossible_meshes_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    mesh_lib.make_mesh(**options)


def test_batch_is_split_over_all_devices():
  mesh = mesh_lib.make_mesh(devices=8, model=2)
  batch = np.arange(16 * 3).reshape(16, 3)
  placed = mesh_lib.put_batch({"x": batch}, mesh)["x"]
  assert len({shard.device for shard in placed.addressable_shards}) == 8
  assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 3)}
  np.testing.assert_array_equal(placed, batch)


@pytest.mark.parametrize(
  ("size", "use"), [(0, "8"), (1, "8"), (12, "8 or 16"), (23, "16 or 24")]
)
def test_batches_that_do_not_divide_are_told_which_do(size, use):
  mesh = mesh_lib.make_mesh(devices=8)
  message = f"batch={size} does not divide by the 8 devices: use {use}$"
  with pytest.raises(ValueError, match=message):
    mesh_lib.check_batch(size, mesh)
  with pytest.raises(ValueError, match=message):
    mesh_lib.put_batch({"x": np.zeros((size, 3))}, mesh)
