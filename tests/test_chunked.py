"""The blockwise head against the dense specification in float64."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_head

from facejax import mesh as mesh_lib
from facejax.head import api, blocks, chunked
from facejax.losses import margins

COSFACE = functools.partial(margins.cosface, margin=0.35)


def arcface(guard, gradient="exact"):
  return functools.partial(
    margins.arcface, margin=0.5, guard=guard, gradient=gradient
  )


# A third of the examples point away from their class, past every guard.
def problem(num_classes, *, batch=16, dim=12, seed=0):
  prototypes, embeddings, labels = test_head.problem(
    num_classes, batch=batch, dim=dim, seed=seed
  )
  away = prototypes[labels] - 0.25 * embeddings
  embeddings[::3] = -away[::3]
  return prototypes, embeddings, labels


def place(prototypes, embeddings, mesh):
  """Padded and sharded arrays."""
  count, dim = prototypes.shape
  rows = api.padded_classes(count, mesh.shape["model"])
  padded = np.zeros((rows, dim), np.float32)
  padded[:count] = prototypes
  return (
    jax.device_put(padded, mesh_lib.sharding(mesh, mesh_lib.CLASSES)),
    jax.device_put(embeddings, mesh_lib.sharding(mesh, mesh_lib.BATCH)),
  )


def evaluate(prototypes, embeddings, labels, shape=(1, 1), **options):
  """Values and gradients of the mean loss, for `test_head.check`."""
  mesh = mesh_lib.make_mesh(devices=shape[0], model=shape[1])
  count = prototypes.shape[0]

  def loss(w, x):
    out = chunked.margin_softmax(
      w, x, labels, num_classes=count, mesh=mesh, **options
    )
    return out.loss.mean(), out

  (_, out), (dw, dx) = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(
    *place(prototypes, embeddings, mesh)
  )
  assert not np.asarray(dw)[count:].any(), "padding took part"
  return jax.device_get((out, dw[:count], dx))


@pytest.mark.parametrize(
  ("margin", "num_classes", "shape", "block_size"),
  [
    (margins.nsl, 7, (8, 8), None),
    (margins.nsl, 1000, (2, 2), 500),
    (COSFACE, 1183, (1, 1), 1183),
    (COSFACE, 1183, (1, 1), 200),
    (COSFACE, 1183, (8, 8), 64),
    (COSFACE, 7, (1, 1), 2),
    (arcface("fallback"), 1183, (8, 2), 100),
    (arcface("easy"), 1000, (1, 1), 300),
    (arcface("none"), 1000, (2, 2), 300),
    (arcface("clip"), 7, (8, 2), 3),
    (arcface("fallback", "detached"), 1183, (2, 2), None),
    (arcface("easy", "detached"), 1000, (8, 8), 100),
    (arcface("none", "detached"), 1000, (1, 1), 1),
    (arcface("clip", "detached"), 1183, (1, 1), 400),
  ],
)
def test_equals_dense(margin, num_classes, shape, block_size):
  options = {"margin": margin, "scale": 30.0}
  arrays = problem(num_classes)
  actual = evaluate(*arrays, shape, block_size=block_size, **options)
  test_head.check(actual, test_head.float64(*arrays, **options))


@pytest.mark.parametrize(
  ("scale", "shape"),
  [(8.0, (1, 1)), (64.0, (8, 2)), (256.0, (1, 1)), (256.0, (8, 8))],
)
def test_any_scale(scale, shape):
  """From 80 - log C on, a running maximum replaces the fixed shift."""
  options = {"margin": COSFACE, "scale": scale}
  arrays = problem(50)
  actual = evaluate(*arrays, shape, block_size=5, **options)
  test_head.check(actual, test_head.float64(*arrays, **options))


def test_converged_regime_keeps_its_gradient():
  prototypes, _, labels = problem(40, dim=64)
  noise = np.random.default_rng(1).normal(size=(16, 64))
  embeddings = (prototypes[labels] + 0.01 * noise).astype(np.float32)
  options = {"margin": COSFACE, "scale": 64.0}
  out, *gradients = evaluate(
    prototypes, embeddings, labels, (2, 2), block_size=8, **options
  )
  want, *wanted = test_head.float64(prototypes, embeddings, labels, **options)
  assert want.loss.max() < 1e-5
  np.testing.assert_allclose(out.loss, want.loss, rtol=1e-4)
  for gradient, right in zip(gradients, wanted, strict=True):
    np.testing.assert_allclose(
      gradient, right, rtol=0, atol=1e-4 * np.abs(right).max()
    )


@pytest.mark.parametrize("case", ["one class", "one example", "one of each"])
def test_degenerate_sizes_equal_dense(case):
  prototypes, embeddings, labels = problem(1 if case == "one of each" else 9)
  if case == "one class":
    labels = np.full_like(labels, 3)
  else:
    embeddings, labels = embeddings[:1], labels[:1]
  options = {"margin": COSFACE, "scale": 30.0}
  arrays = prototypes, embeddings, labels
  test_head.check(
    evaluate(*arrays, block_size=4, **options),
    test_head.float64(*arrays, **options),
  )


def test_a_single_class_costs_nothing_on_any_mesh():
  out, dw, dx = evaluate(*problem(1), (8, 2), margin=COSFACE, scale=64.0)
  for values in (out.loss, dw, dx):
    np.testing.assert_array_equal(values, 0)
  assert out.correct.all()


@pytest.mark.parametrize(("sign", "scale"), [(1, 64.0), (-1, 256.0)])
def test_identical_and_opposite_vectors_are_finite(sign, scale):
  prototypes, _, labels = problem(9)
  prototypes[1] = prototypes[0]
  out, dw, dx = evaluate(
    prototypes,
    sign * prototypes[labels],
    labels,
    (2, 2),
    margin=arcface("fallback"),
    scale=scale,
    block_size=2,
  )
  np.testing.assert_allclose(out.target_cosine, sign, atol=1e-6)
  for values in (out.loss, dw, dx):
    assert np.isfinite(values).all()


def test_zero_vectors_say_nothing():
  prototypes, embeddings, labels = problem(9)
  prototypes[4], embeddings[2] = 0, 0
  options = {"margin": COSFACE, "scale": 30.0}
  arrays = prototypes, embeddings, labels
  out, dw, dx = evaluate(*arrays, (2, 2), block_size=2, **options)
  want, dw_want, _ = test_head.float64(*arrays, **options)
  np.testing.assert_allclose(out.loss, want.loss, rtol=1e-5)
  assert np.isfinite(dx).all()
  assert not dw[4].any()
  np.testing.assert_allclose(
    np.delete(dw, 4, 0), np.delete(dw_want, 4, 0), atol=1e-6
  )


def test_block_size_rule():
  size = functools.partial(blocks.block_size, rows=10**7)
  # Within its bounds, and half the size for twice the width.
  assert size(batch=8, dim=64, platform="cpu") == 4096
  assert size(batch=512, dim=256, platform="cpu") == 1024
  assert size(batch=1024, dim=512, platform="cpu") == 512
  assert size(batch=8192, dim=512, platform="cpu") == 512
  for batch in (64, 1024, 4096):
    gpu = size(batch=batch, dim=512, platform="gpu")
    assert 4 * batch * gpu == 2**28
  assert size(batch=65536, dim=512, platform="gpu") == 8192
  assert size(batch=64, dim=512, platform="tpu") == 16384
  assert size(batch=4096, dim=512, platform="tpu") == 8192
  assert blocks.block_size(batch=8, dim=64, rows=7) == 7


@pytest.mark.parametrize(("rows", "size"), [(7, 7), (7, 3), (9, 3), (5, 4)])
def test_blocks_cover_each_row_once(rows, size):
  seen = []
  for index in range(blocks.count(rows=rows, size=size)):
    block = blocks.block_at(index, rows=rows, size=size)
    seen += np.asarray(block.rows)[np.asarray(block.fresh)].tolist()
  assert seen == list(range(rows))


def test_block_size_of_zero_is_refused():
  with pytest.raises(ValueError, match="block_size=0: must be 1 or more"):
    evaluate(*problem(5), margin=COSFACE, scale=8.0, block_size=0)


def check_compiled(compiled, *, rows, dim, batch):
  """No logits, no second matrix of prototypes; returns the temporaries."""
  program = compiled.as_text()
  largest = max(
    math.prod(int(n) for n in shape.split(","))
    for shape in re.findall(r"\w\[([\d,]+)\]", program)
  )
  assert largest == rows * dim < rows * batch
  assert not re.findall(rf"= f32\[{rows},{dim}\]\S* copy\(", program)
  return compiled.memory_analysis().temp_size_in_bytes


def abstract(rows, dim, batch, mesh):
  """Prototypes, embeddings and labels without memory."""
  by_class = mesh_lib.sharding(mesh, mesh_lib.CLASSES)
  by_example = mesh_lib.sharding(mesh, mesh_lib.BATCH)
  return (
    jax.ShapeDtypeStruct((rows, dim), jnp.float32, sharding=by_class),
    jax.ShapeDtypeStruct((batch, dim), jnp.float32, sharding=by_example),
    jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=by_example),
  )


def test_memory_does_not_grow_with_the_classes():
  mesh = mesh_lib.make_mesh(devices=1)

  def temporaries(rows):
    def loss(w, x, y):
      return chunked.margin_softmax(
        w, x, y, margin=COSFACE, scale=64.0, num_classes=rows, mesh=mesh
      ).loss.mean()

    arrays = abstract(rows, 128, 512, mesh)
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(*arrays).compile()
    return check_compiled(compiled, rows=rows, dim=128, batch=512)

  small, large = temporaries(64_000), temporaries(512_000)
  assert small == large < 8e6
