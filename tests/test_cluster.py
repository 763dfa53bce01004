"""Grouping images by person."""

import csv
import os
import sys

import numpy as np
import pytest

from facejax import cluster
from facejax.runtime import compile_cache
from facejax.vectors import clustering, embeddings


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(compile_cache, "use", lambda: None)


def groups(sizes=(7, 5, 5, 2, 1, 1), *, dim=32, noise=0.1):
  """Vectors of length 1 about one direction a group, shuffled; and whose."""
  generator = np.random.default_rng(1)
  labels = np.repeat(np.arange(len(sizes)), sizes)
  centers = np.linalg.qr(generator.normal(size=(dim, len(sizes))))[0].T
  vectors = centers[labels] + noise * generator.normal(
    size=(len(labels), dim)
  ) / np.sqrt(dim)
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  order = generator.permutation(len(labels))
  return vectors[order].astype(np.float32), labels[order]


def same_partition(one, other):
  return (
    len(set(zip(one, other, strict=True))) == len(set(one)) == len(set(other))
  )


@pytest.mark.parametrize(
  "method",
  [
    lambda x: clustering.components(x, threshold=0.7),
    lambda x: clustering.components(x, threshold=0.7, neighbours=2),
    lambda x: clustering.agglomerative(x, threshold=0.7),
    lambda x: clustering.agglomerative(x, threshold=0.7, linkage="complete"),
  ],
)
def test_groups_are_found(method):
  vectors, labels = groups()
  found = method(vectors)
  assert same_partition(found, labels)
  assert np.bincount(found).tolist() == [7, 5, 5, 2, 1, 1]
  np.testing.assert_array_equal(method(vectors), found)


@pytest.mark.parametrize("linkage", ["average", "complete", "single"])
def test_merging_is_scikit_learn_s(linkage):
  cluster = pytest.importorskip("sklearn.cluster")
  vectors = np.random.default_rng(3).normal(size=(60, 12))
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  theirs = cluster.AgglomerativeClustering(
    n_clusters=None, metric="cosine", linkage=linkage, distance_threshold=0.4
  ).fit_predict(vectors)
  found = clustering.agglomerative(vectors, threshold=0.6, linkage=linkage)
  assert same_partition(found, theirs) and len(set(found)) > 2


def test_hdbscan_leaves_out_who_is_alone():
  pytest.importorskip("sklearn")
  vectors, labels = groups((8, 6, 1))
  found = clustering.hdbscan(vectors, min_size=3)
  assert (found[labels == 2] == -1).all()
  assert set(found[labels == 0]) == {0} and set(found[labels == 1]) == {1}
  assert clustering.hdbscan(vectors[:2], min_size=3).tolist() == [-1, -1]


def test_components_are_those_of_all_pairs():
  generator = np.random.default_rng(0)
  vectors = generator.normal(size=(200, 6)).astype(np.float32)
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  near = vectors @ vectors.T >= 0.9
  expected = np.arange(200)
  for _ in range(200):
    expected = np.where(near, expected[None], 200).min(axis=1)
  found = clustering.components(vectors, threshold=0.9, neighbours=199)
  assert same_partition(found, expected)


def test_a_threshold_that_is_met_joins():
  vectors = np.float32([[1, 0], [0.6, 0.8], [-1, 0]])
  cosine = float(vectors[0] @ vectors[1])
  assert clustering.components(vectors, threshold=cosine).tolist() == [0, 0, 1]
  one = clustering.components(vectors[:1], threshold=0.5)
  assert one.tolist() == [0]


def test_what_does_not_fit_is_told(monkeypatch):
  monkeypatch.setattr(clustering, "MOST_AT_ONCE", 3)
  with pytest.raises(ValueError, match="use components"):
    clustering.agglomerative(np.eye(4), threshold=0.5)
  monkeypatch.setitem(sys.modules, "sklearn", None)
  with pytest.raises(ImportError, match=r"facejax\[eval\]"):
    clustering.hdbscan(np.eye(4))


def write(tmp_path, *, files=True, about=None, **options):
  """An .npz of groups whose images are files of their own name."""
  vectors, labels = groups(**options)
  paths = []
  for row, label in enumerate(labels):
    path = tmp_path / "images" / f"{label}" / f"{row % 3}.jpg"
    if files:
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(f"image {row}")
    paths.append(str(path))
  embeddings.write(
    tmp_path / "a.npz",
    embeddings.Embeddings(
      vectors,
      np.asarray(paths),
      labels.astype(np.int32),
      [f"p{k}" for k in range(labels.max() + 1)],
      about or {},
    ),
  )
  return tmp_path / "a.npz", labels


def run(*words):
  return cluster.main(list(map(str, words)))


def test_a_table_of_clusters(tmp_path, capsys):
  path, _ = write(tmp_path)
  out = tmp_path / "out.csv"
  assert run(path, out, "--threshold", 0.7) == 0
  output = capsys.readouterr().out
  assert "21 images, 4 clusters, the largest of 7, 2 images alone" in output
  assert "pairwise F 1.0000" in output and "BCubed F 1.0000" in output
  rows = list(csv.DictReader(out.read_text().splitlines()))
  assert [row["cluster"] for row in rows] == sorted(
    (row["cluster"] for row in rows), key=lambda c: (c == "-1", int(c))
  )
  assert len({row["label"] for row in rows if row["cluster"] == "0"}) == 1
  assert rows[0]["size"] == "7" and rows[-1] | {"path": ""} == {
    "cluster": "-1", "size": "1", "path": "", "label": rows[-1]["label"],
  }  # fmt: skip
  before = out.read_bytes()
  assert run(path, out, "--threshold", 0.7) == 2
  assert "--overwrite" in capsys.readouterr().err
  assert run(path, out, "--overwrite", "--threshold", 0.7) == 0
  assert out.read_bytes() == before


@pytest.mark.parametrize("copy", [False, True])
def test_a_folder_view(tmp_path, copy, capsys):
  path, _ = write(tmp_path)
  out = tmp_path / "view"
  words = [path, out, "--threshold", 0.7, *["--copy"] * copy]
  assert run(*words) == 0
  names = sorted(os.listdir(out))
  assert names[0] == "cluster_00000_of_7" and names[-1] == "single"
  inside = list((out / "cluster_00000_of_7").iterdir())
  assert len(inside) == 7
  assert all(entry.is_symlink() is not copy for entry in inside)
  assert all(entry.read_text().startswith("image") for entry in inside)
  assert run(*words, "--overwrite") == 0
  assert sorted(os.listdir(out)) == names
  # A folder that is not ours is never deleted.
  (out / "letters.txt").write_text("mine")
  assert run(*words, "--overwrite") == 2
  assert "holds other things" in capsys.readouterr().err
  assert (out / "letters.txt").exists()


def test_methods_of_scikit_learn(tmp_path, capsys):
  pytest.importorskip("sklearn")
  path, _ = write(tmp_path, files=False, about={"threshold": 0.7})
  for method in ("agglomerative", "hdbscan"):
    out = tmp_path / f"{method}.csv"
    assert run(path, out, "--method", method, "--min-size", 5) == 0
    assert "3 clusters" in capsys.readouterr().out


def test_all_in_one_is_suspect(tmp_path, capsys):
  path, _ = write(tmp_path, files=False, sizes=(100, 20))
  assert run(path, tmp_path / "out.csv", "--threshold", -1) == 0
  assert "raise --threshold" in capsys.readouterr().err


def test_mistakes_are_answered_in_one_line(tmp_path, capsys):
  path, _ = write(tmp_path, files=False)
  for words, message in (
    ((path, tmp_path / "out"), "--threshold"),
    ((path, tmp_path / "out", "--threshold", 0.5), "there is no file"),
    ((tmp_path / "b.npz", tmp_path / "out"), "b.npz"),
  ):
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
  assert sorted(os.listdir(tmp_path)) == ["a.npz"]
