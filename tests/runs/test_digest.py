"""Digests see every change and no sharding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding

from facejax.runs import digest

P = jax.P


def rows_on(devices: int) -> NamedSharding:
  mesh = jax.make_mesh(
    (devices,), ("model",), (AxisType.Auto,), devices=jax.devices()[:devices]
  )
  return NamedSharding(mesh, P("model"))


def value(array) -> int:
  return int(digest.digest(array))


DTYPES = ["float32", "bfloat16", "float16", "int32", "uint32", "int8", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_on_every_mesh_and_with_zero_rows(dtype):
  rows = np.random.default_rng(0).integers(0, 99, (24, 5)) % 7
  array = jnp.asarray(rows).astype(dtype)
  expected = value(array)
  for devices in (1, 2, 8):
    assert value(jax.device_put(array, rows_on(devices))) == expected
  padded = jnp.pad(array, ((0, 8), (0, 0)))
  assert value(jax.device_put(padded, rows_on(8))) == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8", "bool"])
@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("shape", [(24, 5), (16, 2, 3), (64,)])
def test_in_blocks_it_is_the_same(dtype, devices, shape):
  rows = np.random.default_rng(0).integers(0, 255, shape)
  array = jnp.asarray(rows).astype(dtype)
  expected = value(array)
  mesh = rows_on(devices).mesh
  for spec in (P("model"), P()):
    placed = jax.device_put(array, NamedSharding(mesh, spec))
    # Blocks of one row, of a few, and of all.
    for at_once in (4, 16, 10**6):
      found = digest.in_blocks(placed, mesh=mesh, spec=spec, at_once=at_once)
      assert int(found) == expected


def test_large_arrays_are_not_held_twice():
  array = jax.ShapeDtypeStruct((10**6, 132), np.uint8, sharding=rows_on(1))
  whole = digest.digest.lower(array).compile().memory_analysis()
  mesh, spec = array.sharding.mesh, array.sharding.spec
  parts = digest.in_blocks.lower(array, mesh=mesh, spec=spec).compile()
  held = parts.memory_analysis().temp_size_in_bytes
  assert held <= 2**26 < whole.temp_size_in_bytes


def test_what_is_on_record_does_not_depend_on_the_size(monkeypatch):
  array = jnp.arange(60.0).reshape(20, 3)
  placed = jax.device_put(array, rows_on(2))
  for at_once in (10**6, 7):
    monkeypatch.setattr(digest, "_AT_ONCE", at_once)
    record = digest.describe({"a": placed})
    assert record["a"]["digest"] == value(array)


def test_one_program_is_in_flight_at_a_time(monkeypatch):
  # Many all-reduces queued on a few threads can block one another for ever.
  events = []

  class Result:
    def __init__(self, leaf):
      self.leaf = leaf
      events.append(f"start {leaf.size}")

    def __array__(self, dtype=None, copy=None):
      events.append(f"end {self.leaf.size}")
      return np.uint32(0).__array__()

  monkeypatch.setattr(digest, "digest", Result)
  digest.describe({"a": jnp.ones(1), "b": jnp.ones(2)})
  assert events == ["start 1", "end 1", "start 2", "end 2"]


@pytest.mark.parametrize("bit", [0, 5, 22, 23, 31])
def test_sees_a_single_bit(bit):
  array = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)
  flipped = array.copy()
  flipped.view(np.uint32)[7, 2] ^= np.uint32(1 << bit)
  assert value(flipped) != value(array)


def test_sees_what_a_plain_sum_of_products_would_miss():
  array = jnp.asarray([[1.5, 2.0], [-1.5, 2.0], [4.0, 8.0]])
  # Two sign bits add up to 2^32 = 0 whatever odd numbers multiply them.
  assert value(array[jnp.array([1, 0, 2])]) != value(array)
  assert value(-array) != value(array)
  assert value(array[jnp.array([0, 2, 1])]) != value(array)


def test_scalars_keys_and_empty_arrays_have_one():
  assert value(jnp.int32(7)) != value(jnp.int32(8))
  assert value(jax.random.key(1)) != value(jax.random.key(2))
  assert value(jnp.zeros((0, 3))) == 0


def test_layout_problems_are_all_named():
  record = digest.describe(
    {"a": jnp.ones((4, 2)), "b": jnp.ones(3), "c": jnp.ones(2)}
  )
  wanted = {
    "a": jax.ShapeDtypeStruct((6, 2), jnp.float32),
    "b": jax.ShapeDtypeStruct((3,), jnp.bfloat16),
    "d": jax.ShapeDtypeStruct((), jnp.int32),
  }
  with pytest.raises(ValueError) as error:
    digest.check_layout(record, wanted)
  for text in (
    "a: stored shape (4, 2), wanted (6, 2)",
    "b: stored as float32, wanted bfloat16",
    "c: not wanted",
    "d: not stored",
  ):
    assert text in str(error.value)
  del wanted["b"], wanted["d"]
  digest.check_layout(
    record, wanted, resizable=lambda path: path == "a", partial=True
  )


def test_only_the_first_axis_may_change():
  record = digest.describe({"a": jnp.ones((4, 2))})
  wanted = {"a": jax.ShapeDtypeStruct((4, 3), jnp.float32)}
  with pytest.raises(ValueError, match=r"wanted \(4, 3\)"):
    digest.check_layout(record, wanted, resizable=lambda path: True)
