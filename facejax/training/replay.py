"""Silent corruption: a step computed twice, and every bit of it compared.

Chips that compute wrong results without any error are rare, and there are many
chips. The same program on the same state and batch gives the same bits; where
it does not, a device or its memory is at fault (or the program is not
deterministic, which docs/reliability.md says how to mend).
"""

import collections
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from facejax.runs import digest
from facejax.runtime import distributed

logger = logging.getLogger(__name__)

Step: TypeAlias = Callable[[Any, Any, Any], tuple[Any, Any]]
# Differences that are named.
_NAMED = 5


class CorruptionError(ArithmeticError):
  """One step, computed twice, had two results."""


class _Piece(NamedTuple):
  """A part of an array on a device.

  Attributes:
    leaf: path of the array.
    part: which part of it; the same on devices that hold copies.
    device: in words.
  """

  leaf: str
  part: str
  device: str


def checked(step: Step, *, every: int, first: int) -> Step:
  """The step; each `every` steps it is computed twice.

  A copy of the state is held meanwhile: memory must have room for it. The
  second result is the one that training goes on with.

  Args:
    step: (state, images, labels) -> (state, metrics), which donates the state.
    every: steps; 0 checks nothing.
    first: steps that were done before.

  Returns:
    A step that raises CorruptionError, in all processes, naming device and
    array.
  """
  if not every:
    return step
  done = first

  def call(state: Any, images: Any, labels: Any) -> tuple[Any, Any]:
    nonlocal done
    done += 1
    if done % every:
      return step(state, images, labels)
    return _twice(step, state, images, labels, number=done)

  return call


def _twice(
  step: Step, state: Any, images: Any, labels: Any, *, number: int
) -> tuple[Any, Any]:
  """The result of a step, once it has come out the same twice."""
  before = _digests(state)
  copy = jax.tree.map(_copied, state)
  found = _unlike(before, _digests(copy), "differs in a copy of it")
  first = _digests(step(copy, images, labels))
  del copy
  result = step(state, images, labels)
  second = _digests(result)
  found += _unlike(first, second, "differs when computed again")
  found += _split(second) + _split(_of_all_processes(second))
  # All must end, and say the same.
  everywhere = [one for part in distributed.gathered(found) for one in part]
  everywhere = [*dict.fromkeys(everywhere)]
  if everywhere:
    raise CorruptionError(_complaint(number, everywhere))
  logger.info("step %d came out the same twice, on all devices", number)
  return result


def _complaint(number: int, found: Sequence[str]) -> str:
  more = len(found) - _NAMED
  return (
    f"step {number} was computed twice, and a device computes wrong:"
    f" {'; '.join(found[:_NAMED])}"
    + (f"; and {more} more" if more > 0 else "")
    + ". Nothing of it was saved. Do without that device; the same command"
    " again goes on from the last checkpoint"
  )


def _copied(array: jax.Array) -> jax.Array:
  """A copy on the same devices, each part of it made where it lies."""
  parts = [jnp.copy(shard.data) for shard in array.addressable_shards]
  return jax.make_array_from_single_device_arrays(
    array.shape, array.sharding, parts
  )


def _digests(tree: Any) -> dict[_Piece, int]:
  """A digest of what each device of this process holds of each array."""
  leaves = digest.named_leaves(tree)
  rows = _on_each_device([*leaves.values()])
  found = {}
  for shard in rows.addressable_shards:
    values = np.asarray(shard.data)[0]
    for (path, leaf), value in zip(leaves.items(), values, strict=True):
      where = leaf.sharding.devices_indices_map(leaf.shape)[shard.device]
      piece = _Piece(path, str(where), _name(shard.device))
      found[piece] = int(value)
  return found


def _on_each_device(leaves: Sequence[jax.Array]) -> jax.Array:
  """Digests uint32 [devices, leaves], each row made on its own device."""
  shardings: list[Any] = [leaf.sharding for leaf in leaves]
  mesh, specs = shardings[0].mesh, tuple(one.spec for one in shardings)
  return _digester(mesh, specs)(*leaves)


@functools.cache
def _digester(
  mesh: jax.sharding.Mesh, specs: tuple[jax.sharding.PartitionSpec, ...]
) -> Callable[..., jax.Array]:
  """One program for all arrays: each device digests what it holds itself."""

  def on_device(*parts: jax.Array) -> jax.Array:
    return jnp.stack([digest.digest(part) for part in parts])[None]

  split = jax.shard_map(
    on_device,
    mesh=mesh,
    in_specs=specs,
    out_specs=jax.P(mesh.axis_names),
    # Copies of one part are not taken for equal here.
    check_vma=False,
  )
  return jax.jit(split)


def _name(device: Any) -> str:
  who = f" of {distributed.name(distributed.index())}"
  return f"device {device.id} ({device.device_kind})" + (
    who if distributed.count() > 1 else ""
  )


def _of_all_processes(found: Mapping[_Piece, int]) -> dict[_Piece, int]:
  """Of each process one copy of each part."""
  own = {(piece.leaf, piece.part): piece for piece in reversed([*found])}
  sent = [[*piece, found[piece]] for piece in own.values()]
  return {
    _Piece(*names): value
    for part in distributed.gathered(sent)
    for *names, value in part
  }


def _unlike(
  first: Mapping[_Piece, int], second: Mapping[_Piece, int], how: str
) -> list[str]:
  return [
    f"{piece.device}: {piece.leaf} {how}"
    for piece, value in first.items()
    if second[piece] != value
  ]


def _split(found: Mapping[_Piece, int]) -> list[str]:
  """Copies of one part that are not alike: those that differ from the most."""
  copies: dict[tuple[str, str], dict[str, int]] = collections.defaultdict(dict)
  for piece, value in found.items():
    copies[piece.leaf, piece.part][piece.device] = value
  return [
    f"{device}: {leaf} differs from its copies on other devices"
    for (leaf, _), values in copies.items()
    for device in _odd_ones(values)
  ]


def _odd_ones(values: Mapping[str, int]) -> Iterator[str]:
  counts = collections.Counter(values.values())
  if len(counts) == 1:
    return
  usual, times = counts.most_common(1)[0]
  # One against one: nobody knows which.
  tie = [*counts.values()].count(times) > 1
  for device, value in values.items():
    if tie or value != usual:
      yield device
