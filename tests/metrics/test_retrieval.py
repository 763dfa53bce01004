"""Precision at 1, R-precision and MAP@R against a slow twin."""

import numpy as np
import pytest

from facejax.evaluation import retrieval as figures
from facejax.metrics import retrieval


def slow(vectors, labels):
  """By the definition, an image at a time; ties go to the others."""
  units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
  rows = []
  for i, label in enumerate(labels):
    others = [k for k in range(len(labels)) if k != i]
    wanted = sum(labels[k] == label for k in others)
    if not wanted:
      continue
    others.sort(
      key=lambda k, i=i: (
        -round(units[i] @ units[k], 6),
        labels[k] == labels[i],
      )
    )
    hits = [labels[k] == label for k in others[:wanted]]
    average = sum(
      sum(hits[: place + 1]) / (place + 1)
      for place in range(wanted)
      if hits[place]
    )
    rows.append((hits[0], sum(hits) / wanted, average / wanted))
  return np.array(rows, float).T


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_it_matches_a_slow_twin(seed, dtype, monkeypatch):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 9, 30)
  centers = rng.normal(size=(9, 4))
  vectors = (centers[labels] + rng.normal(size=(30, 4))).astype(dtype)
  # Pictures that are there twice, of the same and of different people.
  vectors[5:9] = vectors[:4]
  wanted = slow(vectors.astype(np.float64), labels)
  for cells in (1 << 24, 100, 1):
    monkeypatch.setattr(retrieval, "_CELLS", cells)
    found = retrieval.search(vectors, labels)
    np.testing.assert_array_equal(found.first, wanted[0])
    np.testing.assert_allclose(found.r_precision, wanted[1])
    np.testing.assert_allclose(found.map_at_r, wanted[2])
  assert (found.map_at_r <= found.r_precision + 1e-12).all()


def test_people_apart_are_found_and_all_the_same_are_not():
  labels = np.repeat(np.arange(4), 3)
  apart = np.eye(4)[labels]
  assert retrieval.search(apart, labels).map_at_r.tolist() == [1.0] * 12
  same = np.ones((12, 4))
  assert not retrieval.search(same, labels).r_precision.any()
  with pytest.raises(ValueError, match="nobody has two images"):
    retrieval.search(np.eye(4), np.arange(4))


def test_figures_are_means_with_intervals_over_people():
  rng = np.random.default_rng(1)
  labels = rng.integers(0, 20, 100)
  vectors = rng.normal(size=(20, 8))[labels] + 0.8 * rng.normal(size=(100, 8))
  found = retrieval.search(vectors, labels)
  rows = {one.key: one for one in figures.quantities(vectors, labels)}
  assert set(rows) == {"precision_at_1", "r_precision", "map_at_r"}
  assert rows["map_at_r"].value == found.map_at_r.mean()
  for one in rows.values():
    assert one.low < one.value < one.high
  assert figures.quantities(np.eye(4), np.arange(4)) == []
