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
@pytest.mark.parametrize(
  ("implementation", "num_classes", "scale", "shape"),
  [
    ("chunked", 1183, 8.0, (8, 8)),
    ("chunked", 50, 64.0, (2, 2)),
    ("chunked", 50, 256.0, (8, 8)),
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
  for dtype, kind in (("float32", np.float32), ("bfloat16", np.uint16)):
    state = api.init_optimizer(tx, prototypes, dtype=dtype)
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
    ({"scale": 0.0}, "scale=0.0: must be above 0, or None"),
    ({"scale": -1.0}, "scale=-1.0"),
    ({"negative": lambda c, t: c, "unit_prototypes": False}, "needs cosines"),
    ({"bias": True, "scale": None}, "bias needs scale=None"),
    ({"bias": True, "unit_prototypes": False}, "bias needs scale=None"),
  ],
)
def test_impossible_objectives_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    objective.Objective(margins.nsl, **options)
