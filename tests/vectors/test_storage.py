"""Vectors in fewer bytes answer as float32 does."""

import ml_dtypes
import numpy as np
import pytest

from facejax.runtime import mesh as mesh_lib
from facejax.runtime import unit_vectors
from facejax.vectors import chained, nearest, storage

SHORT = [kind for kind in storage.KINDS if kind != "float32"]


def faces(people=300, each=20, dim=64, *, seed=0):
  """Unit vectors in clusters, as faces of people lie."""
  generator = np.random.default_rng(0)
  centers = generator.normal(size=(people, dim))
  generator = np.random.default_rng(seed)
  vectors = np.repeat(centers, each, axis=0)
  vectors += 0.5 * generator.normal(size=vectors.shape)
  return unit_vectors.unit(vectors.astype(np.float32))


def reranked(vectors, kind, **options):
  return storage.Reranked(*storage.encode(vectors, kind), vectors, **options)


def brute_force(vectors, queries, k):
  scores = queries.astype(np.float64) @ vectors.T.astype(np.float64)
  scores = scores.astype(np.float32)
  rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
  return np.take_along_axis(scores, rows, axis=1), rows


def test_what_is_stored_is_near():
  vectors = faces(people=20)
  codes, scales = storage.encode(vectors, "int8")
  assert codes.dtype == np.int8 and np.abs(codes).max(axis=1).min() == 127
  error = np.abs(storage.decode(codes, scales) - vectors)
  assert (error <= 0.5001 * scales[:, None]).all()
  codes, scales = storage.encode(vectors, "bfloat16")
  assert codes.dtype == ml_dtypes.bfloat16 and scales is None
  np.testing.assert_allclose(
    storage.decode(codes, None), vectors, rtol=2**-8, atol=0
  )
  codes, scales = storage.encode(vectors, "float32")
  np.testing.assert_array_equal(storage.decode(codes, scales), vectors)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("kind", SHORT)
@pytest.mark.parametrize(("queries", "k"), [(1, 1), (300, 10), (40, 20)])
def test_the_same_as_float32(devices, kind, queries, k):
  vectors = faces()
  asked = faces(each=1, seed=1)[:queries]
  mesh = mesh_lib.make_mesh(devices=devices)
  found = reranked(vectors, kind, mesh=mesh, block_rows=512)(asked, k)
  scores, rows = brute_force(vectors, asked, k)
  np.testing.assert_array_equal(found.rows, rows)
  np.testing.assert_allclose(found.scores, scores, rtol=1e-6)
  plain = nearest.Nearest(vectors, mesh=mesh)(asked, k)
  np.testing.assert_array_equal(found.rows, plain.rows)
  np.testing.assert_allclose(found.scores, plain.scores, atol=1e-6)


@pytest.mark.parametrize("kind", SHORT)
def test_copies_come_in_their_order(kind):
  vectors = np.tile(faces(people=10, each=1), (9, 1))
  found = reranked(vectors, kind)(vectors[:10], 9)
  wanted = np.arange(10)[:, None] + 10 * np.arange(9)
  np.testing.assert_array_equal(found.rows, wanted)
  assert (found.scores == found.scores[:, :1]).all()


@pytest.mark.parametrize("kind", SHORT)
def test_all_rows_may_be_asked_for_but_the_removed(kind, monkeypatch):
  # Candidates are compared again a few at a time.
  monkeypatch.setattr(storage, "_AGAIN", 2**16)
  vectors = faces(people=6)
  removed = np.arange(1, 120, 2)
  asked = faces(people=6, each=3, seed=1)
  search = reranked(vectors, kind, removed=removed)
  found = search(asked, 60)
  _, rows = brute_force(vectors[::2], asked, 60)
  np.testing.assert_array_equal(found.rows, 2 * rows)
  with pytest.raises(ValueError, match="k=61: choose 1 to 60"):
    search(asked, 61)
  assert search(asked[:0], 3).rows.shape == (0, 3)
  with pytest.raises(ValueError, match="not finite"):
    search(np.full((1, 64), np.nan), 1)


def test_parts_are_searched_as_one():
  vectors = faces()
  for kind in storage.KINDS:
    codes, scales = storage.encode(vectors, kind)
    parts = np.array_split(codes, [1, 700, 701, 4000])
    joined = chained.chain(parts)
    assert joined.shape == codes.shape and joined.dtype == codes.dtype
    asked = codes[::500]
    options = {"scales": scales, "block_rows": 512}
    one, other = (
      nearest.Nearest(rows, **options)(asked, 5) for rows in (codes, joined)
    )
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.scores, other.scores)


def test_chained_rows():
  whole = np.arange(24).reshape(12, 2)
  rows = chained.Chained(np.split(whole, [3, 3, 7]))
  np.testing.assert_array_equal(np.asarray(rows), whole)
  for start in range(13):
    for stop in range(13):
      np.testing.assert_array_equal(rows[start:stop], whole[start:stop])
  assert np.shares_memory(rows[4:6], rows[3:7])
  some = np.array([[11, -1], [0, 3]])
  np.testing.assert_array_equal(rows[some], whole[some])
  np.testing.assert_array_equal(rows[-12], whole[0])
  for row in (12, -13, np.array([12])):
    with pytest.raises(IndexError):
      rows[row]
  with pytest.raises(ValueError, match="step 2"):
    rows[::2]
