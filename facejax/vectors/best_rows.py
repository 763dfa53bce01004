"""The best rows so far of each query, and a step that looks at another block.

Picking the best of a block costs little beside its products: one pass takes the
maximum of every group of neighbouring vectors, and only the groups with the
highest maxima are looked into.

Vectors are float32, bfloat16, or int8 with a scale a row. A product of int8 is a
sum of whole numbers, computed as such: any order gives the same.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from facejax.runtime import mesh as mesh_lib
from facejax.runtime import typing
from facejax.vectors import top_k

_NO_ROW = np.iinfo(np.int32).max
# Queries that the CPU multiplies one by one.
_FEW = 4
# What the CPU's widest registers take; without it XLA uses half of them.
_OPTIONS = {"cpu": {"xla_cpu_prefer_vector_width": 512}}

P = jax.P


class BestRows(NamedTuple):
  """The best of each device: [devices, queries, k], split by device."""

  scores: Any
  rows: Any


class VectorBlock(NamedTuple):
  """Vectors of all devices, split over them.

  Attributes:
    vectors: [rows, dim], float32, bfloat16 or int8.
    scales: float32 [rows], what int8 is to be multiplied with; None for 1.
    bars: float32 [rows], 0, or -inf for a row that may not be found; None where
      all may.
  """

  vectors: Any
  scales: Any = None
  bars: Any = None


def nothing(mesh: jax.sharding.Mesh, queries: int, k: int) -> BestRows:
  """Before the first step."""
  shape = (mesh.size, queries, k)
  split = mesh_lib.sharding(mesh, mesh_lib.BATCH)
  return BestRows(
    jnp.full(shape, -jnp.inf, jnp.float32, device=split),
    jnp.full(shape, _NO_ROW, jnp.int32, device=split),
  )


@functools.cache
def compiled(platform: str) -> Any:
  """`step`, for the devices of a platform."""
  options = _OPTIONS.get(platform)
  return jax.jit(step, static_argnames=("mesh",), compiler_options=options)


def step(
  best: BestRows,
  queries: typing.Array,
  block: VectorBlock,
  start: typing.Array,
  *,
  mesh: jax.sharding.Mesh,
) -> BestRows:
  """Takes another block of each device into account.

  Args:
    best: so far.
    queries: [queries, dim], float32, or int8 where the vectors are.
    block: the vectors.
    start: int32, the row of the first of them; higher than all before.
    mesh: the devices.
  """

  on_cpu = mesh.devices.flat[0].platform == "cpu"
  products = _products_on_cpu if on_cpu else _products

  def one_device(best, queries, block, start):
    size = len(block.vectors)
    first = start + size * jax.lax.axis_index(mesh.axis_names)
    scores = products(queries, block.vectors)
    if block.scales is not None:
      scores *= block.scales[None]
    if block.bars is not None:
      scores += block.bars[None]
    k = best.scores.shape[2]
    values, places = top_k.top_k(scores, min(k, size))
    # What was found before has lower rows, and comes first.
    values = jnp.concatenate([best.scores[0], values], axis=1)
    rows = jnp.concatenate([best.rows[0], first + places], axis=1)
    values, places = jax.lax.top_k(values, k)
    rows = jnp.take_along_axis(rows, places, axis=1)
    return BestRows(values[None], rows[None])

  split = mesh_lib.BATCH
  return jax.shard_map(
    one_device,
    mesh=mesh,
    in_specs=(BestRows(split, split), P(), split, P()),
    out_specs=BestRows(split, split),
  )(best, queries, block, start)


def _products(queries: typing.Array, vectors: typing.Array) -> typing.Array:
  """float32 [queries, rows]."""
  whole = vectors.dtype == jnp.int8
  return jax.lax.dot_general(
    queries,
    vectors if whole else vectors.astype(jnp.float32),
    (((1,), (1,)), ((), ())),
    precision=jax.lax.Precision.HIGHEST,
    preferred_element_type=jnp.int32 if whole else jnp.float32,
  ).astype(jnp.float32)


def _products_on_cpu(
  queries: typing.Array, vectors: typing.Array
) -> typing.Array:
  """The same, without a widened copy of the vectors where queries are few.

  As a matrix times a vector, written so, XLA widens the numbers on their way
  from the memory: those of int8 as quickly as it gives them.
  """
  if vectors.dtype == jnp.float32 or len(queries) > _FEW:
    return _products(queries, vectors)
  wider = jnp.int32 if vectors.dtype == jnp.int8 else jnp.float32
  queries, wide = queries.astype(wider), vectors.astype(wider)
  one_by_one = [
    jnp.matmul(queries[i : i + 1], wide.T, precision=jax.lax.Precision.HIGHEST)
    for i in range(len(queries))
  ]
  return jnp.concatenate(one_by_one).astype(jnp.float32)


def merged(best: BestRows, k: int) -> tuple[np.ndarray, np.ndarray]:
  """Scores and rows of all devices, whose rows interleave."""
  scores, rows = (np.concatenate(list(part), axis=1) for part in best)
  order = np.lexsort((rows, -scores), axis=1)[:, :k]
  return (
    np.take_along_axis(scores, order, axis=1),
    np.take_along_axis(rows, order, axis=1),
  )
