"""The script that measures the search, on sets of toy size."""

import json
import shutil
import sys

import numpy as np
import pytest
from helpers import paths

from facejax.vectors import embeddings

SCRIPTS = paths.ROOT / "scripts"


@pytest.fixture
def bench(monkeypatch):
  monkeypatch.syspath_prepend(str(SCRIPTS))
  import bench_search

  yield bench_search
  sys.modules.pop("bench_search")


def run(bench, monkeypatch, *words):
  monkeypatch.setattr(sys, "argv", ["bench_search", *map(str, words)])
  bench.main()


def test_times_and_identification_go_to_one_file(
  bench, tiny_run, tiny_model, tiny_faces, tmp_path, monkeypatch
):
  out = tmp_path / "search.json"
  common = ("--faces", 3000, "--scratch", tmp_path, "--out", out)
  sizes = ("--dim", 16, "--queries", 1, 5, "--turns", 1)
  run(bench, monkeypatch, *common, *sizes)
  mine = tmp_path / "run"
  shutil.copytree(tiny_run, mine)
  (mine / "config.json").write_text(json.dumps({"data.identities": ""}))
  monkeypatch.setattr(bench.embedder, "load", lambda *_: tiny_model)
  run(bench, monkeypatch, *common, "--run", mine, "--lfw", tiny_faces)
  report = json.loads(out.read_text())
  search, found = report["search"], report["identification"]
  assert [row["queries"] for row in search["times"]] == [1, 5]
  assert search["difference_to_brute_force"] < 1e-6
  assert found["people"] == 4 and found["net"]["embedding_dim"] == 16
  sizes = [
    (row["faces"], row["queries"], row["of_people_not_trained_on"])
    for kind in found["distractors"].values()
    for row in kind.values()
  ]
  assert sizes[:2] == [(4, 8, 0), (8, 4, 0)]
  assert sizes[2:] == [(3004, 8, 0), (3008, 4, 0)] * 2
  assert {path.name for path in tmp_path.iterdir()} == {"run", "search.json"}


def test_distractors_can_be_like_the_photos(bench):
  generator = np.random.default_rng(0)
  photos = generator.normal(size=(4000, 64)) + 0.5
  photos[:, 0] *= 3
  photos /= np.linalg.norm(photos, axis=1, keepdims=True)
  made = bench.alike(photos.astype(np.float32), 20_000, seed=0)
  np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
  np.testing.assert_allclose(made.mean(0), photos.mean(0), atol=0.01)
  np.testing.assert_allclose(np.cov(made.T), np.cov(photos.T), atol=0.02)


@pytest.fixture
def bench_storage(bench):
  import bench_storage

  yield bench_storage
  sys.modules.pop("bench_storage")


def test_storage_is_measured_beside_one_pass(
  bench_storage, tmp_path, monkeypatch
):
  monkeypatch.setattr(bench_storage.host_memory, "keep_freed_memory", bool)
  monkeypatch.setattr(bench_storage, "PAIRS", 40)
  monkeypatch.setattr(bench_storage, "FAR", (1e-2,))
  out, photos = tmp_path / "search.json", tmp_path / "photos.npz"
  sizes = ("--faces", 3000, "--dim", 16, "--queries", 1, 5, "--turns", 1)
  run(bench_storage, monkeypatch, *sizes, "--scratch", tmp_path, "--out", out)
  generator = np.random.default_rng(0)
  labels = np.repeat(np.arange(20, dtype=np.int32), 4)
  vectors = generator.normal(size=(20, 64))[labels]
  vectors += 0.7 * generator.normal(size=vectors.shape)
  names = [f"p{k}" for k in range(20)]
  known = embeddings.Embeddings(
    vectors.astype(np.float32), labels.astype(str), labels, names
  )
  embeddings.write(photos, known)
  run(bench_storage, monkeypatch, "--embeddings", photos, "--out", out)
  report = json.loads(out.read_text())
  for kind in ("int8", "bfloat16"):
    made = report[f"storage {kind}, 3,000 faces"]
    assert [row["queries"] for row in made["times"]] == [1, 5]
    assert made["same_rows_as_float32"] == 1
    found = report[f"storage {kind}, photos"]
    assert found["same_rows_as_float32"] == 1
    tar = found["tar_percent_at_far"]["0.01"]
    scores = known.vectors / np.linalg.norm(known.vectors, axis=1)[:, None]
    scores = scores @ scores.T
    alike, later = labels[:, None] == labels, np.triu(np.ones((80, 80)), 1) > 0
    strangers = np.sort(scores[~alike & later])[::-1]
    wanted = scores[alike & later] > strangers[int(0.01 * len(strangers))]
    assert tar[kind] == tar["float32"] == round(100 * wanted.mean(), 4)
