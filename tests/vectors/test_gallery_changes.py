"""People who come, go and change, against a gallery built of them at once."""

import json
import shutil

import numpy as np
import pytest

from facejax.runtime import folder_lock, json_files, whole_files
from facejax.vectors import (
  embeddings,
  gallery,
  gallery_changes,
  gallery_files,
  storage,
)


def people(names, each=3, *, seed=0, dim=24, about=None):
  """Faces; those of a name lie about a direction of its own."""
  rows, labels = [], np.repeat(np.arange(len(names), dtype=np.int32), each)
  generator = np.random.default_rng(seed)
  for k in labels:
    center = np.random.default_rng(sum(names[k].encode())).normal(size=dim)
    rows.append(center + 0.2 * generator.normal(size=dim))
  paths = [f"{names[k]}/{seed}-{i}.jpg" for i, k in enumerate(labels)]
  return embeddings.Embeddings(
    np.float32(rows), np.asarray(paths), labels, list(names), about or {}
  )


def nameless(count=5, dim=24):
  generator = np.random.default_rng(5)
  return embeddings.Embeddings(
    generator.normal(size=(count, dim)).astype(np.float32),
    np.asarray([f"stranger {k}" for k in range(count)]),
    np.full(count, -1, np.int32),
    [],
  )


ASKED = people([*"abcdefgh"], 2, seed=9).vectors


def assert_same(made, wanted, k=5):
  """Faces, scores and names are those of another gallery, and their order."""
  found, best = (each.search(ASKED, k) for each in (made, wanted))
  np.testing.assert_allclose(found.scores, best.scores, atol=1e-6)
  for rows, others in zip(found.rows, best.rows, strict=True):
    for row, other in zip(rows, others, strict=True):
      assert made.name(row) == wanted.name(other)
      assert made.known.paths[row] == wanted.known.paths[other]
  answers, right = (
    each.answers(near, threshold=0.6)
    for each, near in ((made, found), (wanted, best))
  )
  np.testing.assert_array_equal(answers.votes, right.votes)
  sizes = [(g.faces, g.people, g.nameless) for g in (made, wanted)]
  assert sizes[0] == sizes[1]


def files(folder):
  """All files but those that say what counts, and their content."""
  return {
    path.relative_to(folder): path.read_bytes()
    for path in folder.rglob("*")
    if path.is_file() and path.name != gallery_files.CHANGES
  }


@pytest.mark.parametrize("stored", storage.KINDS)
def test_changes_are_as_if_built_at_once(tmp_path, stored):
  first, more, again = (
    people("abcd"), people("dxe", seed=1), people("bf", 2, seed=2)
  )  # fmt: skip
  folder = tmp_path / "known"

  def at_once(name, sets):
    return gallery.build(tmp_path / name, sets, stored=stored)

  gallery.build(folder, [first, nameless()], stored=stored)
  before = files(folder)
  made = gallery_changes.add(folder, [more])
  assert_same(made, at_once("one", [first, nameless(), more]))
  made = gallery_changes.remove(folder, ["c", "x", "stranger 3"])
  strangers = nameless()
  left = embeddings.Embeddings(
    np.delete(strangers.vectors, 3, 0),
    np.delete(strangers.paths, 3),
    strangers.labels[:-1],
    [],
  )
  old, new = people("abcd"), people("dxe", seed=1)
  sets = [part(old, "abd"), left, part(new, "de")]
  assert_same(made, at_once("two", sets))
  made = gallery_changes.update(folder, [again])
  sets = [part(old, "ad"), left, part(new, "de"), again]
  assert_same(made, at_once("three", sets))
  # A face keeps its row, and no file that was there has changed.
  assert made.known.paths[0] == "a/0-0.jpg" and len(made.known) == 30
  now = files(folder)
  assert all(now[path] == content for path, content in before.items())
  # Whom somebody removed may come back.
  made = gallery_changes.add(folder, [people("c", seed=4)])
  assert_same(made, at_once("four", [*sets, people("c", seed=4)]))


def part(whole, names):
  rows = np.isin(np.asarray(whole.names)[whole.labels], [*names])
  return embeddings.Embeddings(
    whole.vectors[rows], whole.paths[rows], whole.labels[rows], whole.names
  )


@pytest.mark.parametrize("name", ["part-2", "removed-2.npy", "changes.json"])
def test_a_change_that_is_cut_short_has_not_happened(
  tmp_path, monkeypatch, name
):
  folder = tmp_path / "known"
  gallery.build(folder, [people("abc")], stored="int8")
  before = gallery_changes.remove(folder, ["c"])
  commit = whole_files.commit

  def killed(draft, path):
    if path.name == name:
      raise KeyboardInterrupt
    commit(draft, path)

  with monkeypatch.context() as patch:
    patch.setattr(whole_files, "commit", killed)
    # What cleans up after an error does not run after a kill.
    patch.setattr(whole_files, "remove", lambda path: None)
    with pytest.raises(KeyboardInterrupt):
      gallery_changes.update(folder, [people("bd", seed=1)])
  assert_same(gallery.open_gallery(folder), before)
  made = gallery_changes.update(folder, [people("bd", seed=1)])
  sets = [people("a"), people("bd", seed=1)]
  wanted = gallery.build(tmp_path / "wanted", sets)
  assert made.faces == wanted.faces == 9
  assert made.search(ASKED, 9).scores == pytest.approx(
    wanted.search(ASKED, 9).scores, abs=1e-6
  )
  assert not [p for p in folder.iterdir() if whole_files.is_draft(p.name)]
  assert sorted(p.name for p in folder.glob("removed-*")) == [
    # That of before stays for who has just read that it counts.
    "removed-1.npy", "removed-2.npy",
  ]  # fmt: skip


def test_who_has_it_open_goes_on_seeing_it(tmp_path):
  folder = tmp_path / "known"
  before = gallery.build(folder, [people("abcd")], stored="int8")
  wanted = before.search(ASKED, 3)
  gallery_changes.remove(folder, ["a"])
  gallery_changes.add(folder, [people("a", seed=3)])
  np.testing.assert_array_equal(before.search(ASKED, 3).rows, wanted.rows)


def test_a_gallery_of_before_opens_and_changes(tmp_path):
  folder = tmp_path / "known"
  gallery.build(folder, [people("abc")])
  about = json_files.read(folder / gallery_files.ABOUT)
  del about["stored"]
  (folder / gallery_files.ABOUT).write_text(json.dumps(about))
  assert sorted(path.name for path in folder.iterdir()) == [
    "gallery.json", "labels.npy", "paths.npy", "vectors.npy",
  ]  # fmt: skip
  assert gallery.open_gallery(folder).faces == 9
  made = gallery_changes.add(folder, [people("d")])
  wanted = gallery.build(tmp_path / "wanted", [people("abc"), people("d")])
  assert_same(made, wanted)


def test_mistakes_are_told_and_change_nothing(tmp_path):
  folder = tmp_path / "known"
  about = {"step": 1, "run": "r"}
  gallery.build(folder, [people("abc", about=about)])
  before = files(folder)
  for function, argument, message in (
    (gallery_changes.remove, ["a", "zoe"], "1 of 2 names are not.*: zoe"),
    (gallery_changes.remove, [*"abc"], "nobody would be left"),
    (gallery_changes.update, [nameless()], "5 faces have no name"),
    (gallery_changes.add, [people("d", dim=8)], "8 numbers cannot join.*24"),
    (gallery_changes.add, [people("d", about={"step": 2})], "different nets"),
  ):
    with pytest.raises(ValueError, match=message):
      function(folder, argument)
  with (
    folder_lock.held(folder / ".lock", folder_lock.Advice("go")),
    pytest.raises(folder_lock.InUseError, match="in use by"),
  ):
    gallery_changes.add(folder, [people("d")])
  assert files(folder) == before
  with pytest.raises(FileNotFoundError, match="no gallery"):
    gallery_changes.remove(tmp_path, ["a"])
  with pytest.raises(ValueError, match="storage 'int4': choose float32"):
    gallery.build(tmp_path / "other", [people("a")], stored="int4")
  gallery_changes.add(folder, [people("d")])
  shutil.rmtree(folder / "part-1")
  with pytest.raises(ValueError, match="is damaged"):
    gallery.open_gallery(folder)


def test_an_index_cannot_follow(tmp_path):
  pytest.importorskip("faiss")
  folder = tmp_path / "known"
  gallery.build(folder, [people("abcd")], index="HNSW4")
  with pytest.raises(
    ValueError, match="approximate index, which cannot follow"
  ):
    gallery_changes.remove(folder, ["a"])
  (folder / gallery_files.INDEX).unlink()
  assert gallery_changes.remove(folder, ["a"]).faces == 9
