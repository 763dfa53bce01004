"""Exact search against sorting all scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.runtime import mesh as mesh_lib
from facejax.vectors import best_rows, nearest, top_k


def brute_force(vectors, queries, k):
  """All scores sorted, of equal ones the lowest row first."""
  scores = queries @ vectors.T
  rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
  return np.take_along_axis(scores, rows, axis=1), rows


def whole_numbers(rows, dim, *, seed=0, highest=2):
  """Vectors whose products are exact, with many equal ones."""
  generator = np.random.default_rng(seed)
  values = generator.integers(-highest, highest + 1, (rows, dim))
  return values.astype(np.float32)


@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize(
  ("rows", "dim", "queries", "k"),
  [(1000, 16, 37, 5), (1, 4, 3, 1), (3000, 8, 1100, 60), (130, 8, 4, 130)],
)
def test_equal_to_brute_force_with_ties(devices, rows, dim, queries, k):
  vectors = whole_numbers(rows, dim)
  asked = whole_numbers(queries, dim, seed=1)
  search = nearest.Nearest(
    vectors, mesh=mesh_lib.make_mesh(devices=devices), block_rows=256
  )
  found = search(asked, k)
  scores, order = brute_force(vectors, asked, k)
  np.testing.assert_array_equal(found.rows, order)
  np.testing.assert_array_equal(found.scores, scores)
  assert found.rows.dtype == np.int32 and found.scores.dtype == np.float32


def test_equal_to_brute_force_on_directions():
  generator = np.random.default_rng(0)
  vectors = generator.normal(size=(5000, 64)).astype(np.float32)
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  asked = vectors[generator.integers(0, 5000, 200)]
  asked = asked + generator.normal(size=asked.shape, scale=0.1)
  found = nearest.Nearest(vectors, block_rows=512)(asked, 10)
  exact = asked @ vectors.astype(np.float64).T
  np.testing.assert_allclose(
    found.scores, np.take_along_axis(exact, found.rows, 1), atol=2e-6
  )
  np.testing.assert_allclose(
    found.scores, -np.sort(-exact, axis=1)[:, :10], atol=2e-6
  )


def test_copies_of_a_vector_come_in_their_order():
  generator = np.random.default_rng(0)
  some = generator.normal(size=(40, 32)).astype(np.float32)
  vectors = some[generator.integers(0, 40, 4000)]
  found = nearest.Nearest(vectors, block_rows=256)(some, 30)
  for query, rows in enumerate(found.rows):
    copies = np.flatnonzero((vectors == some[query]).all(axis=1))
    np.testing.assert_array_equal(rows, copies[:30])


@pytest.mark.parametrize("resident", [False, True])
def test_vectors_on_the_disk_are_searched_again_and_again(tmp_path, resident):
  vectors = whole_numbers(700, 8)
  np.save(tmp_path / "vectors.npy", vectors)
  mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
  search = nearest.Nearest(mapped, block_rows=128, resident=resident)
  for seed in (1, 2):
    asked = whole_numbers(9, 8, seed=seed)
    _, order = brute_force(vectors, asked, 3)
    np.testing.assert_array_equal(search(asked, 3).rows, order)


def test_more_queries_than_one_pass_takes(monkeypatch):
  monkeypatch.setattr(nearest, "_CHUNK", 16)
  vectors, asked = whole_numbers(300, 8), whole_numbers(50, 8, seed=1)
  found = nearest.Nearest(vectors)(asked, 4)
  np.testing.assert_array_equal(found.rows, brute_force(vectors, asked, 4)[1])
  assert nearest.Nearest(vectors)(asked[:0], 4).rows.shape == (0, 4)


@pytest.mark.parametrize("columns", [64, 1000, 4096])
@pytest.mark.parametrize("k", [1, 3, 60])
def test_top_k_is_that_of_jax(columns, k):
  scores = jnp.asarray(whole_numbers(7, columns, highest=20))
  scores = scores.at[:, 5].set(-jnp.inf)
  for found, expected in zip(
    top_k.top_k(scores, k), jax.lax.top_k(scores, k), strict=True
  ):
    np.testing.assert_array_equal(found, expected)


@pytest.mark.program_of_users
def test_memory_does_not_grow_with_the_vectors():
  # What the compiled step holds beside its arguments follows from the block.
  mesh = mesh_lib.make_mesh(devices=1)
  rows, queries, k = 2**13, 256, 10
  lowered = best_rows.compiled("cpu").lower(
    best_rows.nothing(mesh, queries, k),
    jnp.zeros((queries, 64)),
    best_rows.VectorBlock(jnp.zeros((rows, 64)), bars=jnp.zeros(rows)),
    np.int32(0),
    mesh=mesh,
  )
  step = lowered.compile()
  held = step.memory_analysis().temp_size_in_bytes
  assert held < 4 * 4 * rows * queries


@pytest.mark.parametrize(
  ("vectors", "message"),
  [
    (np.zeros((0, 4), np.float32), "at least one"),
    (np.zeros((3, 4)), "float32"),
    (np.zeros(4, np.float32), "rows, dim"),
  ],
)
def test_no_vectors_no_search(vectors, message):
  with pytest.raises(ValueError, match=message):
    nearest.Nearest(vectors)


def test_queries_that_do_not_fit_are_told():
  search = nearest.Nearest(np.eye(3, 4, dtype=np.float32))
  with pytest.raises(ValueError, match=r"not \[n, 4\]"):
    search(np.zeros((2, 3)), 1)
  for k in (0, 4):
    with pytest.raises(ValueError, match=f"k={k}: choose 1 to 3"):
      search(np.zeros((2, 4)), k)
  with pytest.raises(ValueError, match="not finite"):
    search(np.full((1, 4), np.nan), 1)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("queries", [1, 5])
def test_removed_rows_are_not_found(devices, queries):
  vectors = whole_numbers(2000, 8)
  asked = whole_numbers(queries, 8, seed=1)
  removed = np.random.default_rng(3).permutation(2000)[:1500]
  there = np.setdiff1d(np.arange(2000), removed)
  search = nearest.Nearest(
    vectors,
    removed=removed,
    mesh=mesh_lib.make_mesh(devices=devices),
    block_rows=256,
  )
  for k in (7, 500):
    found = search(asked, k)
    scores, order = brute_force(vectors[there], asked, k)
    np.testing.assert_array_equal(found.rows, there[order])
    np.testing.assert_array_equal(found.scores, scores)
  with pytest.raises(ValueError, match="k=501: choose 1 to 500"):
    search(asked, 501)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("dim", [16, 2000])
def test_whole_numbers_in_few_bytes(devices, queries, dim):
  generator = np.random.default_rng(0)
  vectors, asked = (
    generator.integers(-127, 128, (rows, dim), np.int8)
    for rows in (3000, queries)
  )
  scales = 2.0 ** generator.integers(-3, 3, 3000).astype(np.float32)
  mesh = mesh_lib.make_mesh(devices=devices)
  options = {"mesh": mesh, "block_rows": 512, "scales": scales}
  found = nearest.Nearest(vectors, **options)(asked, 20)
  exact = (asked.astype(np.int64) @ vectors.T.astype(np.int64)) * scales
  rows = np.argsort(-exact, axis=1, kind="stable")[:, :20]
  np.testing.assert_array_equal(found.rows, rows)
  np.testing.assert_array_equal(
    found.scores, np.take_along_axis(exact, rows, 1).astype(np.float32)
  )
  with pytest.raises(ValueError, match="queries are float32"):
    nearest.Nearest(vectors)(asked.astype(np.float32), 1)
