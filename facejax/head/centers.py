"""Centres of the center loss, split by class over the devices like prototypes.

A step touches the rows of the batch's classes alone.
"""

import jax
import jax.numpy as jnp

from facejax.head import reference
from facejax.runtime import typing

P = jax.P


def take(
  centers: typing.Array, labels: typing.Array, *, mesh: jax.sharding.Mesh
) -> typing.Array:
  """The centre of each example's class, [batch, dim]; 0 where it has none.

  Args:
    centers: [rows, dim], sharded P("model").
    labels: int [batch]; outside [0, rows) they name no class.
    mesh: a mesh with axis "model".
  """

  def on_shard(centers: typing.Array, labels: typing.Array) -> typing.Array:
    row, mine = _local(centers, labels)
    # c_y where this shard owns y, else 0: one owner each, so the sum over the
    # shards is c_y.
    found = centers[jnp.where(mine, row, 0)]
    return jax.lax.psum(jnp.where(mine[:, None], found, 0), "model")

  return jax.shard_map(
    on_shard, mesh=mesh, in_specs=(P("model"), P()), out_specs=P()
  )(centers, labels)


def update(
  centers: typing.Array,
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  rate: float,
  mesh: jax.sharding.Mesh,
) -> typing.Array:
  r"""Moves the centres of a batch's classes towards its embeddings.

  With n_j examples of class j in the batch:

  .. math::
    c_j \leftarrow c_j - \alpha
      \frac{\sum_{i: y_i = j} (c_j - x_i)}{1 + n_j}

  Args:
    centers: [rows, dim], sharded P("model"); donate them to the enclosing jit.
    embeddings: [batch, dim].
    labels: int [batch].
    rate: alpha in [0, 1].
    mesh: a mesh with axis "model".

  References:
    Wen et al., A Discriminative Feature Learning Approach for Deep Face
      Recognition, 2016, Eq. 4.
  """

  def on_shard(
    centers: typing.Array, embeddings: typing.Array, labels: typing.Array
  ) -> typing.Array:
    row, mine = _local(centers, labels)
    own = centers[jnp.where(mine, row, 0)]
    # Examples of one class all work out, and write, the same new centre.
    # [batch, batch], not [batch, classes]: whether y_i = y_k.
    same = (labels[:, None] == labels[None, :]).astype(centers.dtype)
    # n_j, and the sum of x_i, over the examples of each one's class.
    count = same.sum(axis=1, keepdims=True)
    total = jnp.matmul(
      same, embeddings.astype(centers.dtype), precision=reference.PRECISION
    )
    # sum_i (c_j - x_i) = n_j c_j - sum_i x_i
    moved = own - rate * (count * own - total) / (1 + count)
    # Rows of other shards are written past the end, that is, nowhere.
    beyond = centers.shape[0]
    return centers.at[jnp.where(mine, row, beyond)].set(moved, mode="drop")

  return jax.shard_map(
    on_shard, mesh=mesh, in_specs=(P("model"), P(), P()), out_specs=P("model")
  )(centers, embeddings, labels)


def _local(
  centers: typing.Array, labels: typing.Array
) -> tuple[typing.Array, typing.Array]:
  """Rows of this shard, and which of the labels are its own."""
  rows = centers.shape[0]
  row = labels.astype(jnp.int32) - jax.lax.axis_index("model") * rows
  return row, (row >= 0) & (row < rows)
