"""The class-sharded head against its dense specification."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from facejax.head import api, objective, reference, storage
from facejax.losses import margins
from facejax.runtime import mesh as mesh_lib

MESHES = [(1, 1), (2, 2), (8, 8), (8, 2)]
COSFACE = functools.partial(margins.cosface, margin=0.35)


class Problem(NamedTuple):
  """What a head is given."""

  prototypes: np.ndarray
  embeddings: np.ndarray
  labels: np.ndarray
  parameters: objective.Parameters = objective.Parameters()


def problem(num_classes, *, batch=16, dim=12, centers=1, seed=0) -> Problem:
  """Random vectors; a third of the examples point away from their class."""
  rng = np.random.default_rng(seed)
  shape = (dim,) if centers == 1 else (centers, dim)
  prototypes = rng.normal(size=(num_classes, *shape)).astype(np.float32)
  labels = rng.integers(num_classes, size=batch).astype(np.int32)
  own = prototypes[labels].reshape(batch, -1, dim)[:, 0]
  noise = rng.normal(size=(batch, dim)).astype(np.float32)
  embeddings = own + noise
  embeddings[::3] = 0.25 * noise[::3] - 0.75 * own[::3]
  return Problem(prototypes, embeddings, labels)


def place(problem, mesh):
  """Prototypes, padded, and embeddings on a mesh."""
  count, *rest = problem.prototypes.shape
  rows = api.padded_classes(count, mesh.shape["model"])
  padded = np.zeros((rows, *rest), np.float32)
  padded[:count] = problem.prototypes
  return (
    jax.device_put(padded, mesh_lib.sharding(mesh, mesh_lib.CLASSES)),
    jax.device_put(problem.embeddings, mesh_lib.sharding(mesh, mesh_lib.BATCH)),
  )


def evaluate(problem, shape=(1, 1), **options):
  """Values, and gradients for prototypes, embeddings and parameters."""
  mesh = mesh_lib.make_mesh(devices=shape[0], model=shape[1])
  count = problem.prototypes.shape[0]

  def loss(w, x, parameters):
    out = api.head_loss(
      w,
      x,
      problem.labels,
      parameters=parameters,
      num_classes=count,
      mesh=mesh,
      **options,
    )
    return out.loss.mean(), out

  run = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))
  (_, out), (dw, *rest) = jax.device_get(
    run(*place(problem, mesh), problem.parameters)
  )
  assert not dw[count:].any(), "padding took part"
  return out, (dw[:count], *rest)


def float64(problem, *, objective):
  """The same by the dense reference in double precision."""
  with jax.enable_x64(True):
    prototypes, embeddings, parameters = jax.tree.map(
      lambda leaf: jnp.asarray(leaf, jnp.float64),
      (problem.prototypes, problem.embeddings, problem.parameters),
    )

    def loss(w, x, parameters):
      out = reference.loss(
        w, x, problem.labels, objective=objective, parameters=parameters
      )
      return out.loss.mean(), out

    (_, out), gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(
      prototypes, embeddings, parameters
    )
    return jax.device_get((out, gradients))


def close(actual, wanted, share=1e-5):
  """Equal up to `share` of the largest entry."""
  assert actual.shape == wanted.shape
  bound = share * np.abs(wanted).max()
  np.testing.assert_allclose(actual, wanted, rtol=0, atol=bound)


def check(actual, expected, share=1e-5):
  (out, gradients), (want, wanted) = actual, expected
  np.testing.assert_allclose(out.loss, want.loss, rtol=share, atol=1e-6)
  np.testing.assert_allclose(out.target_cosine, want.target_cosine, atol=1e-6)
  np.testing.assert_array_equal(out.correct, want.correct)
  jax.tree.map(functools.partial(close, share=share), gradients, wanted)


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
  options = {"objective": objective.Objective(COSFACE, scale)}
  arrays = problem(num_classes)
  actual = evaluate(arrays, shape, implementation=implementation, **options)
  check(actual, float64(arrays, **options))


def test_bfloat16_operands_change_the_loss_little():
  options = {"objective": objective.Objective(COSFACE, 16.0)}
  arrays = problem(50)
  out, gradients = evaluate(arrays, (2, 2), precision="bfloat16", **options)
  want, wanted = float64(arrays, **options)
  difference = np.abs(out.loss - want.loss)
  assert 1e-5 < difference.max() < 16 * 2**-7
  for actual, right in zip(gradients[:2], wanted[:2], strict=True):
    close(actual, right, share=0.05)


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
  arrays = problem(1)
  for implementation in ("chunked", "dense"):
    out, gradients = evaluate(
      arrays,
      (2, 2),
      implementation=implementation,
      objective=objective.Objective(COSFACE, 64.0),
    )
    for values in (out.loss, *gradients[:2]):
      np.testing.assert_array_equal(values, 0)
    assert out.correct.all()


def test_errors_name_the_value():
  arrays = problem(5)
  options = {"objective": objective.Objective(margins.nsl, 1.0)}
  with pytest.raises(ValueError, match="'chunky': choose one of"):
    evaluate(arrays, implementation="chunky", **options)
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
