"""The least time that a step of the head can take on a chip."""

import math
from typing import NamedTuple

from facejax.head import options as options_lib
from facejax.runtime import topology


class Floor(NamedTuple):
  """Seconds a step, each if nothing else took any.

  Attributes:
    products: of the matrix unit.
    memory: of the memory's bandwidth.
  """

  products: float
  memory: float


def floor(
  head: options_lib.Options,
  *,
  dim: int,
  batch: int,
  state_bytes: int,
  chip: topology.Chip,
) -> Floor:
  """The floor of a step on each of the head's devices.

  Four products of 2 B C D operations: logits, logits again, and the gradients
  of both factors; a head that samples makes them for its share of the classes.
  Prototypes are read twice and written once, what the optimizer keeps is read
  and written once.

  Args:
    head: the options.
    dim: size of the embeddings.
    batch: examples a step, on all devices together.
    state_bytes: of prototypes and optimizer state, on one device.
    chip: what it is to run on.
  """
  seen = batch // head.mesh.shape["data"]
  rows = head.rows // head.shards
  updated = rows
  if head.implementation in ("partial_fc", "sparse"):
    updated = math.ceil(head.rate * rows) + seen
  # Sparse reads all classes for the loss, and once more only some.
  first = updated if head.implementation == "partial_fc" else rows
  width = dim * head.centers
  operations = 2 * seen * width * (first + 3 * updated)
  peak = chip.flops if head.precision == "bfloat16" else chip.float32_flops
  prototypes = width * (2 if head.storage == "bfloat16" else 4)
  state = state_bytes / rows
  moved = first * prototypes + updated * 2 * state
  return Floor(operations / peak, moved / chip.bandwidth)
