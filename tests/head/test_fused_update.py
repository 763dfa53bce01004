"""The optimizer's step inside the loop, against the plain one."""

import functools

import jax
import numpy as np
import pytest
from helpers import heads, platforms

from facejax.head import api, objective, rowwise, shard_plan, storage
from facejax.runtime import mesh as mesh_lib

STEPS = 4
CLASSES = 101
ROOM = 4 * 20 * 16 * 2  # of two blocks, of 20 classes by 16 examples
UNBOUNDED = objective.Objective(
  heads.COSFACE_MARGIN, None, unit_prototypes=False, bias=True
)


@pytest.mark.accelerator
@pytest.mark.parametrize(
  ("name", "shape", "saved_bytes", "head", "centers"),
  [
    ("sgd", (8, 2), ROOM, heads.COSFACE, 1),
    ("decay", (2, 2), ROOM, heads.COSFACE, 1),
    ("momentum", (1, 1), ROOM, heads.COSFACE, 1),
    pytest.param(
      *("momentum", (8, 8), 0, heads.COSFACE, 3),
      marks=pytest.mark.as_users_compile,
    ),
    ("nesterov", (8, 2), 0, UNBOUNDED, 1),
    pytest.param(
      *("adagrad", (2, 1), ROOM, heads.COSFACE, 1),
      marks=pytest.mark.as_users_compile,
    ),
    ("adagrad", (1, 1), 0, heads.COSFACE, 3),
    ("adam", (1, 1), 10**9, heads.COSFACE, 1),
    ("adamw", (8, 2), 0, UNBOUNDED, 3),
    ("lion", (8, 8), 0, heads.COSFACE, 1),
  ],
)
def test_equals_plain_optax(name, shape, saved_bytes, head, centers):
  tx = heads.OPTIMIZERS[name]
  mesh = platforms.make_mesh(*shape)
  options = {"tx": tx, "block_size": 20, "saved_bytes": saved_bytes}

  batches = [
    heads.problem(CLASSES, centers=centers, dim=12 + head.bias, seed=seed)
    for seed in range(STEPS)
  ]
  embeddings = np.stack([batch.embeddings[:, :12] for batch in batches])
  labels = np.stack([batch.labels for batch in batches])

  @functools.partial(jax.jit, static_argnames="implementation")
  def train(w, *, implementation):
    built = api.Head(
      head, CLASSES, mesh, implementation=implementation, **options
    )

    def step(state, batch):
      result = built.update(state, *batch)
      return result.state, result[:3]

    start = api.HeadState(w, tx.init(w))
    return jax.lax.scan(step, start, (embeddings, labels))

  start, _ = heads.place(batches[0], mesh)
  actual, want = (
    jax.device_get(train(start, implementation=implementation))
    for implementation in ("fused", "dense")
  )
  jax.tree.map(
    functools.partial(
      np.testing.assert_allclose,
      rtol=platforms.allowed(1e-5),
      atol=platforms.allowed(1e-6),
    ),
    actual,
    want,
  )
  (prototypes, opt_state), _ = actual
  assert not prototypes[CLASSES:].any(), "padding moved"
  assert np.abs(prototypes - start).max() > 1e-3
  counts = [leaf for leaf in jax.tree.leaves(opt_state) if leaf.ndim == 0]
  assert bool(counts) == (name != "sgd")
  assert all(count == STEPS for count in counts)


def test_room_for_saving_is_kept_to():
  """Whole blocks only, as many as fit, where sums of e^z are plain."""
  mesh = mesh_lib.make_mesh(devices=8, model=2)

  def saved(objective, room, shape=(102, 12), **options):
    head = api.Head(
      objective, 101, mesh, block_size=20, saved_bytes=room, **options
    )
    return shard_plan.make_plan(head, shape, 64).saved

  each = 4 * 20 * 16  # float32, by the 64 / 4 examples of a device
  assert [saved(heads.COSFACE, n) for n in (0, each - 1, each, 10**9)] == [
    0,
    0,
    1,
    2,
  ]
  assert saved(heads.COSFACE, 10**9, shape=(102, 3, 12)) == 0
  assert saved(objective.Objective(heads.COSFACE_MARGIN, 256.0), 10**9) == 0
  assert saved(UNBOUNDED, 10**9) == 0
  for name in ("chunked", "partial_fc", "sparse"):
    assert saved(heads.COSFACE, 10**9, implementation=name) == 0


def compiled_step(tx, rows, *, dim=128, batch=512, shape=(1, 1), **options):
  """The program of a step; prototypes and state in `dtype`."""
  mesh = mesh_lib.make_mesh(devices=shape[0], model=shape[1])
  dtype = options.pop("dtype", "float32")
  w, x, y = heads.abstract(rows, dim, batch, mesh)
  head = api.Head(
    objective.Objective(heads.COSFACE_MARGIN, 64.0),
    rows,
    mesh,
    tx=tx,
    storage=dtype,
    optimizer_storage=dtype,
    **options,
  )

  def start(w):
    w = storage.encode(w, dtype)
    return api.HeadState(w, head.init_optimizer(w))

  flags = api.HeadState(True, rowwise.class_leaves(tx, w))
  state = jax.tree.map(
    lambda leaf, by_class: jax.ShapeDtypeStruct(
      leaf.shape,
      leaf.dtype,
      sharding=mesh_lib.sharding(
        mesh, mesh_lib.CLASSES if by_class else mesh_lib.REPLICATED
      ),
    ),
    jax.eval_shape(start, w),
    flags,
  )

  def step(state, x, y, key):
    return head.update(state, x, y, key=key)

  step = jax.jit(step, donate_argnums=0)
  return step.lower(state, x, y, jax.random.key(0)).compile()


@pytest.mark.program_of_users
@pytest.mark.parametrize("name", heads.OPTIMIZERS)
def test_works_in_place(name):
  rows = 64_000
  compiled = compiled_step(heads.OPTIMIZERS[name], rows)
  temporaries = heads.check_compiled(compiled, rows=rows, dim=128, batch=512)
  memory = compiled.memory_analysis()
  assert temporaries < 8e6
  # All of prototypes and state is reused, all else is as small as a batch.
  assert memory.alias_size_in_bytes >= 4 * rows * 128
  assert memory.output_size_in_bytes - memory.alias_size_in_bytes < 1e6


@pytest.mark.program_of_users
@pytest.mark.parametrize(
  ("options", "bytes_a_class"),
  [
    ({}, 0),
    ({"saved_bytes": 2**23}, 0),
    ({"dtype": "bfloat16"}, 0),
    ({"dtype": "float8"}, 0),
    ({"precision": "bfloat16"}, 0),
    (
      {"implementation": "partial_fc", "rate": 0.1, "dtype": "bfloat16"},
      1,
    ),
    ({"implementation": "sparse", "rate": 0.02}, 8),
  ],
  ids=str,
)
def test_memory_does_not_grow_with_the_classes(options, bytes_a_class):
  """But for a few numbers a class that is drawn or has a score."""
  # Numbers of a row, with those that are its scales.
  row = (
    storage.row_bytes(128, "float8") if "float8" in options.values() else 128
  )
  temporaries = []
  for rows in (64_000, 512_000):
    compiled = compiled_step(heads.OPTIMIZERS["momentum"], rows, **options)
    temporaries.append(
      heads.check_compiled(compiled, rows=rows, dim=row, batch=512)
    )
  small, large = temporaries
  growth = (large - small) / (512_000 - 64_000)
  assert growth <= bytes_a_class
  assert small < 8e6 + options.get("saved_bytes", 0) + 64_000 * bytes_a_class


@pytest.mark.program_of_users
def test_works_in_place_on_a_mesh_with_copies():
  compiled = compiled_step(heads.OPTIMIZERS["momentum"], 128_000, shape=(4, 2))
  temporaries = heads.check_compiled(compiled, rows=64_000, dim=128, batch=512)
  assert temporaries < 16e6
