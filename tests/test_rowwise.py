"""Optimizers whose step of a class depends on that class alone.

And steps on a few classes, for the tests of these.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import test_fused_update
import test_head

from facejax.head import api, rowwise, storage
from facejax.runtime import mesh as mesh_lib
from facejax.training import optim

OPTIMIZERS = test_fused_update.OPTIMIZERS
SCHEDULE = test_fused_update.SCHEDULE


def step(
  problem,
  shape=(1, 1),
  *,
  tx,
  head=test_fused_update.COSFACE,
  dtype="float32",
  **options,
):
  """A step from a state that is not 0, and where it started."""
  mesh = mesh_lib.make_mesh(devices=shape[0], model=shape[1])
  w, x = test_head.place(problem, mesh)
  by_class = rowwise.class_leaves(tx, w)
  state = jax.tree.map(
    lambda leaf, has_rows: jnp.sin(w) if has_rows else leaf,
    tx.init(w),
    by_class,
  )

  @jax.jit
  def run(w, state, x):
    return api.update(
      w,
      state,
      x,
      problem.labels,
      tx=tx,
      objective=head,
      num_classes=problem.prototypes.shape[0],
      mesh=mesh,
      block_size=10,
      **options,
    )

  w, *rows = (
    storage.encode(leaf, dtype)
    for leaf in (w, *rowwise.class_rows(state, by_class))
  )
  state = rowwise.with_class_rows(state, by_class, rows)
  return jax.device_get((run(w, state, x), w, state))


def changed_rows(after, before):
  """Numbers of the rows that differ in a bit."""
  differ = after.reshape(len(after), -1) != before.reshape(len(before), -1)
  return np.flatnonzero(differ.any(axis=1))


def momentum(state):
  """The state's only array with class rows."""
  (leaf,) = (leaf for leaf in jax.tree.leaves(state) if leaf.ndim)
  return leaf


@pytest.mark.parametrize(
  ("tx", "stage"),
  [
    (optim.sgd(SCHEDULE, clip_norm=5.0), "clip_by_global_norm"),
    # A bound that no ordinary gradient reaches, two chains deep.
    (
      optax.chain(optax.chain(optax.clip_by_global_norm(1e20)), optax.sgd(0.1)),
      "clip_by_global_norm",
    ),
    (optax.lamb(0.1), "scale_by_trust_ratio"),
    (optax.chain(optax.sgd(0.1), optax.add_noise(0.1, 0.5, 0)), "add_noise"),
    (optax.apply_if_finite(optax.sgd(0.1), 5), "apply_if_finite"),
    (
      optax.masked(optax.sgd(0.1), np.ones((101, 12), bool)),
      "masked",
    ),
  ],
)
def test_optimizers_that_mix_classes_are_named(tx, stage):
  with pytest.raises(ValueError, match=f"depends on others .in {stage}"):
    rowwise.require(tx, dim=12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_usual_optimizers_are_taken(name):
  rowwise.require(OPTIMIZERS[name], dim=12)


def test_leaves_are_told_by_growth_not_by_length():
  w = jnp.zeros((2, 3))
  keyed = optax.chain(optax.adam(0.1), optax.add_noise(0.1, 0.5, 0))
  flags = rowwise.class_leaves(keyed, w)
  assert jax.tree.leaves(flags).count(True) == 2
