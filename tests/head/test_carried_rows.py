"""Prototypes that come of other prototypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.head import api, carried_rows, objective, storage
from facejax.losses import margins
from facejax.runtime import mesh as mesh_lib

PLACES = np.array([5, -1, 0, 12, -1, 7, 3], np.int32)


def head(devices, classes, **options):
  return api.Head(
    objective.Objective(margins.nsl, scale=16.0),
    classes,
    mesh_lib.make_mesh(devices=devices),
    **options,
  )


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("centers", [1, 3])
@pytest.mark.parametrize("before", ["float32", "bfloat16", "float8"])
@pytest.mark.parametrize("after", ["float32", "bfloat16", "float8"])
def test_rows_go_to_their_new_places(
  devices, centers, before, after, monkeypatch
):
  # Several blocks a device, the last one not full.
  monkeypatch.setattr(carried_rows, "_BLOCK", 3)
  source = head(devices, 13, centers=centers, storage=before)
  target = head(devices, len(PLACES), centers=centers, storage=after)
  old = source.init_prototypes(jax.random.key(0), dim=4)
  fresh = target.init_prototypes(jax.random.key(1), dim=4)
  values, drawn = np.asarray(storage.load(old)), np.asarray(fresh)
  moved = carried_rows.carried(target, fresh, old, PLACES)
  assert moved.dtype == drawn.dtype and moved.shape == drawn.shape
  assert moved.sharding.is_equivalent_to(
    mesh_lib.sharding(target.mesh, mesh_lib.CLASSES), moved.ndim
  )
  kept = np.asarray(storage.encode(jnp.asarray(values), after))
  for row, place in enumerate(PLACES):
    wanted = kept[place] if place >= 0 else drawn[row]
    np.testing.assert_array_equal(moved[row], wanted)
  assert not np.asarray(moved)[len(PLACES) :].any()


def test_rows_of_another_form_are_refused():
  single, several = head(1, 7), head(1, 7, centers=2)
  key = jax.random.key(0)
  with pytest.raises(ValueError, match="4 numbers there and 2 x 4 here"):
    carried_rows.carried(
      several,
      several.init_prototypes(key, dim=4),
      single.init_prototypes(key, dim=4),
      PLACES,
    )
