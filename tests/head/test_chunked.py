"""The blockwise loss against the dense specification in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import heads
from hypothesis import given, settings
from hypothesis import strategies as st

from facejax.head import api, blocks, objective
from facejax.losses import margins
from facejax.runtime import mesh as mesh_lib


def arcface(guard, gradient="exact"):
  return functools.partial(
    margins.arcface, margin=0.5, guard=guard, gradient=gradient
  )


@pytest.mark.parametrize(
  ("margin", "num_classes", "shape", "block_size"),
  [
    (margins.nsl, 7, (8, 8), None),
    (margins.nsl, 1000, (2, 2), 500),
    (heads.COSFACE_MARGIN, 1183, (1, 1), 1183),
    (heads.COSFACE_MARGIN, 1183, (8, 8), 64),
    (heads.COSFACE_MARGIN, 7, (1, 1), 2),
    (arcface("fallback"), 1183, (8, 2), 100),
    (arcface("easy"), 1000, (1, 1), 300),
    (arcface("none", "detached"), 1000, (1, 1), 1),
    (arcface("fallback", "detached"), 1183, (2, 2), None),
    (arcface("clip"), 7, (8, 2), 3),
    (arcface("clip", "detached"), 1, (8, 2), None),
  ],
)
def test_equals_dense(margin, num_classes, shape, block_size):
  options = {"objective": objective.Objective(margin, 30.0)}
  arrays = heads.problem(num_classes)
  actual = heads.evaluate(arrays, shape, block_size=block_size, **options)
  heads.check(actual, heads.float64(arrays, **options))


@pytest.mark.parametrize(
  ("scale", "shape", "centers"),
  [
    (8.0, (1, 1), 3),
    (64.0, (8, 2), 1),
    (83.0, (2, 2), 1),
    # Exact enough at this scale is only the code that users get.
    pytest.param(256.0, (1, 1), 1, marks=pytest.mark.as_users_compile),
    (256.0, (8, 8), 3),
  ],
)
def test_any_scale(scale, shape, centers):
  """From 87 - log C on, a running maximum replaces plain sums."""
  options = {"objective": objective.Objective(heads.COSFACE_MARGIN, scale)}
  arrays = heads.problem(50, centers=centers)
  actual = heads.evaluate(arrays, shape, block_size=5, **options)
  heads.check(actual, heads.float64(arrays, **options))


@pytest.mark.parametrize("name", ["one class", "one example", "one of each"])
def test_degenerate_sizes_equal_dense(name):
  arrays = heads.problem(1 if name == "one of each" else 9)
  labels, embeddings = arrays.labels, arrays.embeddings
  if name == "one class":
    labels = np.full_like(labels, 3)
  else:
    embeddings, labels = embeddings[:1], labels[:1]
  arrays = arrays._replace(embeddings=embeddings, labels=labels)
  options = {"objective": objective.Objective(heads.COSFACE_MARGIN, 30.0)}
  heads.check(
    heads.evaluate(arrays, block_size=4, **options),
    heads.float64(arrays, **options),
  )


@pytest.mark.parametrize("margin", [heads.COSFACE_MARGIN, arcface("fallback")])
@pytest.mark.parametrize(
  ("sign", "scale", "shape"), [(1, 64.0, (2, 2)), (-1, 256.0, (8, 8))]
)
def test_identical_and_opposite_vectors(margin, sign, scale, shape):
  arrays = heads.problem(9)
  arrays.prototypes[1] = arrays.prototypes[0]
  arrays = arrays._replace(embeddings=sign * arrays.prototypes[arrays.labels])
  options = {"objective": objective.Objective(margin, scale)}
  out, gradients = heads.evaluate(arrays, shape, block_size=2, **options)
  np.testing.assert_allclose(out.target_cosine, sign, atol=1e-6)
  assert all(np.isfinite(values).all() for values in gradients[:2])
  want, wanted = heads.float64(arrays, **options)
  if margin is heads.COSFACE_MARGIN:
    heads.close(out.loss, want.loss)
    jax.tree.map(heads.close, gradients, wanted)
  else:  # the derivative of theta is infinite: one ulp of c is 2e-4 of phi
    np.testing.assert_allclose(out.loss, want.loss, atol=3e-4 * scale)


@pytest.mark.parametrize(
  "options",
  [
    {"scale": 30.0},
    {"scale": None},
    {"scale": None, "unit_prototypes": False},
    {"scale": 30.0, "one_vs_all": (0.7, 0.3)},
  ],
  ids=repr,
)
def test_zero_vectors(options):
  arrays = heads.problem(9)
  arrays.prototypes[[4, arrays.labels[3]]] = 0
  arrays.embeddings[[2, 3]] = 0
  options = {"objective": objective.Objective(arcface("easy"), **options)}
  out, gradients = heads.evaluate(arrays, (2, 2), block_size=2, **options)
  want, wanted = heads.float64(arrays, **options)
  heads.close(out.loss, want.loss)
  jax.tree.map(heads.close, gradients, wanted)
  if options["objective"].unit_prototypes:
    assert not gradients[0][4].any()


def test_lengths_do_not_matter_to_unit_vectors():
  """Each row is exact at its own magnitude, over twelve decades."""
  options = {"objective": objective.Objective(arcface("fallback"), 30.0)}
  arrays = heads.problem(50)
  rng = np.random.default_rng(1)
  powers = [
    np.float32(2) ** rng.integers(-20, 20, size=(rows, 1)) for rows in (50, 16)
  ]
  scaled = arrays._replace(
    prototypes=arrays.prototypes * powers[0],
    embeddings=arrays.embeddings * powers[1],
  )
  out, gradients = heads.evaluate(scaled, (2, 2), block_size=7, **options)
  want, wanted = heads.float64(arrays, **options)
  heads.close(out.loss, want.loss)
  for actual, right, power in zip(gradients, wanted, powers, strict=False):
    heads.close(actual * power, right)


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
  assert size(batch=1024, dim=512, platform="tpu") == 8192
  assert size(batch=4096, dim=512, platform="tpu") == 2048
  assert size(batch=65536, dim=512, platform="tpu") == 512
  assert blocks.block_size(batch=8, dim=64, rows=7, platform="cpu") == 7


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.data())
def test_walks_change_each_row_once(rows, size, data):
  listed = data.draw(
    st.none() | st.lists(st.integers(0, rows - 1), unique=True, max_size=rows)
  )
  if listed is None:
    walk, wanted = blocks.Walk(rows, min(size, rows)), set(range(rows))
  else:
    empty = data.draw(st.integers(0 if listed else 1, 3))
    places = jnp.array(listed + [-1] * empty, jnp.int32)
    walk, wanted = blocks.walk_listed(rows, size, places), set(listed)

  def add_one(block, leaf):
    old = block.take(leaf)
    return blocks.put(leaf, block.keep_stale(old + 1, old), block.place)

  leaf = walk.loop(add_one, jnp.zeros((rows, 2)))
  changed = np.isin(np.arange(rows), list(wanted))
  np.testing.assert_array_equal(leaf, np.stack([changed] * 2, axis=1))


def test_block_size_of_zero_is_refused():
  with pytest.raises(ValueError, match="block_size=0: must be 1 or more"):
    heads.evaluate(
      heads.problem(5),
      objective=objective.Objective(heads.COSFACE_MARGIN),
      block_size=0,
    )


@pytest.mark.program_of_users
@pytest.mark.parametrize("scale", [64.0, None])
def test_memory_does_not_grow_with_the_classes(scale):
  mesh = mesh_lib.make_mesh(devices=1)
  cosface = objective.Objective(heads.COSFACE_MARGIN, scale)

  def temporaries(rows):
    head = api.Head(cosface, rows, mesh)

    def loss(w, x, y):
      return head.loss(w, x, y).loss.mean()

    arrays = heads.abstract(rows, 128, 512, mesh)
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(*arrays).compile()
    return heads.check_compiled(compiled, rows=rows, dim=128, batch=512)

  small, large = temporaries(64_000), temporaries(512_000)
  assert small == large < 8e6


def test_what_is_not_a_number_stays_visible():
  arrays = heads.problem(9)
  arrays.embeddings[3] = np.nan
  out, _ = heads.evaluate(
    arrays, objective=objective.Objective(heads.COSFACE_MARGIN, 30.0)
  )
  np.testing.assert_array_equal(np.isnan(out.loss), np.arange(16) == 3)
