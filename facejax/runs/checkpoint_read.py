"""Reading one checkpoint: its record first, then its arrays, then their digests.

`facejax.runs.checkpoint` says which one.
"""

import dataclasses
import errno
import json
import math
import os
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from facejax.runs import digest, orbax_noise
from facejax.runtime import text_lines

PyTree = Any

_SEAL = "crc32"
# Bytes of arrays that are read together, and wait in the memory of the host; one
# that is larger is read alone.
_READ_AT_ONCE = 2**28
_PIECE = 2**26  # bytes of an array that are compressed together


@dataclasses.dataclass(frozen=True)
class Restored:
  """What `Checkpoints.restore` read: `metadata` is what `save` was given."""

  step: int
  state: PyTree
  metadata: Mapping[str, Any]


class DamagedCheckpointError(OSError):
  """A checkpoint that cannot be read, or whose values have changed."""


def read(
  path: str,
  like: PyTree | Callable[[Mapping[str, Any]], PyTree],
  *,
  resizable: Callable[[str], bool],
  partial: bool,
  accept: Callable[[Mapping[str, Any]], None],
) -> tuple[PyTree, Mapping[str, Any]]:
  """The state at a path and its metadata; see `Checkpoints.restore`.

  Raises:
    DamagedCheckpointError: it cannot be read, or has changed.
    ValueError: it is another kind of state, or `accept` refuses it.
  """
  record = read_record(path)
  accept(record["metadata"])
  if callable(like):
    like = like(record)
  wanted = digest.named_leaves(like)
  try:
    digest.check_layout(
      record["leaves"], wanted, resizable=resizable, partial=partial
    )
  except ValueError as error:
    raise ValueError(f"{path} holds another kind of state: {error}") from None
  arrays = _read_arrays(path, wanted)
  changed = digest.changed_leaves(record["leaves"], arrays)
  if changed:
    raise DamagedCheckpointError(
      f"{len(changed)} of {len(arrays)} arrays differ from what was saved, or"
      f" lost rows that were not zero: {', '.join(changed[:3])}"
    )
  leaves = [arrays[name] for name in wanted]
  state = jax.tree.unflatten(jax.tree.structure(like), leaves)
  return state, record["metadata"]


def read_record(path: str) -> Mapping[str, Any]:
  """What was stored beside the arrays: leaves, metrics, metadata.

  Raises:
    DamagedCheckpointError: it cannot be read.
  """
  try:
    record = ocp.metadata(path).custom_metadata
  except Exception as error:
    raise DamagedCheckpointError(summary(error)) from error
  if not isinstance(record, Mapping) or "leaves" not in record:
    raise DamagedCheckpointError("the record of digests is not readable")
  # Older ones have no seal.
  if record.get(_SEAL, seal := _seal(record)) != seal:
    raise DamagedCheckpointError("the record of digests has changed")
  return record


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
  """A record with a digest of its own, to be stored beside the arrays."""
  return {**record, _SEAL: _seal(record)}


def _seal(record: Mapping[str, Any]) -> int:
  text = json.dumps(
    {k: v for k, v in record.items() if k != _SEAL}, sort_keys=True
  )
  return zlib.crc32(text.encode())


def _read_arrays(path: str, wanted: Mapping[str, Any]) -> dict[str, jax.Array]:
  if not wanted:  # Orbax takes it for another kind of tree
    return {}
  anywhere = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  like = {
    k: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding or anywhere)
    for k, x in wanted.items()
  }
  context = ocp.Context()
  context.array.loading.enable_padding_and_truncation = True
  context.pytree.loading.partial_load = True
  largest = max(math.prod(x.shape) * x.dtype.itemsize for x in like.values())
  # More than it asks for, also where rows are added.
  most = max(_READ_AT_ONCE, largest + largest // 8 + 2**20)
  context.memory.read_concurrent_bytes = most
  with orbax_noise.stray_reads_ignored():
    try:
      with context:
        return ocp.load(path, like)
    except Exception as error:
      reason = summary(error)
    orbax_noise.let_stray_reads_end()
  raise DamagedCheckpointError(reason)


def summary(error: Exception) -> str:
  """The first line of what is at the bottom of an error."""
  cause: BaseException = error
  while cause.__cause__ is not None:
    cause = cause.__cause__
  text = text_lines.first_line(cause)
  # A long line that names the cause at its end, or not at all.
  if text.startswith("RESOURCE_EXHAUSTED: ") and "riting" in text:
    return os.strerror(errno.ENOSPC)
  return text


def in_pieces() -> ocp.Context:
  """How arrays are written: whoever reads one holds it and a piece, no more."""
  context = ocp.Context()
  context.array.saving.storage_options.chunk_byte_size = _PIECE
  return context
