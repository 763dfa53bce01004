"""A block of logits, and what it is made of.

Blocks are class-major, [size, batch]: what belongs to a class (1 / ||w_j||, or
whether the row counts) is one number a row, what belongs to an example (its
log-sum-exp, its label) one number a column.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from facejax.head import blocks, products, shard_plan
from facejax.runtime import typing

# Squares of norms below this count as zero.
_TINY = 1e-24

# (s n c [size, batch], s [batch], further arguments [batch]) -> z [size, batch]
Others: TypeAlias = Callable[
  [typing.Array, typing.Array, dict[str, typing.Array]], typing.Array
]


class ShardBatch(NamedTuple):
  """The examples, as one shard sees them.

  Attributes:
    queries: [batch, dim], s u, of the type of the gradients' products.
    operand: the same, for the logits.
    lengths: [batch], s.
    labels: int32 [batch], the target's row; outside [0, rows) where another
      shard owns it.
    valid: int32, how many rows are classes; later ones are padding.
    target_cosine: [batch], for `Objective.negative`.
    parameters: further arguments of `Objective.negative`.
  """

  queries: typing.Array
  operand: products.Operand
  lengths: typing.Array
  labels: typing.Array
  valid: typing.Array
  target_cosine: typing.Array
  parameters: dict[str, typing.Array]


def others(plan: shard_plan.Plan, batch: ShardBatch) -> Others:
  r"""The function from products to the logits of other classes.

  .. math::
    (s n c)_{ji},\ s_i,\ 	ext{parameters}_i \mapsto
    z_{ji} = s_i n_j\, t(c_{ji}, c_{y_i})

  With what it is differentiated by as arguments, and c_y, whose gradient is not
  followed, as a constant.
  """

  def others(
    dots: typing.Array,
    lengths: typing.Array,
    parameters: dict[str, typing.Array],
  ) -> typing.Array:
    return plan.objective.others(
      dots,
      lengths[None, :],
      batch.target_cosine[None, :],
      {name: value[None, :] for name, value in parameters.items()},
    )

  return others


def dots(
  plan: shard_plan.Plan,
  w: typing.Array,
  queries: products.Operand,
  exponentials: typing.Array | None = None,
) -> tuple[typing.Array, typing.Array | None, typing.Array]:
  r"""Products of a block of prototypes with all queries.

  .. math::
    (s n c)_{ji} = \frac{w_j \cdot s_i u_i}{\lVert w_j \rVert}, \qquad
    (s n c)_{ji} = \max_k (s n c)_{jki} \text{ with sub-centres}

  (w_j . s_i u_i itself where prototypes are not normalised).

  Args:
    plan: see there.
    w: [size, (k,) dim] float32.
    queries: `ShardBatch.operand`, [batch, dim].
    exponentials: [size, batch], the e^z of the forward pass; they are then
      handed through in place of the products, and the matmul is saved.

  Returns:
    [size, batch]; int [size, batch], which sub-centre it is, or None with one
    a class; 1 / ||w|| [size k].
  """
  flat = w.reshape(-1, w.shape[-1])
  inverse = inverse_norms(flat, branch=plan.platform == "cpu")
  if exponentials is not None:
    return exponentials, None, inverse
  # w_j . s_i u_i, for the block's classes against the whole batch.
  dots = products.logits(products.operand(plan.head, flat), queries)
  if plan.objective.unit_prototypes:
    # The norm multiplies the product, not w: of w / ||w|| a block would be
    # written and read once more.
    dots = dots * inverse[:, None]
  if w.ndim == 2:
    return dots, None, inverse
  # The nearest sub-centre stands for its class.
  dots = dots.reshape(w.shape[0], w.shape[1], -1)
  return dots.max(axis=1), dots.argmax(axis=1), inverse


def spread(
  values: typing.Array, best: typing.Array | None, w: typing.Array
) -> typing.Array:
  """Values of classes, given to the sub-centres that stood for them.

  The derivative of the maximum in `dots`: others get 0.

  Args:
    values: [size, batch].
    best: int [size, batch], of `dots`; None with one prototype a class.
    w: [size, (k,) dim].

  Returns:
    [size k, batch].
  """
  if best is None:
    return values
  # [size, k, batch]: whether sub-centre k was the nearest of its class.
  is_best = best[:, None, :] == jnp.arange(w.shape[1])[None, :, None]
  spread = jnp.where(is_best, values[:, None, :], 0)
  return spread.reshape(-1, values.shape[-1]).astype(values.dtype)


def inverse_norms(
  w: typing.Array, *, keepdims: bool = False, branch: bool = False
) -> typing.Array:
  """1 / ||w|| over the last axis; 0 for a zero vector, so its gradient is too.

  For vectors of any finite length.

  Args:
    w: [..., dim].
    keepdims: keeps the last axis, of length 1.
    branch: reads w again only where squares leave float32: on a CPU each sum is a
      pass of its own.

  >>> inverse_norms(jnp.array([[0.0, 2.0], [0.0, 0.0]])).tolist()
  [0.5, 0.0]
  """
  square = (w * w).sum(axis=-1, keepdims=keepdims)
  # Where that is infinite, w is scaled down first; in the same pass over w, or
  # in a pass of its own that is seldom needed.
  down = 2.0 ** -(5 * jnp.finfo(w.dtype).maxexp // 8)

  def scaled_down() -> typing.Array:
    return ((w * down) * (w * down)).sum(axis=-1, keepdims=keepdims)

  if branch:
    finite = jnp.max(square) < jnp.inf
    small = jax.lax.cond(finite, lambda: square, scaled_down)
  else:
    small = scaled_down()
  # The inner maximum keeps the branch that is not taken finite.
  inverse = jax.lax.rsqrt(jnp.maximum(square, _TINY))
  long = square == jnp.inf
  inverse = jnp.where(
    long, jax.lax.rsqrt(jnp.where(long, small, 1)) * down, inverse
  )
  return jnp.where(square > _TINY, inverse, 0)


def counted(block: blocks.Block, batch: ShardBatch) -> typing.Array:
  """Rows that count, bool [size]: classes that are this block's own."""
  return block.fresh & (block.rows < batch.valid)


def masks(
  block: blocks.Block, batch: ShardBatch
) -> tuple[typing.Array, typing.Array]:
  """Rows that count, bool [size, 1], and where j = y_i, bool [size, batch].

  A row that only fills its block up, or is padding, counts for no example.
  """
  counts = counted(block, batch)
  return counts[:, None], block.rows[:, None] == batch.labels[None, :]
