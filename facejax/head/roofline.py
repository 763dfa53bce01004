"""The least time that a step of the head can take on a chip."""

import math
from typing import NamedTuple

from facejax.head import options as options_lib
from facejax.head import storage
from facejax.runtime import topology


class Floor(NamedTuple):
  """Seconds a step, each if nothing else took any.

  Attributes:
    products: of the matrix unit.
    memory: of the memory's bandwidth.
  """

  products: float
  memory: float


def operations(head: options_lib.Options, *, dim: int, batch: int) -> int:
  """Products and sums of a step on each of the head's devices.

  Four products of 2 B C D operations: logits, logits again, and the gradients
  of both factors; a head that samples makes them for its share of the classes.
  Arguments as of `floor`.
  """
  return _operations(head, dim, batch, of_updated=3)


def asked_operations(head: options_lib.Options, *, dim: int, batch: int) -> int:
  """The same without the logits that are made again: what the loss asks for."""
  return _operations(head, dim, batch, of_updated=2)


def _operations(
  head: options_lib.Options, dim: int, batch: int, *, of_updated: int
) -> int:
  """One product of all classes, and so many of those that are updated."""
  first, updated = _classes(head, batch)
  seen = batch // head.mesh.shape["data"]
  return 2 * seen * dim * head.centers * (first + of_updated * updated)


def floor(
  head: options_lib.Options,
  *,
  dim: int,
  batch: int,
  state_bytes: int,
  chip: topology.Chip,
) -> Floor:
  """The floor of a step on each of the head's devices.

  Prototypes are read twice and written once, what the optimizer keeps is read
  and written once.

  Args:
    head: the options.
    dim: size of the embeddings.
    batch: examples a step, on all devices together.
    state_bytes: of prototypes and optimizer state, on one device.
    chip: what it is to run on.
  """
  rows = head.rows // head.shards
  first, updated = _classes(head, batch)
  each = head.centers * storage.row_bytes(dim, head.storage)
  moved = first * each + updated * 2 * state_bytes / rows
  logits_rate, rate = {
    "float32": (chip.float32_flops, chip.float32_flops),
    "bfloat16": (chip.flops, chip.flops),
    "float8": (chip.float8_flops, chip.flops),
  }[head.precision]
  total = operations(head, dim=dim, batch=batch)
  of_logits = _operations(head, dim, batch, of_updated=1)
  products = of_logits / logits_rate + (total - of_logits) / rate
  return Floor(products, moved / chip.bandwidth)


def _classes(head: options_lib.Options, batch: int) -> tuple[int, int]:
  """Classes of a device that the forward pass meets, and the backward pass."""
  rows = head.rows // head.shards
  if head.implementation not in ("partial_fc", "sparse"):
    return rows, rows
  # Of a sparse softmax, those of the batch at least: the others are few.
  rate = head.rate if head.objective.divergence is None else 0
  some = math.ceil(rate * rows) + batch // head.mesh.shape["data"]
  # Sparse reads all classes for the loss, and once more only some.
  return (some if head.implementation == "partial_fc" else rows), some
