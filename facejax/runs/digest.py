"""A 32-bit digest of an array that is the same on every mesh.

Storage flips bits now and then, and array formats do not always notice. A
digest taken on the device before an array is written, and again after it was
read back, does. Sums of integers do not depend on their order, so one device
and a thousand agree on it, whatever the sharding.

`describe` makes the record of a whole state: path, shape, dtype and digest of
every leaf; `check_layout` and `changed_leaves` hold another state against it.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from facejax.runtime import hashing

# Numbers that a device looks at together: bounds the extra memory.
_AT_ONCE = 2**22


def _bits(array: jax.Array) -> jax.Array:
  """Bit patterns as uint32; 8-byte types get a last axis of two words."""
  if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
    array = jax.random.key_data(array)
  if array.dtype == jnp.bool_:
    return array.astype(jnp.uint32)
  width = min(array.dtype.itemsize, 4)
  words = lax.bitcast_convert_type(array, jnp.dtype(f"uint{8 * width}"))
  return words.astype(jnp.uint32)


def _element_index(shape: tuple[int, ...]) -> jax.Array:
  """Row-major index of every element, modulo 2^32."""
  index = jnp.zeros(shape, jnp.uint32)
  for axis, size in enumerate(shape):
    position = lax.broadcasted_iota(jnp.uint32, shape, axis)
    index = index * jnp.uint32(size % 2**32) + position
  return index


@jax.jit
def digest(array: jax.Array) -> jax.Array:
  """Digest of an array's values and of their places.

  ```
  digest = sum_i mix(bits_i * (mix(i) | 1))  mod 2^32
  ```

  with `i` the row-major index of an element and `bits_i` its bit pattern.
  The odd factor ties a value to its place and `mix` is a bijection, so a
  change of one element always changes the digest, and any other damage goes
  unnoticed once in 2^32. Elements whose bits are all zero add nothing: zero
  rows at the end of an array, which pad it to a multiple of the devices, leave
  its digest as it is. Elements 2^32 places apart share a factor, so that only
  an exchange of such two would be missed.

  Accelerators fuse the sum with what it sums and copy nothing; XLA's CPU
  backend holds a word for each number (but see `in_blocks`).

  Args:
    array: any shape and sharding; boolean, integer, floating-point (complex
      numbers excepted) or typed PRNG keys.

  Returns:
    A uint32 scalar.

  >>> rows = jnp.arange(6.0).reshape(3, 2)
  >>> padded = jnp.concatenate([rows, jnp.zeros((5, 2))])
  >>> int(digest(rows)) == int(digest(padded))
  True
  >>> int(digest(rows)) == int(digest(rows[::-1]))
  False
  """
  bits = _bits(array)
  return _sum(bits, _element_index(bits.shape))


@functools.partial(jax.jit, static_argnames=("mesh", "spec", "at_once"))
def in_blocks(
  array: jax.Array,
  *,
  mesh: jax.sharding.Mesh,
  spec: jax.P,
  at_once: int = _AT_ONCE,
) -> jax.Array:
  """`digest` of an array whose rows alone are split, some rows at a time.

  Args:
    array: [rows, ...], of at least one number.
    mesh: its devices.
    spec: of the mesh's axes that its first axis is split over, if any.
    at_once: numbers that a device looks at together.
  """
  split = spec[0] if spec else None
  axes = (split,) if isinstance(split, str) else tuple(split or ())

  def on_shard(array: jax.Array) -> jax.Array:
    rows = array.shape[0]
    size = min(rows, max(1, at_once // math.prod(array.shape[1:])))
    first = lax.axis_index(axes) * rows if axes else 0

    def add(number: jax.Array, total: jax.Array) -> jax.Array:
      # The last rows are a whole block too; what it has of others counts as 0.
      start = jnp.minimum(number * size, rows - size)
      bits = _bits(lax.dynamic_slice_in_dim(array, start, size))
      width = math.prod(bits.shape[1:])
      index = _element_index(bits.shape) + jnp.uint32(first + start) * width
      fresh = start + jnp.arange(size) >= number * size
      fresh = fresh.reshape(-1, *(1 for _ in bits.shape[1:]))
      return total + _sum(jnp.where(fresh, bits, 0), index)

    total = jnp.uint32(0)
    if axes:
      total = lax.pcast(total, axes, to="varying")
    total = lax.fori_loop(0, -(-rows // size), add, total)
    return lax.psum(total, axes) if axes else total

  return jax.shard_map(on_shard, mesh=mesh, in_specs=spec, out_specs=jax.P())(
    array
  )


def _sum(bits: jax.Array, index: jax.Array) -> jax.Array:
  """What elements at these places add to a digest."""
  place = hashing.mix(index) | jnp.uint32(1)
  return jnp.sum(hashing.mix(bits * place), dtype=jnp.uint32)


def _of(array: jax.Array) -> jax.Array:
  """The digest, in blocks where that saves memory."""
  sharding: Any = array.sharding
  split = isinstance(sharding, jax.NamedSharding) and not any(sharding.spec[1:])
  if split and array.ndim and array.size > _AT_ONCE:
    return in_blocks(array, mesh=sharding.mesh, spec=sharding.spec)
  return digest(array)


def named_leaves(tree: Any) -> dict[str, Any]:
  """Leaves by path, written as in Python, in the order of `jax.tree.leaves`.

  >>> named_leaves({"params": {"b": 1, "a": [2, 3]}})
  {"['params']['a'][0]": 2, "['params']['a'][1]": 3, "['params']['b']": 1}
  """
  return {
    jax.tree_util.keystr(path): leaf
    for path, leaf in jax.tree.leaves_with_path(tree)
  }


def on_cpus(leaves: Mapping[str, Any]) -> bool:
  """Whether all of the arrays are in the memory of the host."""
  arrays = [leaf for leaf in leaves.values() if isinstance(leaf, jax.Array)]
  return all(d.platform == "cpu" for leaf in arrays for d in leaf.devices())


def describe(leaves: Mapping[str, jax.Array]) -> dict[str, dict[str, Any]]:
  """JSON record of named arrays: the shape, dtype and digest of each.

  Each digest is waited for before the next one starts. A device of XLA's CPU
  backend takes 32 programs at a time, and those that wait to be taken hold the
  threads that one in an all-reduce still needs: hundreds at once may stop for
  ever.
  """
  return {
    name: {
      "shape": list(leaf.shape),
      "dtype": str(leaf.dtype),
      "digest": int(jax.device_get(_of(leaf))),
    }
    for name, leaf in leaves.items()
  }


def changed_leaves(
  record: Mapping[str, Mapping[str, Any]], leaves: Mapping[str, jax.Array]
) -> list[str]:
  """Names of the arrays whose digest is not the one on `record`."""
  now = describe(leaves)
  return [k for k in leaves if now[k]["digest"] != record[k]["digest"]]


def check_layout(
  record: Mapping[str, Mapping[str, Any]],
  wanted: Mapping[str, jax.ShapeDtypeStruct],
  *,
  resizable: Callable[[str], bool] = lambda path: False,
  partial: bool = False,
) -> None:
  """Checks that arrays on `record` can be read as the `wanted` ones.

  Args:
    record: as made by `describe`.
    wanted: shape and dtype by path.
    resizable: whether the first axis of the leaf at a path may differ.
    partial: whether the record may hold more than is wanted.

  Raises:
    ValueError: naming every leaf that is missing, not wanted, or of another
      shape or dtype.
  """
  problems = [f"{k}: not stored" for k in wanted.keys() - record.keys()]
  if not partial:
    problems += [f"{k}: not wanted" for k in record.keys() - wanted.keys()]
  for name in wanted.keys() & record.keys():
    leaf, stored = wanted[name], tuple(record[name]["shape"])
    only_rows = len(leaf.shape) == len(stored) and leaf.shape[1:] == stored[1:]
    if leaf.shape != stored and not (only_rows and resizable(name)):
      problems.append(f"{name}: stored shape {stored}, wanted {leaf.shape}")
    if str(leaf.dtype) != record[name]["dtype"]:
      problems.append(
        f"{name}: stored as {record[name]['dtype']}, wanted {leaf.dtype}"
      )
  if problems:
    raise ValueError("\n  ".join(["", *sorted(problems)]))
