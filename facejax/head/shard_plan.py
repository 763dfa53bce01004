"""How a shard works through its classes, settled before a step is traced."""

import math
from typing import NamedTuple

from facejax.head import blocks
from facejax.head import objective as objective_lib
from facejax.head import options as options_lib
from facejax.runtime import mesh as mesh_lib


class Plan(NamedTuple):
  """A head on prototypes and a batch of known sizes; static.

  Attributes:
    head: its options.
    size: classes a block.
    running: keep a running maximum, where sums of e^z might overflow.
    platform: "cpu", "gpu" or "tpu", of the devices that it is compiled for.
    saved: the first so many blocks keep their e^z for the backward pass.
    narrow: blocks leave the chip as bfloat16, see `facejax.head.narrow`.
  """

  head: options_lib.Options
  size: int
  running: bool
  platform: str
  saved: int = 0
  narrow: bool = False

  @property
  def objective(self) -> objective_lib.Objective:
    """What to minimise."""
    return self.head.objective

  @property
  def narrow_gradient(self) -> bool:
    """Whether the backward pass is narrow too; it does not tell shares."""
    return self.narrow and self.head.implementation != "sparse"


def make_plan(
  head: options_lib.Options, shape: tuple[int, ...], batch: int
) -> Plan:
  """The plan of one shard.

  Args:
    head: its options.
    shape: of the prototypes on all shards, [rows, (k,) dim].
    batch: examples on all devices together.
  """
  # What one device sees: its shard of the classes, and the embeddings of its
  # row of the mesh, gathered over "model".
  rows = shape[0] // head.shards
  batch = batch // head.mesh.shape["data"]
  # |z_j| <= s bounds the sum over the classes by C e^s: while that fits, no
  # block needs the maximum of the blocks before it.
  running = not head.objective.sums_fit(head.num_classes)
  # What can be kept is e^z itself: it must need no shift, and its derivative
  # must be itself (not a sigmoid) and belong to one prototype a class.
  # A filter compares cosines, which are gone then.
  plain = not running and head.objective.one_vs_all is None and len(shape) == 2
  plain = plain and not head.objective.interclass_filtering_threshold
  plain = plain and head.objective.divergence is None
  room = head.saved_bytes if plain and head.implementation == "fused" else 0
  # On a GPU blocks go out to the memory between kernels and in again. There,
  # where products round their operands to bfloat16, e^z may be rounded too.
  platform = mesh_lib.platform(head.mesh)
  narrow = (
    plain
    and not room
    and head.narrow_operands
    and platform not in ("cpu", "tpu")
  )
  size = head.block_size or blocks.block_size(
    batch=batch,
    dim=math.prod(shape[1:]),
    rows=rows,
    platform=platform,
    narrow=narrow,
  )
  size = min(size, rows)
  # Whole blocks of float32 [size, batch]. A last one that starts early would
  # write over what the one before it saved, so it is not among them.
  saved = min(room // (4 * size * batch), rows // size)
  return Plan(head, size, running, platform, saved, narrow)
