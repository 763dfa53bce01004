"""The optimizer's step inside the loop, against the plain one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import test_chunked

from facejax import mesh as mesh_lib
from facejax import optim
from facejax.head import chunked, fused_update, rowwise

SCHEDULE = optim.make_schedule(
  "polynomial", learning_rate=0.1, total_steps=10, warmup_steps=2
)
OPTIMIZERS = {
  "sgd": optax.sgd(0.1),
  "momentum": optim.sgd(SCHEDULE, momentum=0.9, weight_decay=5e-4),
  "nesterov": optim.sgd(SCHEDULE, nesterov=True, weight_decay=5e-4),
  "adagrad": optax.adagrad(SCHEDULE),
  "adam": optax.adam(SCHEDULE),
  "adamw": optax.adamw(SCHEDULE, weight_decay=1e-2),
  # Its update reads the old momentum, not the new one.
  "lion": optax.lion(SCHEDULE),
}
STEPS = 4
CLASSES = 101


@pytest.mark.parametrize(
  ("name", "shape"),
  [
    ("momentum", (8, 8)),
    ("momentum", (8, 2)),
    ("nesterov", (2, 2)),
    ("adagrad", (2, 1)),
    ("adam", (1, 1)),
    ("adamw", (8, 2)),
  ],
)
def test_equals_plain_optax(name, shape):
  tx = OPTIMIZERS[name]
  mesh = mesh_lib.make_mesh(devices=shape[0], model=shape[1])
  options = {
    "margin": test_chunked.COSFACE,
    "scale": 30.0,
    "num_classes": CLASSES,
    "mesh": mesh,
    "block_size": 20,
  }

  @jax.jit
  def plain(w, state, x, y):
    def loss(w, x):
      out = chunked.margin_softmax(w, x, y, **options)
      return out.loss.mean(), out

    (dw, dx), out = jax.grad(loss, (0, 1), has_aux=True)(w, x)
    updates, state = tx.update(dw, state, w)
    return out, dx, optax.apply_updates(w, updates), state

  fused = jax.jit(
    functools.partial(fused_update.value_and_update, tx=tx, **options),
    donate_argnums=(0, 1),
  )
  prototypes, embeddings, _ = test_chunked.problem(CLASSES)
  w, _ = test_chunked.place(prototypes, embeddings, mesh)
  states = [(jnp.copy(w), tx.init(w)) for _ in range(2)]
  for step in range(STEPS):
    _, x, y = test_chunked.problem(CLASSES, seed=step)
    x, y = (
      jax.device_put(a, mesh_lib.sharding(mesh, mesh_lib.BATCH)) for a in (x, y)
    )
    results = [
      run(*state, x, y)
      for run, state in zip((plain, fused), states, strict=True)
    ]
    states = [result[2:] for result in results]
  want, actual = jax.device_get(results)
  assert not actual[2][CLASSES:].any(), "padding moved"
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
    actual,
    want,
  )
  assert np.abs(actual[2][:CLASSES] - prototypes).max() > 1e-3
  counts = [leaf for leaf in jax.tree.leaves(actual[3]) if leaf.ndim == 0]
  assert counts and all(count == STEPS for count in counts)


def compiled_step(tx, rows, *, dim=128, batch=512, shape=(1, 1)):
  mesh = mesh_lib.make_mesh(devices=shape[0], model=shape[1])
  w, x, y = test_chunked.abstract(rows, dim, batch, mesh)
  state = jax.tree.map(
    lambda leaf, by_class: jax.ShapeDtypeStruct(
      leaf.shape,
      leaf.dtype,
      sharding=mesh_lib.sharding(
        mesh, mesh_lib.CLASSES if by_class else mesh_lib.REPLICATED
      ),
    ),
    jax.eval_shape(tx.init, w),
    rowwise.class_leaves(tx, w),
  )
  step = functools.partial(
    fused_update.value_and_update,
    tx=tx,
    margin=test_chunked.COSFACE,
    scale=64.0,
    num_classes=rows,
    mesh=mesh,
  )
  return jax.jit(step, donate_argnums=(0, 1)).lower(w, state, x, y).compile()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_works_in_place(name):
  rows = 64_000
  compiled = compiled_step(OPTIMIZERS[name], rows)
  temporaries = test_chunked.check_compiled(
    compiled, rows=rows, dim=128, batch=512
  )
  memory = compiled.memory_analysis()
  assert temporaries < 8e6
  # All of prototypes and state is reused, all else is as small as a batch.
  assert memory.alias_size_in_bytes >= 4 * rows * 128
  assert memory.output_size_in_bytes - memory.alias_size_in_bytes < 1e6


def test_memory_does_not_grow_with_the_classes():
  small, large = (
    compiled_step(OPTIMIZERS["momentum"], rows).memory_analysis()
    for rows in (64_000, 512_000)
  )
  assert small.temp_size_in_bytes == large.temp_size_in_bytes


def test_works_in_place_on_a_mesh_with_copies():
  compiled = compiled_step(OPTIMIZERS["momentum"], 128_000, shape=(4, 2))
  temporaries = test_chunked.check_compiled(
    compiled, rows=64_000, dim=128, batch=512
  )
  assert temporaries < 16e6


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
