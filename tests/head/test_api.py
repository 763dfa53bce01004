"""The class-sharded head against its dense specification."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import heads

from facejax.head import api, objective, storage
from facejax.losses import margins
from facejax.runtime import mesh as mesh_lib


@pytest.mark.smoke
@pytest.mark.accelerator
@pytest.mark.parametrize(
  ("implementation", "num_classes", "scale", "shape"),
  [
    ("chunked", 1183, 8.0, (8, 8)),
    ("chunked", 50, 64.0, (2, 2)),
    pytest.param(
      *("chunked", 50, 256.0, (8, 8)), marks=pytest.mark.as_users_compile
    ),
    ("dense", 7, 30.0, (8, 2)),
    ("dense", 50, 256.0, (1, 1)),
  ],
)
def test_implementations_equal_float64(
  implementation, num_classes, scale, shape
):
  options = {"objective": objective.Objective(heads.COSFACE_MARGIN, scale)}
  arrays = heads.problem(num_classes)
  actual = heads.evaluate(
    arrays, shape, implementation=implementation, **options
  )
  heads.check(actual, heads.float64(arrays, **options))


@pytest.mark.accelerator
def test_bfloat16_operands_change_the_loss_little():
  options = {"objective": objective.Objective(heads.COSFACE_MARGIN, 16.0)}
  arrays = heads.problem(50)
  out, gradients = heads.evaluate(
    arrays, (2, 2), precision="bfloat16", **options
  )
  want, wanted = heads.float64(arrays, **options)
  difference = np.abs(out.loss - want.loss)
  assert 1e-5 < difference.max() < 16 * 2**-7
  for actual, right in zip(gradients[:2], wanted[:2], strict=True):
    heads.close(actual, right, share=0.05)


@pytest.mark.parametrize(
  ("shape", "options"),
  [
    ((2, 2), {}),
    ((8, 8), {}),
    ((8, 2), {"centers": 3}),
    ((8, 8), {"bias": True}),
    ((8, 2), {"dtype": "bfloat16"}),
  ],
  ids=str,
)
def test_initial_prototypes_do_not_depend_on_the_mesh(shape, options):
  def draw(shape, count):
    mesh = mesh_lib.make_mesh(devices=shape[0], model=shape[1])
    init = functools.partial(
      api.init_prototypes, num_classes=count, dim=16, mesh=mesh, **options
    )
    rows = jax.jit(init)(jax.random.key(3))
    held = rows.addressable_shards[0].data.shape[0]
    assert held * shape[1] == rows.shape[0]
    return np.asarray(storage.load(rows))

  alone = draw((1, 1), 1183)
  rows = draw(shape, 1183)
  np.testing.assert_array_equal(rows[:1183], alone)
  assert not rows[1183:].any()
  # More classes leave the rows of the first ones as they are.
  np.testing.assert_array_equal(draw(shape, 2000)[:1183], alone)
  if options.get("bias"):
    assert alone.shape == (1183, 17) and not alone[:, 16].any()
    alone = alone[:, :16]
  assert alone.std() == pytest.approx(0.01, rel=0.02)
  assert abs(alone.mean()) < 3e-4
  assert np.unique(alone.reshape(-1, 16), axis=0).shape[0] == alone.size // 16


def test_optimizer_state_of_class_rows_is_kept_as_told():
  prototypes = storage.encode(jnp.ones((5, 3)), "bfloat16")
  tx = optax.adagrad(optax.constant_schedule(0.1), 0.1)
  mesh = mesh_lib.make_mesh(devices=1)
  for dtype, kind in (("float32", np.float32), ("bfloat16", np.uint16)):
    head = api.Head(heads.COSFACE, 5, mesh, tx=tx, optimizer_storage=dtype)
    state = head.init_optimizer(prototypes)
    rows, count = jax.tree.leaves(state)
    assert rows.dtype == kind and rows.shape == (5, 3)
    np.testing.assert_allclose(storage.load(rows), 0.1, rtol=2**-8)
    assert count.dtype == np.int32 and count == 0


def test_a_problem_of_one_class_costs_nothing():
  arrays = heads.problem(1)
  for implementation in ("chunked", "dense"):
    out, gradients = heads.evaluate(
      arrays,
      (2, 2),
      implementation=implementation,
      objective=objective.Objective(heads.COSFACE_MARGIN, 64.0),
    )
    for values in (out.loss, *gradients[:2]):
      np.testing.assert_array_equal(values, 0)
    assert out.correct.all()


def test_errors_name_the_value():
  arrays = heads.problem(5)
  options = {"objective": objective.Objective(margins.nsl, 1.0)}
  with pytest.raises(ValueError, match="'chunky': choose one of"):
    heads.evaluate(arrays, implementation="chunky", **options)
  mesh = mesh_lib.make_mesh(devices=1)
  head = functools.partial(api.head_loss, mesh=mesh, **options)
  with pytest.raises(ValueError, match="5 rows, fewer than num_classes=6"):
    head(*arrays[:3], num_classes=6)
  narrow = storage.encode(jnp.asarray(arrays.prototypes), "bfloat16")
  for implementation in ("chunked", "dense"):
    with pytest.raises(
      ValueError, match=f"'{implementation}' needs float32 prototypes"
    ):
      head(narrow, *arrays[1:3], num_classes=5, implementation=implementation)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"scale": 0.0}, r"scale=0.0 is out of range: allowed is \(0, inf\)"),
    ({"scale": -1.0}, "scale=-1.0"),
    ({"negative": lambda c, t: c, "unit_prototypes": False}, "needs cosines"),
    ({"bias": True, "scale": None}, "bias needs scale=None"),
    ({"bias": True, "unit_prototypes": False}, "bias needs scale=None"),
  ],
)
def test_impossible_objectives_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    objective.Objective(margins.nsl, **options)


def make(**options):
  """A head of nine classes on one device."""
  mesh = options.pop("mesh", None) or mesh_lib.make_mesh(devices=1)
  loss = options.pop("objective", heads.COSFACE)
  return api.Head(loss, options.pop("num_classes", 9), mesh, **options)


ONE_VS_ALL = objective.Objective(margins.nsl, 30.0, one_vs_all=(1.0, 1.0))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"implementation": "fast"}, "implementation='fast': choose one of"),
    ({"precision": "float16"}, "precision='float16': choose one of"),
    ({"storage": "int8"}, "^storage='int8': choose one of"),
    ({"optimizer_storage": "int8"}, "optimizer_storage='int8': choose one"),
    ({"num_classes": 0}, "num_classes=0: must be 1 to 2,147,418,112"),
    ({"num_classes": 2**31}, "num_classes=2147483648: must be 1 to"),
    ({"rate": 0.0}, r"rate=0.0: .* must be in \(0, 1\]"),
    ({"rate": float("nan")}, "rate=nan"),
    ({"block_size": 0}, "block_size=0: must be 1 or more, or None"),
    ({"saved_bytes": -1}, "saved_bytes=-1: must be 0 or more"),
    ({"centers": 0}, "centers=0: must be 1 or more"),
    (
      {"implementation": "sparse", "objective": ONE_VS_ALL},
      "'sparse' needs a softmax: .* use fused or partial_fc",
    ),
    (
      {"implementation": "chunked", "storage": "bfloat16"},
      "'chunked' keeps its prototypes in float32, not bfloat16: use fused",
    ),
    (
      {"implementation": "dense", "optimizer_storage": "bfloat16"},
      "'dense' keeps its state in float32, not bfloat16: use fused",
    ),
  ],
)
def test_impossible_heads_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    make(**options)


def test_a_mesh_without_the_axes_is_refused():
  mesh = jax.make_mesh((1,), ("batch",), (jax.sharding.AxisType.Auto,))
  with pytest.raises(ValueError, match="axes .'batch',.: needs 'data' and"):
    make(mesh=mesh)


def test_a_head_without_an_optimizer_has_a_loss_alone():
  arrays, head = heads.problem(9), make()
  out = head.loss(*arrays[:3])
  want, _ = heads.float64(arrays, objective=heads.COSFACE)
  np.testing.assert_allclose(out.loss, want.loss, rtol=1e-5, atol=1e-6)
  for take_step in (
    lambda: head.init(jax.random.key(0), dim=12),
    lambda: head.update(api.HeadState(arrays.prototypes, ()), *arrays[1:3]),
  ):
    with pytest.raises(ValueError, match="tx=None: .* build it with tx"):
      take_step()


def test_fewer_rows_than_classes_are_refused():
  arrays, head = heads.problem(9), make(num_classes=10, tx=optax.sgd(0.1))
  message = "9 rows, fewer than num_classes=10"
  with pytest.raises(ValueError, match=message):
    head.loss(*arrays[:3])
  with pytest.raises(ValueError, match=message):
    head.update(api.HeadState(arrays.prototypes, ()), *arrays[1:3])


@pytest.mark.parametrize("implementation", ["fused", "partial_fc", "sparse"])
def test_any_head_has_the_exact_loss(implementation):
  """All classes count in it, whatever a step samples."""
  arrays = heads.problem(50)
  actual = heads.evaluate(
    arrays,
    (2, 2),
    objective=heads.COSFACE,
    implementation=implementation,
    saved_bytes=10**6,
    block_size=10,
  )
  heads.check(actual, heads.float64(arrays, objective=heads.COSFACE))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8"])
@pytest.mark.parametrize("shape", heads.MESHES)
def test_the_targets_cosine_needs_no_loss(dtype, shape):
  arrays = heads.problem(50)
  mesh = mesh_lib.make_mesh(devices=shape[0], model=shape[1])
  head = api.Head(heads.COSFACE, 50, mesh, storage=dtype)
  w, x = heads.place(arrays, mesh)
  kept = storage.encode(w, dtype)
  values = np.asarray(storage.load(kept))[:50]
  cosine = jax.jit(head.target_cosine)(kept, x, arrays.labels)
  want, _ = heads.float64(
    arrays._replace(prototypes=values), objective=heads.COSFACE
  )
  np.testing.assert_allclose(cosine, want.target_cosine, atol=1e-6)


def test_equal_heads_share_a_program():
  """A head is static: built again, it compiles nothing again."""
  tx, mesh = optax.sgd(0.1), mesh_lib.make_mesh(devices=1)
  arrays, traced = heads.problem(9), []

  @functools.partial(jax.jit, static_argnums=0)
  def loss(head, w, x, y):
    traced.append(head)
    return head.loss(w, x, y)

  for _ in range(2):
    loss(make(mesh=mesh, tx=tx), *arrays[:3])
  assert len(traced) == 1


def test_short_spellings_build_a_head():
  mesh = mesh_lib.make_mesh(devices=2)
  loss = objective.Objective(
    margins.nsl, None, unit_prototypes=False, bias=True
  )
  head = api.Head(loss, 9, mesh, implementation="dense", centers=2)
  key = jax.random.key(1)
  start = api.init_prototypes(
    key, num_classes=9, dim=12, mesh=mesh, centers=2, bias=True
  )
  np.testing.assert_array_equal(start, head.init_prototypes(key, dim=12))
  arrays = heads.problem(9)
  out = api.head_loss(
    start,
    *arrays[1:3],
    objective=loss,
    num_classes=9,
    mesh=mesh,
    implementation="dense",
  )
  want = head.loss(start, *arrays[1:3])
  jax.tree.map(np.testing.assert_array_equal, out, want)


@pytest.mark.parametrize("implementation", ["fused", "chunked", "sparse"])
def test_one_image_on_eight_devices_is_a_sentence(implementation):
  mesh = mesh_lib.make_mesh(devices=8)
  head = api.Head(
    heads.COSFACE, 32, mesh, implementation=implementation, tx=optax.sgd(0.1)
  )
  state = head.init(jax.random.key(0), dim=4)
  image, label = jnp.ones((1, 4)), jnp.zeros(1, jnp.int32)
  for call in (
    lambda: head.update(state, image, label),
    lambda: head.loss(state.prototypes, image, label),
    lambda: head.target_cosine(state.prototypes, image, label),
  ):
    with pytest.raises(ValueError, match="^batch=1 does not divide by the 8"):
      call()


@pytest.mark.parametrize(
  "implementation", ["fused", "chunked", "dense", "partial_fc", "sparse"]
)
def test_a_collapsed_net_gets_nothing_right(implementation):
  head = api.Head(
    objective.Objective(heads.COSFACE_MARGIN, 16.0),
    num_classes=50,
    mesh=mesh_lib.make_mesh(devices=2),
    tx=optax.sgd(0.1),
    implementation=implementation,
    rate=0.5,
  )
  state = head.init(jax.random.key(0), dim=8)
  embeddings, labels = jnp.zeros((8, 8)), jnp.arange(8)
  # One of them operation by operation, which takes far longer.
  update = head.update if implementation == "fused" else jax.jit(head.update)
  done = update(state, embeddings, labels, key=jax.random.key(1))
  assert not done.output.correct.any()
