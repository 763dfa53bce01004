"""The class-sharded head against its dense specification."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax import mesh as mesh_lib
from facejax.head import api, reference
from facejax.losses import margins

MESHES = [(1, 1), (2, 2), (8, 8), (8, 2), (8, 1)]
MARGINS = {
  "nsl": margins.nsl,
  "cosface": functools.partial(margins.cosface, margin=0.35),
  "arcface": functools.partial(margins.arcface, margin=0.5),
  "arcface detached": functools.partial(
    margins.arcface, margin=0.5, gradient="detached"
  ),
}


def problem(num_classes, *, batch=16, dim=12, seed=0):
  rng = np.random.default_rng(seed)
  prototypes = rng.normal(size=(num_classes, dim)).astype(np.float32)
  labels = rng.integers(num_classes, size=batch).astype(np.int32)
  embeddings = rng.normal(size=(batch, dim)) + prototypes[labels]
  return prototypes, embeddings.astype(np.float32), labels


def evaluate(prototypes, embeddings, labels, devices, model, **options):
  """Loss, its gradients for prototypes and embeddings, and the rest."""
  mesh = mesh_lib.make_mesh(devices=devices, model=model)
  count = prototypes.shape[0]
  rows = api.padded_classes(count, model)
  padded = np.zeros((rows, prototypes.shape[1]), np.float32)
  padded[:count] = prototypes

  def loss(w, x):
    out = api.head_loss(w, x, labels, num_classes=count, mesh=mesh, **options)
    return out.loss.mean(), out

  (_, out), (dw, dx) = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(
    jax.device_put(padded, mesh_lib.sharding(mesh, mesh_lib.CLASSES)),
    jax.device_put(embeddings, mesh_lib.sharding(mesh, mesh_lib.BATCH)),
  )
  assert not np.asarray(dw)[count:].any(), "padding took part"
  return jax.device_get((out, dw[:count], dx))


def float64(prototypes, embeddings, labels, *, margin, scale):
  with jax.enable_x64(True):
    arrays = (jnp.asarray(a, jnp.float64) for a in (prototypes, embeddings))

    def loss(w, x):
      out = reference.margin_softmax(w, x, labels, margin=margin, scale=scale)
      return out.loss.mean(), out

    (_, out), (dw, dx) = jax.value_and_grad(loss, (0, 1), has_aux=True)(*arrays)
    return jax.device_get((out, dw, dx))


def check(actual, expected, share=1e-5):
  (out, *gradients), (want, *want_gradients) = actual, expected
  np.testing.assert_allclose(out.loss, want.loss, rtol=share, atol=1e-6)
  np.testing.assert_allclose(out.target_cosine, want.target_cosine, atol=1e-6)
  np.testing.assert_array_equal(out.correct, want.correct)
  for gradient, wanted in zip(gradients, want_gradients, strict=True):
    np.testing.assert_allclose(
      gradient, wanted, rtol=0, atol=share * np.abs(wanted).max()
    )


@pytest.mark.parametrize(("devices", "model"), MESHES)
@pytest.mark.parametrize("num_classes", [7, 1183])
@pytest.mark.parametrize("name", MARGINS)
def test_sharded_equals_dense(name, num_classes, devices, model):
  options = {"margin": MARGINS[name], "scale": 30.0}
  arrays = problem(num_classes)
  check(
    evaluate(*arrays, devices, model, **options), float64(*arrays, **options)
  )


@pytest.mark.smoke
@pytest.mark.parametrize("scale", [8.0, 64.0, 256.0])
@pytest.mark.parametrize("devices", [1, 8])
def test_any_scale(scale, devices):
  options = {"margin": MARGINS["cosface"], "scale": scale}
  arrays = problem(50)
  check(
    evaluate(*arrays, devices, devices, **options),
    float64(*arrays, **options),
  )


def test_converged_regime_keeps_its_gradient():
  prototypes, _, labels = problem(40, dim=64)
  embeddings = prototypes[labels] + 0.01 * problem(40, dim=64, seed=1)[1]
  options = {"margin": MARGINS["cosface"], "scale": 64.0}
  actual = evaluate(prototypes, embeddings, labels, 8, 8, **options)
  expected = float64(prototypes, embeddings, labels, **options)
  assert expected[0].loss.max() < 1e-5
  np.testing.assert_allclose(actual[0].loss, expected[0].loss, rtol=1e-4)
  for gradient, wanted in zip(actual[1:], expected[1:], strict=True):
    np.testing.assert_allclose(
      gradient, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max()
    )


@pytest.mark.parametrize("case", ["duplicates", "zeros", "aligned", "opposite"])
@pytest.mark.parametrize("name", MARGINS)
def test_degenerate_batches_are_finite(name, case):
  prototypes, embeddings, labels = problem(9)
  if case == "duplicates":
    labels = np.full_like(labels, 3)
  elif case == "zeros":
    embeddings, prototypes[4] = 0 * embeddings, 0
  else:
    sign = 1 if case == "aligned" else -1
    embeddings = sign * prototypes[labels]
  out, dw, dx = evaluate(
    prototypes, embeddings, labels, 8, 8, margin=MARGINS[name], scale=64.0
  )
  for values in (out.loss, dw, dx):
    assert np.isfinite(values).all()


def test_one_class_costs_nothing():
  out, dw, dx = evaluate(
    *problem(1), 2, 2, margin=MARGINS["cosface"], scale=64.0
  )
  np.testing.assert_allclose(out.loss, 0, atol=1e-12)
  assert out.correct.all() and np.isfinite(dw).all() and np.isfinite(dx).all()


@pytest.mark.parametrize(("devices", "model"), MESHES)
def test_initial_prototypes_do_not_depend_on_the_mesh(devices, model):
  def draw(devices, model, count):
    mesh = mesh_lib.make_mesh(devices=devices, model=model)
    init = functools.partial(
      api.init_prototypes, num_classes=count, dim=16, mesh=mesh
    )
    return np.asarray(jax.jit(init)(jax.random.key(3)))

  alone = draw(1, 1, 1183)
  rows = draw(devices, model, 1183)
  np.testing.assert_array_equal(rows[:1183], alone)
  assert not rows[1183:].any()
  # More classes leave the rows of the first ones as they are.
  np.testing.assert_array_equal(draw(devices, model, 2000)[:1183], alone)
  assert alone.std() == pytest.approx(0.01, rel=0.02)
  assert abs(alone.mean()) < 3e-4


def test_errors_name_the_value():
  arrays = problem(5)
  with pytest.raises(ValueError, match="'chunky': choose one of"):
    evaluate(
      *arrays, 1, 1, margin=margins.nsl, scale=1.0, implementation="chunky"
    )
  mesh = mesh_lib.make_mesh(devices=1)
  with pytest.raises(ValueError, match="5 rows, fewer than num_classes=6"):
    api.head_loss(
      *arrays, margin=margins.nsl, scale=1.0, num_classes=6, mesh=mesh
    )


@pytest.mark.parametrize("implementation", ["dense", "chunked"])
def test_other_implementations_are_exact_too(implementation):
  arrays = problem(10)
  options = {"margin": MARGINS["arcface"], "scale": 30.0}
  check(
    evaluate(*arrays, 8, 8, implementation=implementation, **options),
    float64(*arrays, **options),
  )
