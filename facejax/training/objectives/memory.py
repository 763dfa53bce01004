"""A memory of past embeddings: more partners than a batch holds.

A ring of the newest embeddings and labels. They are constants by the time that
they are partners: what the net made of an image some steps ago is near what it
would make of it now, once training has calmed down.

References:
  Wang et al., Cross-Batch Memory for Embedding Learning, 2020.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from facejax.losses import anchors
from facejax.runtime import typing


class Memory(NamedTuple):
  """Part of the train state; the same on all devices.

  Attributes:
    embeddings: [size, dim], not normalised.
    labels: int32 [size].
    filled: int32, how many rows hold one.
    place: int32, the row that is written next.
  """

  embeddings: typing.Array
  labels: typing.Array
  filled: typing.Array
  place: typing.Array


def empty(size: int, dim: int, dtype: Any) -> Memory:
  """A memory that holds nothing yet."""
  return Memory(
    jnp.zeros((size, dim), dtype),
    jnp.full(size, -1, jnp.int32),
    jnp.zeros((), jnp.int32),
    jnp.zeros((), jnp.int32),
  )


def past(memory: Memory, *, used: typing.ArrayLike) -> anchors.Past:
  """What it holds, as partners; nothing where not `used`, a bool scalar."""
  rows = jnp.arange(memory.labels.shape[0])
  held = (rows < memory.filled) & jnp.asarray(used)
  return anchors.Past(memory.embeddings, memory.labels, held)


def remember(
  memory: Memory, embeddings: typing.Array, labels: typing.Array
) -> Memory:
  """The memory with a batch in place of its oldest rows.

  Args:
    memory: see there.
    embeddings: [batch, dim], batch at most the memory's size.
    labels: int [batch].
  """
  size, batch = memory.labels.shape[0], labels.shape[0]
  rows = (memory.place + jnp.arange(batch, dtype=jnp.int32)) % size
  new = jax.lax.stop_gradient(embeddings).astype(memory.embeddings.dtype)
  return Memory(
    memory.embeddings.at[rows].set(new, unique_indices=True),
    memory.labels.at[rows].set(labels.astype(jnp.int32), unique_indices=True),
    jnp.minimum(memory.filled + batch, size).astype(jnp.int32),
    ((memory.place + batch) % size).astype(jnp.int32),
  )
