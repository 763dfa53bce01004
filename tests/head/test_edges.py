"""As many classes as int32 has ids for, without arrays of their size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import heads

from facejax.head import api, blocks, memory, options, sampling, storage
from facejax.runtime import mesh as mesh_lib

MOST = options.MAX_CLASSES


def shard(shards):
  """Rows of the last shard, and the class id of its first."""
  rows = -(-MOST // shards)
  return rows, (shards - 1) * rows


@pytest.mark.parametrize("shards", [1, 7, 8, 4096])
@pytest.mark.parametrize("rate", [1e-9, 1e-6])
def test_the_last_ids_are_drawn_and_none_past_them(shards, rate):
  rows, first = shard(shards)
  labels = jnp.array([MOST - 1, 0, first, MOST - 1, 5], jnp.int32)
  draw = functools.partial(
    sampling.draw, rate=rate, rows=rows, num_classes=MOST
  )
  found = jax.jit(draw)(jax.random.key(0), labels, first=jnp.int32(first))
  own = np.asarray(found)
  own = own[own >= 0].astype(np.int64)
  assert len(np.unique(own)) == len(own)
  assert (first + own).max() == MOST - 1  # the label
  assert {MOST - 1 - first, 0} <= set(own)
  sampled = len(own) - len(
    {MOST - 1, first} | ({0, 5} if first == 0 else set())
  )
  assert sampled <= (rows * rate + 2 if rate == 1e-6 else 3)
  assert sampled >= rows * rate / 2 - 2


@pytest.mark.parametrize("shards", [1, 7, 8])
@pytest.mark.parametrize("size", [512, 65_536, 100_000])
def test_the_last_block_ends_where_the_rows_do(shards, size):
  rows, first = shard(shards)
  walk = blocks.Walk(rows, size)
  last = walk.block(walk.count - 1)
  assert int(last.rows[-1]) == rows - 1 and int(last.start) == rows - size
  covered = (walk.count - 1) * size + int(last.fresh.sum())
  assert covered == rows
  # Class ids of the words that rounding draws.
  ids = np.asarray(first + last.rows, np.int64)
  assert (ids >= 0).all() and ids.max() == first + rows - 1
  key = jax.random.key(0)
  words = np.asarray(storage.row_words(key, jnp.asarray(ids[-3:], jnp.int32)))
  for number, word in zip(ids[-3:], words, strict=True):
    alone = jax.random.fold_in(key, jnp.uint32(number))
    assert jax.random.bits(alone, dtype=jnp.uint32) == word


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (8, 2)])
@pytest.mark.parametrize("implementation", ["fused", "partial_fc", "sparse"])
def test_a_step_of_all_ids_is_traced(shape, implementation):
  """Shapes alone: 516 bytes a class would be 1 TB."""
  mesh = mesh_lib.make_mesh(devices=shape[0], model=shape[1])
  head = api.Head(
    heads.COSFACE,
    MOST - 3,
    mesh,
    tx=memory.OPTIMIZERS["sgd"],
    implementation=implementation,
    rate=1e-4,
    storage="float8",
  )
  assert head.rows < 2**31 and head.rows % head.shards == 0
  memory.traced_step(head, dim=512, batch=64)
  with pytest.raises(ValueError, match="for class ids are int32"):
    api.Head(heads.COSFACE, MOST + 1, mesh)
