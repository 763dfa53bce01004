"""Steps that are computed twice, on devices some of which compute wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.runtime import mesh as mesh_lib
from facejax.training import replay


@pytest.fixture(scope="module")
def mesh():
  return mesh_lib.make_mesh(devices=4, model=2)


@pytest.fixture
def state(mesh):
  """Rows split by class, a net that all devices hold, and a count."""
  by_class = mesh_lib.sharding(mesh, mesh_lib.CLASSES)
  everywhere = mesh_lib.sharding(mesh, mesh_lib.REPLICATED)
  return {
    "rows": jax.device_put(jnp.arange(24.0).reshape(8, 3), by_class),
    "net": jax.device_put(jnp.ones((5,)), everywhere),
    "step": jax.device_put(jnp.int32(0), everywhere),
  }


def step(state, images, labels):
  def new(state):
    return jax.tree.map(lambda leaf: leaf + 1, state)

  placed = jax.tree.map(lambda leaf: leaf.sharding, state)
  after = jax.jit(new, donate_argnums=0, out_shardings=placed)(state)
  return after, {"loss": after["net"].sum()}


def one_bit(array, device):
  """The array with a bit flipped in what one device holds."""
  parts = []
  for shard in array.addressable_shards:
    part = np.array(shard.data)
    if shard.device.id == device:
      part.view(np.uint32).flat[1] ^= 1
    parts.append(jax.device_put(part, shard.device))
  return jax.make_array_from_single_device_arrays(
    array.shape, array.sharding, parts
  )


def faulty(leaf, device, *, calls):
  """The step on a device that computes a leaf wrong, in some of its calls."""
  count = 0

  def call(state, images, labels):
    nonlocal count
    count += 1
    state, metrics = step(state, images, labels)
    if count in calls:
      state = state | {leaf: one_bit(state[leaf], device)}
    return state, metrics

  return call


def test_a_step_that_is_checked_has_the_result_it_always_has(state):
  seen = []

  def counted(state, images, labels):
    seen.append(int(state["step"]))
    return step(state, images, labels)

  checked = replay.checked(counted, every=3, first=1)
  for _ in range(6):
    state, metrics = checked(state, None, None)
  # Steps 2 to 7, of which 3 and 6 are computed twice.
  assert seen == [0, 1, 1, 2, 3, 4, 4, 5]
  np.testing.assert_array_equal(state["net"], np.full(5, 7.0))
  assert float(metrics["loss"]) == 35
  assert replay.checked(step, every=0, first=0) is step


@pytest.mark.parametrize("leaf", ["rows", "net"])
@pytest.mark.parametrize("device", [0, 3])
def test_one_bit_is_named_with_its_device_and_its_array(state, leaf, device):
  wrong = faulty(leaf, device, calls=(2,))
  with pytest.raises(replay.CorruptionError) as caught:
    replay.checked(wrong, every=1, first=0)(state, None, None)
  text = str(caught.value)
  assert f"device {device} (" in text and f"['{leaf}']" in text
  assert "differs when computed again" in text
  others = {0, 1, 2, 3} - {device}
  again = text.partition("differs when computed again")[0]
  assert not any(f"device {k} (" in again for k in others)


def test_a_device_that_is_always_wrong_is_found_by_the_copies(state):
  wrong = faulty("net", 2, calls=(1, 2))
  with pytest.raises(replay.CorruptionError) as caught:
    replay.checked(wrong, every=1, first=0)(state, None, None)
  assert "device 2 (" in str(caught.value)
  assert "differs from its copies on other devices" in str(caught.value)
  assert "device 1 (" not in str(caught.value)
