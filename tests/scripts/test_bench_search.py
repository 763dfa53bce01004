"""The script that measures the search, on sets of toy size."""

import json
import shutil
import sys

import numpy as np
import pytest
from helpers import paths

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
