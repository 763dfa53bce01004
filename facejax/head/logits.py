"""A block of logits, and what it is made of."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from facejax.head import blocks, reference
from facejax.head import objective as objective_lib
from facejax.runtime import typing

# exp() of the largest logit, summed over the classes, must fit float32
# (e^88.7), and that of the smallest must not vanish (e^-87.3).
_SAFE_EXPONENT = 87.0
# Squares of norms below this count as zero.
_TINY = 1e-24


class Plan(NamedTuple):
  """How a shard is worked through; static.

  Attributes:
    objective: what to minimise.
    num_classes: of all shards; later rows are padding.
    size: classes a block.
    running: keep a running maximum, where sums of e^z might overflow.
    bfloat16: operands of the matmuls in bfloat16; sums stay float32.
    saved: the first so many blocks keep their e^z for the backward pass.
  """

  objective: objective_lib.Objective
  num_classes: int
  size: int
  running: bool
  bfloat16: bool = False
  saved: int = 0


class Batch(NamedTuple):
  """The examples, as one shard sees them.

  Attributes:
    queries: [batch, dim] float32, s u.
    lengths: [batch], s.
    labels: int32 [batch], the target's row; outside [0, rows) where another
      shard owns it.
    valid: int32, how many rows are classes; later ones are padding.
    target_cosine: [batch], for `Objective.negative`.
    parameters: further arguments of `Objective.negative`.
  """

  queries: typing.Array
  lengths: typing.Array
  labels: typing.Array
  valid: typing.Array
  target_cosine: typing.Array
  parameters: dict[str, typing.Array]


def make_plan(
  shape: tuple[int, ...],
  batch: int,
  *,
  objective: objective_lib.Objective,
  num_classes: int,
  mesh: jax.sharding.Mesh,
  block_size: int | None = None,
  bfloat16: bool = False,
  saved_bytes: int = 0,
) -> Plan:
  """The plan of one shard, from prototypes of `shape` and a global batch."""
  rows = shape[0] // mesh.shape["model"]
  batch = batch // mesh.shape["data"]
  if block_size is not None and block_size < 1:
    raise ValueError(f"block_size={block_size}: must be 1 or more, or None")
  size = block_size or blocks.block_size(
    batch=batch,
    dim=math.prod(shape[1:]),
    rows=rows,
    platform=mesh.devices.flat[0].platform,
  )
  size = min(size, rows)
  running = not (
    objective.is_bounded and fits_float32(objective.scale or 0, num_classes)
  )
  can_save = not running and objective.one_vs_all is None and len(shape) == 2
  # Blocks that start early would write over what the one before them saved.
  saved = min(saved_bytes // (4 * size * batch), rows // size)
  return Plan(
    objective=objective,
    num_classes=num_classes,
    size=size,
    running=running,
    bfloat16=bfloat16,
    saved=saved if can_save else 0,
  )


def fits_float32(scale: float, num_classes: int) -> bool:
  """Whether the sum of e^(s c_j) needs no shift: |s c| <= s is known.

  >>> fits_float32(64.0, 1_000_000), fits_float32(128.0, 10)
  (True, False)
  """
  return scale + math.log(num_classes) < _SAFE_EXPONENT


def others(plan, batch):
  """(dots [size, batch], lengths, parameters) -> logits of other classes."""

  def others(dots, lengths, parameters):
    return plan.objective.others(
      dots,
      lengths[None, :],
      batch.target_cosine[None, :],
      {name: value[None, :] for name, value in parameters.items()},
    )

  return others


def dots(plan, w, queries, exponentials=None):
  """s n c [size, batch], which sub-centre it is, and 1 / ||w|| [size k].

  The norm multiplies the product, not w.
  """
  flat = w.reshape(-1, w.shape[-1])
  inverse = inverse_norms(flat)
  if exponentials is not None:
    return exponentials, None, inverse
  dots = matmul(plan, flat, queries.T)
  if plan.objective.unit_prototypes:
    dots = dots * inverse[:, None]
  if w.ndim == 2:
    return dots, None, inverse
  dots = dots.reshape(w.shape[0], w.shape[1], -1)
  return dots.max(axis=1), dots.argmax(axis=1), inverse


def spread(values, best, w):
  """[size, batch] to the sub-centres that were nearest, [size k, batch]."""
  if best is None:
    return values
  is_best = best[:, None, :] == jnp.arange(w.shape[1])[None, :, None]
  spread = jnp.where(is_best, values[:, None, :], 0)
  return spread.reshape(-1, values.shape[-1]).astype(values.dtype)


def inverse_norms(w):
  """1 / ||w||; 0 for a zero vector, whose gradient is then 0 too."""
  square = (w * w).sum(axis=-1)
  return jnp.where(square > _TINY, jax.lax.rsqrt(jnp.maximum(square, _TINY)), 0)


def matmul(plan, a, b):
  if plan.bfloat16:
    return jnp.matmul(
      a.astype(jnp.bfloat16),
      b.astype(jnp.bfloat16),
      preferred_element_type=jnp.float32,
    )
  return jnp.matmul(a, b, precision=reference.PRECISION)


def masks(block, batch):
  """Rows that count [size, 1], and where row and target meet."""
  counts = block.fresh & (block.rows < batch.valid)
  return counts[:, None], block.rows[:, None] == batch.labels[None, :]
