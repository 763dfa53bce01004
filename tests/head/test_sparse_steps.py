"""Steps of a head with a sparse softmax: many, narrow, skipped, in place."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import heads, platforms, sparse_heads

from facejax.head import api, storage, supports
from facejax.runtime import mesh as mesh_lib


def steps(implementation, shape, tx, count=10):
  """Losses and prototypes after steps with embeddings that change."""
  problem, mesh = heads.problem(101), platforms.make_mesh(*shape)
  head = api.Head(
    sparse_heads.HEADS["cosface"],
    101,
    mesh,
    tx=tx,
    implementation=implementation,
    block_size=16,
  )
  w, x = heads.place(problem, mesh)
  state = api.HeadState(w, tx.init(w))
  step, losses = jax.jit(head.update), []
  for _ in range(count):
    done = step(state, x, problem.labels)
    state, x = done.state, x - 2.0 * done.d_embeddings
    losses.append(done.output.loss)
  return jax.device_get((losses, state.prototypes[:101]))


@pytest.mark.parametrize("shape", heads.MESHES)
@pytest.mark.parametrize(
  ("implementation", "tx"),
  [("sparse", sparse_heads.SGD), ("fused", heads.OPTIMIZERS["momentum"])],
)
def test_ten_steps_equal_the_dense(implementation, tx, shape):
  losses, w = steps(implementation, shape, tx)
  wanted_losses, wanted = steps("dense", (1, 1), tx)
  np.testing.assert_allclose(losses, wanted_losses, rtol=1e-3, atol=1e-3)
  heads.close(w, wanted, 1e-4)


@pytest.mark.parametrize(
  ("shape", "dtype"),
  [((1, 1), "bfloat16"), ((8, 2), "bfloat16"), ((2, 2), "float8")],
)
def test_narrow_storage(shape, dtype):
  options = {"tx": heads.DECAY, "head": sparse_heads.HEADS["cosface"]}
  options |= {"implementation": "sparse", "dtype": dtype}
  key = jax.random.key(7)
  done, w, _ = heads.step(
    sparse_heads.PROBLEMS["untrained"], shape, key=key, **options
  )
  rounded = np.asarray(storage.load(jnp.asarray(w)))[:403]
  problem = sparse_heads.PROBLEMS["untrained"]._replace(prototypes=rounded)
  loss, p, (_, dx) = sparse_heads.oracle(problem, sparse_heads.HEADS["cosface"])
  sparse_heads.check(done.output, loss, p)
  heads.close(done.d_embeddings, dx, 3e-5)
  again, *_ = heads.step(
    sparse_heads.PROBLEMS["untrained"], shape, key=key, **options
  )
  np.testing.assert_array_equal(again.state.prototypes, done.state.prototypes)
  assert len(heads.changed_rows(done.state.prototypes, w)) < 200


@pytest.mark.parametrize("shape", [(1, 1), (8, 2)])
def test_products_of_bfloat16(shape):
  """Off by what both factors are rounded by, and no class is lost by it."""
  head, problem = (
    sparse_heads.HEADS["arcface"],
    sparse_heads.PROBLEMS["converged"],
  )
  rounded = problem._replace(
    prototypes=np.float32(jnp.asarray(problem.prototypes, jnp.bfloat16))
  )
  loss, _, (_, dx) = sparse_heads.oracle(rounded, head)
  done, *_ = heads.step(
    rounded,
    shape,
    tx=sparse_heads.SGD,
    head=head,
    implementation="sparse",
    precision="bfloat16",
  )
  dense, *_ = heads.step(
    rounded,
    shape,
    tx=sparse_heads.SGD,
    head=head,
    implementation="fused",
    precision="bfloat16",
  )
  np.testing.assert_allclose(done.output.loss, dense.output.loss, atol=1e-4)
  np.testing.assert_array_equal(done.output.support, dense.output.support)
  # A logit of 64 is off by 64 / 256 at most.
  np.testing.assert_allclose(done.output.loss, loss, atol=0.5)
  heads.close(done.d_embeddings, dx, 0.5)
  heads.close(done.d_embeddings, dense.d_embeddings, 1e-4)


def test_a_loss_that_is_not_finite_changes_nothing():
  mesh = mesh_lib.make_mesh(devices=2)
  head = api.Head(
    sparse_heads.HEADS["cosface"],
    403,
    mesh,
    tx=sparse_heads.SGD,
    implementation="sparse",
  )
  w, x = heads.place(sparse_heads.PROBLEMS["untrained"], mesh)
  step = jax.jit(head.update)
  labels = sparse_heads.PROBLEMS["untrained"].labels
  state = api.HeadState(w, sparse_heads.SGD.init(w))
  done = step(state, x.at[3].set(jnp.nan), labels, finite_with=0.0)
  assert np.isnan(done.output.loss[3])
  np.testing.assert_array_equal(done.state.prototypes, w)


def test_nothing_of_the_size_of_all_logits(monkeypatch):
  monkeypatch.setattr(supports, "_KEPT_BYTES", 2**16)
  rows, dim, batch = 20_000, 32, 64
  mesh = mesh_lib.make_mesh(devices=1)
  tx = heads.OPTIMIZERS["momentum"]
  head = api.Head(
    sparse_heads.HEADS["cosface"], rows, mesh, tx=tx, implementation="sparse"
  )
  w, x, labels = heads.abstract(rows, dim, batch, mesh)
  kept: Any = w, jax.eval_shape(tx.init, w)
  state = api.HeadState(*kept)
  compiled = jax.jit(head.update, donate_argnums=0).lower(state, x, labels)
  temporaries = heads.check_compiled(
    compiled.compile(), rows=rows, dim=dim, batch=batch
  )
  # Of which 2 batch / 4 bytes a class are maxima of groups of 4.
  assert temporaries < rows * (batch + 24) + 2**21
