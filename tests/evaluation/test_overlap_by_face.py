"""People and images that two sets share, found without names."""

import csv
import pathlib
import shutil

import numpy as np
import pytest
from helpers import tiny_run as tiny
from PIL import Image

from facejax import evaluate
from facejax.evaluation import (
  overlap,
  overlap_by_face,
  overlap_search,
  protocols,
)
from facejax.runs import results
from facejax.runtime import mesh as mesh_lib

DIM = 32
Vectors = overlap_by_face.Vectors


def units(x):
  return np.float32(x / np.linalg.norm(x, axis=-1, keepdims=True))


def drawn(centres, of_each, rng, noise=0.5):
  """Vectors around centres, in a narrow cone as many nets have them."""
  labels = np.repeat(np.arange(len(centres)), of_each)
  x = centres[labels] + noise * rng.normal(size=(len(labels), DIM))
  axis = np.zeros(DIM)
  axis[0] = 8
  return Vectors(np.arange(len(labels)), labels, units(x + axis))


@pytest.fixture(scope="module")
def sets():
  """40 tested people, of whom the first 12 are among 300 of the training set."""
  rng = np.random.default_rng(3)
  centres = rng.normal(size=(328, DIM))
  trained = drawn(centres[:300], 5, rng)
  tested = drawn(np.r_[centres[:12], centres[300:]], 4, rng)
  return tested, trained


def blocks(whole, size):
  for start in range(0, len(whole.rows), size):
    yield Vectors(*(part[start : start + size] for part in whole))


def brute(tested, trained, k):
  """The same by whole matrices in double precision."""

  def means(one, middle=None):
    count = one.labels.max() + 1
    x = np.stack([one.vectors[one.labels == c].mean(0) for c in range(count)])
    middle = x.mean(0) if middle is None else middle
    return units(x - middle), middle

  theirs, middle = means(trained)
  scores = means(tested, middle)[0] @ theirs.T
  z = (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)
  images = tested.vectors @ trained.vectors.T
  near = np.argsort(-images, axis=1, kind="stable")[:, :k]
  return scores, -np.sort(-z, axis=1)[:, :3], near, images


@pytest.mark.parametrize("devices", [1, 8])
def test_blocks_find_what_whole_matrices_do(sets, devices):
  tested, trained = sets
  near = overlap_by_face.compared(
    tested,
    blocks(trained, 400),
    (40, 300),
    mesh=mesh_lib.make_mesh(devices=devices),
  )
  scores, deviations, images, cosines = brute(tested, trained, 8)
  np.testing.assert_array_equal(near.people, scores.argmax(axis=1))
  three = -np.sort(-scores, axis=1)[:, :3]
  np.testing.assert_allclose(near.cosines, three, atol=1e-5)
  np.testing.assert_allclose(near.deviations, deviations, atol=1e-3)
  expected = np.take_along_axis(cosines, images, axis=1)
  np.testing.assert_allclose(near.image_cosines, expected, atol=1e-5)
  told = np.take_along_axis(cosines, near.images, axis=1)
  np.testing.assert_allclose(told, expected, atol=1e-5)


def test_the_bar_parts_people_who_are_shared_from_strangers(sets):
  tested, trained = sets
  near = overlap_by_face.compared(tested, [trained], (40, 300))
  bar = overlap_by_face.bar(near.deviations, 300)
  found = np.flatnonzero(near.deviations[:, 0] >= bar)
  np.testing.assert_array_equal(found, np.arange(12))
  np.testing.assert_array_equal(near.people[:12], np.arange(12))


def test_strangers_reach_the_bar_as_often_as_expected():
  """Sets without any common person: two strangers in each are expected."""
  rng = np.random.default_rng(0)
  counts = []
  for _ in range(30):
    tested = drawn(rng.normal(size=(50, DIM)), 3, rng)
    trained = drawn(rng.normal(size=(200, DIM)), 3, rng)
    near = overlap_by_face.compared(tested, [trained], (50, 200))
    bar = overlap_by_face.bar(near.deviations, 200, expected=2)
    counts.append((near.deviations[:, 0] >= bar).sum())
  # Cosines in so few dimensions reach less far than normal ones.
  assert np.mean(counts) < 2, counts


def test_people_without_images_are_nobodys_neighbours(sets):
  tested, trained = sets
  near, without = (
    overlap_by_face.compared(tested, [trained], (40, people))
    for people in (305, 300)
  )
  for mine, other in zip(near, without, strict=True):
    np.testing.assert_allclose(mine, other, atol=1e-4)


@pytest.mark.parametrize(
  "numbers, words",
  [
    ((0, 5, 0.5), "0 people are tested"),
    ((5, 7, 0.5), "7 are in the training set"),
    ((5, 8, 3), "at most 2.5"),
    ((5, 8, 0), "more than 0"),
  ],
)
def test_what_nothing_can_be_told_from(numbers, words):
  with pytest.raises(ValueError, match=words):
    overlap_by_face.check(*numbers)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  """Nine people; three of them are tested, under other names, as copies."""
  root = tmp_path_factory.mktemp("overlap")
  trained = tiny.write_faces(root / "trained", people=9, images=3)
  tested = root / "tested"
  for k, name in enumerate(("Ada", "Bea", "Cy")):
    (tested / name).mkdir(parents=True)
    for file in sorted((trained / f"person{k}").iterdir()):
      picture = Image.open(file).convert("RGB")
      picture.save(tested / name / f"{file.stem}.jpg", quality=92)
  shutil.rmtree(trained / "person1")
  return trained, tested


def test_copies_under_other_names_are_found(model, folders, capsys):
  trained, tested = folders
  arguments = ["--protocol", "overlap", "--path", str(tested), "--training"]
  arguments += [str(trained), "--batch-size", "4", "--name", "shared"]
  assert evaluate.main([model.run, *arguments]) == 0
  assert "Tested people in the training set" in capsys.readouterr().out
  (result,) = results.read_all(model.run)
  assert result["images_in_training"] == pytest.approx(6 / 9)
  found, rest = result.exhibits
  assert {pair.first.name.partition("/")[0] for pair in found.comparisons} >= {
    "Ada", "Cy",
  }  # fmt: skip
  assert len(found.comparisons) + len(rest.comparisons) == 3
  page = pathlib.Path(model.run, "report", "index.html").read_text()
  assert "</b> right" not in page and "</b> wrong" not in page
  report = pathlib.Path(model.run, "report")
  with open(report / "shared_images.csv", newline="") as file:
    rows = list(csv.DictReader(file))
  pairs = {(row["tested"][:-4], row["trained"][:-4]) for row in rows}
  assert pairs == {
    (f"{name}/{3 * k + i}", f"person{k}/{3 * k + i}")
    for k, name in ((0, "Ada"), (2, "Cy"))
    for i in range(3)
  }
  with open(report / "shared_people.csv", newline="") as file:
    rows = list(csv.DictReader(file))
  shared = {
    row["tested"]: row["trained"] for row in rows if row["shared"] == "yes"
  }
  assert shared["Ada"] == "person0" and shared["Cy"] == "person2"
  listed = (report / "shared_seen.txt").read_text().splitlines()[1:]
  assert set(listed) == set(shared)
  excluded = (report / "shared_exclude.txt").read_text().splitlines()[1:]
  assert set(excluded) == set(shared.values())


def test_a_list_says_who_was_seen(model, folders, tmp_path):
  trained, _ = folders
  listed = tmp_path / "seen.txt"
  listed.write_text("# by face\nperson0\nperson8\n")
  known = overlap.trained_on(model.run, str(listed))
  text, warn = overlap.of_people(known, ["person0", "person2", "person8"])
  assert warn and text.startswith("2 of the 3 tested people (66.7 %) are among")
  assert str(listed) in text
  options = protocols.ProtocolOptions(
    "x", str(trained), batch_size=4, samples=20, seen=str(listed)
  )
  result = protocols.identify(model, options, cluster_at=None, method=None)
  assert any("2 of the 8 tested people" in line for line in result.warnings)


@pytest.mark.parametrize(
  "more, words",
  [
    (["--protocol", "tinyface", "--seen", "LIST"], "nobody is named"),
    (["--protocol", "drawn", "--seen", "gone.txt"], "no file 'gone.txt'"),
    (["--protocol", "drawn", "--training", "x"], "has no --training"),
    (["--protocol", "overlap"], "needs --training"),
  ],
)
def test_flags_that_do_not_belong(
  model, folders, tmp_path, capsys, more, words
):
  (tmp_path / "list.txt").write_text("Ada\n")
  more = [str(tmp_path / "list.txt") if m == "LIST" else m for m in more]
  assert evaluate.main([model.run, "--path", str(folders[1]), *more]) == 2
  assert words in capsys.readouterr().err


def test_too_many_strangers_are_refused_before_the_work(model, folders):
  options = protocols.ProtocolOptions("x", str(folders[1]), batch_size=4)
  with pytest.raises(ValueError, match=r"at most 1\.5"):
    overlap_search.searched(
      model, options, training=str(folders[0]), strangers=2
    )
