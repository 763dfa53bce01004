"""A head that leaves out a step whose loss is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from facejax.head import api, memory
from facejax.runtime import mesh as mesh_lib

CLASSES, DIM, BATCH = 37, 8, 16
HEADS = {
  "fused": {"block_size": 4},
  "saved": {"block_size": 4, "saved_bytes": 1000},
  "narrow gradient": {"block_size": 4, "precision": "bfloat16"},
  "bfloat16": {"storage": "bfloat16", "optimizer_storage": "bfloat16"},
  "float8": {"storage": "float8", "optimizer_storage": "float8"},
  "partial_fc": {"implementation": "partial_fc", "rate": 0.5},
  "sparse": {"implementation": "sparse", "rate": 0.3},
  "chunked": {"implementation": "chunked"},
  "dense": {"implementation": "dense"},
}


@pytest.fixture(params=HEADS)
def head(request):
  mesh = mesh_lib.make_mesh(devices=4, model=2)
  # A count of steps beside the momentum.
  tx = optax.sgd(lambda count: 0.1 + 0.0 * count, momentum=0.9)
  options = HEADS[request.param]
  return api.Head(memory.COSFACE, CLASSES, mesh, tx=tx, **options)


def test_what_is_not_finite_moves_nothing_and_all_else_moves_as_ever(head):
  keys = jax.random.split(jax.random.key(0), 3)
  state = head.init(keys[0], dim=DIM)
  embeddings = jax.random.normal(keys[1], (BATCH, DIM))
  labels = jnp.arange(BATCH) % CLASSES

  @jax.jit
  def step(state, embeddings, penalty):
    return head.update(
      state, embeddings, labels, key=keys[2], finite_with=penalty
    )

  plain = jax.jit(
    lambda state: head.update(state, embeddings, labels, key=keys[2])
  )(state)
  taken = step(state, embeddings, jnp.float32(0.5))
  jax.tree.map(assert_near, taken.state, plain.state)
  assert (taken.state.prototypes != state.prototypes).any()
  bad = embeddings.at[3, 0].set(jnp.nan)
  for arguments in ((bad, 0.5), (embeddings, jnp.inf)):
    left = step(state, arguments[0], jnp.float32(arguments[1]))
    np.testing.assert_array_equal(left.state.prototypes, state.prototypes)
    jax.tree.map(check_left, left.state.optimizer, state.optimizer)


def assert_near(one, other):
  """To what two programs may differ by."""
  np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def check_left(new, old):
  """Momentum stays, a count of steps does not."""
  np.testing.assert_array_equal(new, old + (old.ndim == 0))
