"""Galleries, votes, and the command line that asks them."""

import csv
import shutil
import sys

import numpy as np
import pytest

from facejax import search
from facejax.runs import embedder
from facejax.runtime import compile_cache, host_memory
from facejax.vectors import answer_texts, embeddings, gallery, nearest


def people(count=30, each=3, dim=24, *, noise=0.15, seed=0, about=None):
  """Embeddings of people, each about a direction of their own."""
  generator = np.random.default_rng(0)
  centers = generator.normal(size=(count, dim))
  generator = np.random.default_rng(seed)
  labels = np.repeat(np.arange(count, dtype=np.int32), each)
  vectors = centers[labels] + noise * generator.normal(size=(labels.size, dim))
  names = [f"p{k:02d}" for k in range(count)]
  paths = [f"{names[k]}/{i}.jpg" for i, k in enumerate(labels)]
  return embeddings.Embeddings(
    vectors.astype(np.float32), np.asarray(paths), labels, names, about or {}
  )


def strangers(count=500, dim=24):
  generator = np.random.default_rng(9)
  return embeddings.Embeddings(
    generator.normal(size=(count, dim)).astype(np.float32),
    np.asarray([f"distractor {k}" for k in range(count)]),
    np.full(count, -1, np.int32),
    [],
  )


def test_the_right_person_is_found_among_strangers(tmp_path):
  made = gallery.build(tmp_path / "known", [people(), strangers()])
  asked = people(seed=1)
  found = made.search(asked.vectors, 5)
  answers = made.answers(found, threshold=0.6)
  assert answer_texts.correct(made, asked, answers) == (90, 90)
  assert made.name(int(answers.rows[4])) == "p01"
  cosine = asked.vectors[4] @ made.known.vectors[answers.rows[4]]
  cosine /= np.linalg.norm(asked.vectors[4])
  assert answers.scores[4] == pytest.approx(cosine, abs=1e-6)
  assert (answers.votes >= 1).all()
  unknown = made.answers(
    made.search(strangers(3).vectors * -1, 5), threshold=0.9
  )
  assert unknown.rows.tolist() == [-1, -1, -1]
  assert made.name(-1) is None
  # The same files opened anew answer the same.
  again = gallery.open_gallery(tmp_path / "known").search(asked.vectors, 5)
  np.testing.assert_array_equal(again.rows, found.rows)


def vote(scores, rows, labels, threshold=None):
  found = nearest.Neighbours(np.float32([scores]), np.int32([rows]))
  answers = gallery.vote(found, np.asarray(labels), threshold=threshold)
  return tuple(part[0].item() for part in answers)


def test_most_votes_win_then_the_highest_sum_then_the_nearest():
  labels = [5, 5, 6, 6, -1, -1]
  nine, eight, seven = (float(np.float32(x)) for x in (0.9, 0.8, 0.7))
  assert vote([0.9, 0.8, 0.7], [0, 2, 3], labels) == (2, eight, 2)
  assert vote([0.9, 0.8, 0.7], [0, 2, 4], labels) == (0, nine, 1)
  assert vote([0.9, 0.9, 0.9, 0.7], [0, 2, 3, 1], labels) == (2, nine, 2)
  assert vote([0.9, 0.9], [2, 0], labels) == (2, nine, 1)
  # Faces without a name do not vote for each other.
  assert vote([0.9, 0.8, 0.7], [4, 5, 1], labels) == (4, nine, 1)
  # Those below the threshold do not vote; nobody left is nobody known.
  assert vote([0.9, 0.8, 0.7], [0, 2, 3], labels, 0.75) == (0, nine, 1)
  assert vote([0.9, 0.8], [0, 2], labels, 0.95) == (-1, nine, 0)
  # What an index did not find does not vote either.
  assert vote([0.7, -np.inf], [3, -1], labels) == (3, seven, 1)


def test_an_approximate_index_finds_most(tmp_path):
  pytest.importorskip("faiss")
  sets = [people(count=200), strangers()]
  made = gallery.build(tmp_path / "known", sets, index="HNSW16")
  asked = people(count=200, seed=1).vectors
  exact = made.search(asked, 3)
  near = made.search(asked, 3, exact=False)
  assert (near.rows == exact.rows).mean() > 0.95
  agree = near.rows == exact.rows
  np.testing.assert_allclose(near.scores[agree], exact.scores[agree], atol=1e-5)
  with pytest.raises(ValueError, match="faiss cannot make the index 'NSW'"):
    gallery.build(tmp_path / "other", sets, index="NSW")
  assert not (tmp_path / "other").exists()
  with pytest.raises(ValueError, match="without an approximate index"):
    gallery.build(tmp_path / "plain", sets).search(asked, 3, exact=False)
  trained = gallery.build(tmp_path / "ivf", sets, index="IVF8,Flat")
  assert (trained.search(asked, 1, exact=False).rows >= 0).all()


def test_an_index_without_faiss_is_told(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "faiss", None)
  with pytest.raises(ImportError, match=r"facejax\[index\]"):
    gallery.build(tmp_path / "known", [people()], index="HNSW16")
  assert not list(tmp_path.iterdir())


def test_bad_galleries_are_told(tmp_path):
  with pytest.raises(FileNotFoundError, match="no gallery"):
    gallery.open_gallery(tmp_path)
  with pytest.raises(ValueError, match="cannot be mixed"):
    gallery.build(tmp_path / "a", [people(), people(dim=8)])
  zero = people()
  zero.vectors[3] = 0
  with pytest.raises(ValueError, match="zero vectors or not finite"):
    gallery.build(tmp_path / "a", [zero])
  one, other = ({"step": step, "run": "r"} for step in (1, 2))
  with pytest.raises(ValueError, match="different nets.*step"):
    gallery.build(tmp_path / "a", [people(about=one), people(about=other)])
  assert not list(tmp_path.iterdir())
  gallery.build(tmp_path / "a", [people()])
  with pytest.raises(ValueError, match="exists"):
    gallery.build(tmp_path / "a", [people()])
  np.save(tmp_path / "a" / "labels.npy", np.zeros(3, np.int32))
  with pytest.raises(ValueError, match="is damaged: its files differ"):
    gallery.open_gallery(tmp_path / "a")


@pytest.fixture
def command(tiny_model, monkeypatch):
  monkeypatch.setattr(embedder, "load", lambda *_, **__: tiny_model)
  monkeypatch.setattr(compile_cache, "use", lambda: None)
  monkeypatch.setattr(host_memory, "keep_freed_memory", lambda: None)
  return lambda *words: search.main(list(map(str, words)))


def test_images_are_asked_for_among_images(
  command, tiny_run, tiny_faces, tmp_path, capsys
):
  known = tmp_path / "known"
  assert command("build", known, tiny_faces, "--run", tiny_run) == 0
  assert "12 faces, 4 people" in capsys.readouterr().out
  face = tiny_faces / "person2" / "7.png"
  # The net is that of the gallery.
  assert command("query", known, face, "--top", 2) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].startswith(
    f"{face}: person2 (1.000); nearest: person2 1.000,"
  )
  assert "1 queries: 1 named, 0 unknown at threshold 0.250" in lines[1]
  table = tmp_path / "who.csv"
  asked = ("query", known, tiny_faces, "--votes", 3, "--out", table)
  assert command(*asked, "--threshold", 0.5) == 0
  assert "of 12 whose person is in the gallery" in capsys.readouterr().out
  rows = list(csv.DictReader(table.read_text().splitlines()))
  assert len(rows) == 12 and rows[3]["name_1"] == "person1"
  assert float(rows[3]["score_1"]) == pytest.approx(1, abs=1e-5)


def test_embeddings_are_asked_for_among_embeddings(command, tmp_path, capsys):
  embeddings.write(tmp_path / "known.npz", people())
  embeddings.write(tmp_path / "others.npz", strangers())
  embeddings.write(tmp_path / "asked.npz", people(seed=1))
  known = tmp_path / "known"
  sets = (tmp_path / "known.npz", tmp_path / "others.npz")
  assert command("build", known, *sets) == 0
  assert "590 faces, 30 people, 500 faces without" in capsys.readouterr().out
  assert command("query", known, tmp_path / "asked.npz") == 0
  output = capsys.readouterr().out
  # No threshold is known: nobody is named, whoever is nearest.
  assert "90 queries: undecided, no threshold is known (pass --thr" in output
  assert "among 590 faces" in output
  assert "90 are most like their own person (100.00%)" in output
  assert "… and 70 more (--out)" in output
  assert command("query", known, tmp_path / "asked.npz", "--threshold", 0) == 0
  output = capsys.readouterr().out
  assert "90 queries: 90 named, 0 unknown at threshold 0.000, among" in output
  assert "90 named right (100.00%)" in output


@pytest.mark.parametrize("votes", [1, 3])
def test_a_stranger_is_not_named_without_a_threshold(
  command, tmp_path, capsys, votes
):
  embeddings.write(tmp_path / "known.npz", people())
  embeddings.write(tmp_path / "asked.npz", strangers(2))
  known, table = tmp_path / "known", tmp_path / "who.csv"
  assert command("build", known, tmp_path / "known.npz") == 0
  capsys.readouterr()
  query = ("query", known, tmp_path / "asked.npz", "--votes", votes)
  assert command(*query, "--top", 1, "--out", table) == 0
  first = capsys.readouterr().out.splitlines()[0]
  rows = list(csv.DictReader(table.read_text().splitlines()))
  assert [row["answer"] for row in rows] == ["undecided"] * 2
  near = f"{rows[0]['name_1']} {float(rows[0]['score_1']):.3f}"
  assert first == f"distractor 0: undecided; nearest: {near}"
  # Below a threshold that is known they are unknown, above it they have names.
  for threshold, is_known in ((0.99, False), (-1, True)):
    assert command(*query, "--threshold", threshold, "--out", table) == 0
    for row in csv.DictReader(table.read_text().splitlines()):
      assert row["answer"] != "undecided"
      assert (row["answer"] == "unknown") != is_known


def test_the_threshold_of_the_queries_counts_where_the_gallery_has_none(
  command, tmp_path, capsys
):
  embeddings.write(tmp_path / "known.npz", people())
  embeddings.write(tmp_path / "asked.npz", people(about={"threshold": 0.5}))
  assert command("build", tmp_path / "known", tmp_path / "known.npz") == 0
  assert command("query", tmp_path / "known", tmp_path / "asked.npz") == 0
  assert "90 named, 0 unknown at threshold 0.500" in capsys.readouterr().out


def test_mistakes_are_answered_in_one_line(
  command, tiny_faces, tmp_path, capsys
):
  embeddings.write(tmp_path / "a.npz", people(about={"flip": True}))
  embeddings.write(tmp_path / "b.npz", people(about={"flip": False}))
  known = tmp_path / "known"
  assert command("build", known, tmp_path / "a.npz") == 0
  for words, message in (
    (("query", known, tmp_path / "b.npz"), "different nets"),
    (("query", known, tiny_faces), "--run"),
    (
      ("query", known, tmp_path / "a.npz", "--approximate"),
      "without an approx",
    ),
    (("query", tmp_path, tmp_path / "a.npz"), "no gallery"),
    (("build", known, tmp_path / "a.npz"), "exists"),
    (("build", tmp_path / "x", tmp_path / "none"), "none"),
  ):
    assert command(*words) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
  shutil.rmtree(known)


def test_people_come_change_and_go(command, tmp_path, capsys):
  for name, seed in (("a", 0), ("b", 1)):
    embeddings.write(tmp_path / f"{name}.npz", people(seed=seed))
  known = tmp_path / "known"
  assert command("build", known, tmp_path / "a.npz", "--storage", "int8") == 0
  assert command("add", known, tmp_path / "b.npz") == 0
  assert command("remove", known, "p03", "p04") == 0
  assert command("update", known, tmp_path / "b.npz") == 0
  sizes = capsys.readouterr().out.splitlines()
  wanted = ["90 faces, 30", "180 faces, 30", "168 faces, 28", "90 faces, 30"]
  assert [line.split(": ")[1].split(" pe")[0] for line in sizes] == wanted
  assert command("query", known, tmp_path / "a.npz", "--threshold", 0) == 0
  assert "90 named right (100.00%)" in capsys.readouterr().out
  assert command("remove", known, "nobody") == 2
  assert "not in the gallery: nobody" in capsys.readouterr().err
  assert command("add", tmp_path / "a.npz", known) == 2
  assert "GALLERY and FACES look exchanged" in capsys.readouterr().err
