"""Files of embeddings."""

import sys
import zipfile

import numpy as np
import pytest

from facejax.vectors import embeddings


def some(count=6, dim=4, **changes):
  generator = np.random.default_rng(count)
  about = {"card": {"net": "x"}, "step": 3, "flip": True}
  return embeddings.Embeddings(
    **{
      "vectors": generator.normal(size=(count, dim)).astype(np.float32),
      "paths": np.asarray([f"a/{k}.jpg" for k in range(count)]),
      "labels": np.asarray([0, 1, -1, 1, 0, 0][:count], np.int32),
      "names": ["ada", "bob"],
      "about": about,
      "skipped": ["a/9.jpg: is empty"],
    }
    | changes
  )


def assert_same(one, other):
  np.testing.assert_array_equal(one.vectors, other.vectors)
  np.testing.assert_array_equal(one.paths, other.paths)
  np.testing.assert_array_equal(one.labels, other.labels)
  assert list(one.names) == list(other.names)
  assert one.about == other.about
  assert list(one.skipped) == list(other.skipped)


@pytest.mark.parametrize("suffix", embeddings.SUFFIXES)
def test_what_is_written_is_read(tmp_path, suffix):
  if suffix == ".parquet":
    pytest.importorskip("pyarrow")
  path = tmp_path / f"a{suffix}"
  embeddings.write(path, some())
  found = embeddings.read(path)
  assert_same(found, some())
  assert [found.name(k) for k in range(3)] == ["ada", "bob", "a/2.jpg"]
  assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_parts_are_joined_to_what_one_file_would_be(tmp_path):
  whole = some()
  cuts = [slice(0, 2), slice(2, 2), slice(2, 6)]
  parts = []
  for k, cut in enumerate(cuts):
    part = some(
      vectors=whole.vectors[cut],
      paths=whole.paths[cut],
      labels=whole.labels[cut],
      names=whole.names if k == 0 else (),
      skipped=whole.skipped if k == 2 else (),
    )
    parts.append(tmp_path / f"{k}.npz")
    embeddings.write(parts[-1], part)
  told = embeddings.join(tmp_path / "joined.npz", parts)
  embeddings.write(tmp_path / "whole.npz", whole)
  assert_same(embeddings.read(tmp_path / "joined.npz"), whole)
  assert told.vectors.size == 0 and len(told.labels) == 6
  joined = (tmp_path / "joined.npz").read_bytes()
  assert joined == (tmp_path / "whole.npz").read_bytes()
  assert embeddings.read_skipped(parts[2]) == whole.skipped


def test_numpy_reads_it_without_us(tmp_path):
  embeddings.write(tmp_path / "a.npz", some())
  with np.load(tmp_path / "a.npz") as archive:
    assert archive["embeddings"].shape == (6, 4)
    assert archive["names"][archive["labels"][1]] == "bob"


def test_an_npz_of_others_is_read(tmp_path):
  np.savez(
    tmp_path / "a.npz", embeddings=np.ones((3, 2)), labels=["x", "y", "x"]
  )
  found = embeddings.read(tmp_path / "a.npz")
  assert found.vectors.dtype == np.float32
  assert [found.name(k) for k in range(3)] == ["x", "y", "x"]
  np.savez(tmp_path / "b.npz", embeddings=np.ones((2, 2)))
  assert embeddings.read(tmp_path / "b.npz").name(1) == "row 1"


@pytest.mark.parametrize(
  ("members", "message"),
  [
    ({}, "embeddings"),
    ({"embeddings": np.ones(3)}, "shape"),
    ({"embeddings": np.ones((0, 3))}, "shape"),
    ({"embeddings": np.array([[1.0], [np.nan]])}, "not finite"),
    ({"embeddings": np.ones((2, 3)), "paths": ["a"]}, "1 paths"),
    ({"embeddings": np.ones((1, 3)), "labels": [1], "names": ["a"]}, "no name"),
    ({"embeddings": np.array([[{}]])}, "pickle"),
  ],
)
def test_a_bad_file_is_told(tmp_path, members, message):
  np.savez(tmp_path / "a.npz", **members)
  with pytest.raises(ValueError, match=message) as raised:
    embeddings.read(tmp_path / "a.npz")
  assert "a.npz" in str(raised.value)


def test_what_is_no_file_of_embeddings_is_told(tmp_path):
  (tmp_path / "a.npz").write_text("text")
  with pytest.raises(ValueError, match=r"a\.npz cannot be read"):
    embeddings.read(tmp_path / "a.npz")
  with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
    archive.writestr("embeddings.npy", b"nothing")
  with pytest.raises(ValueError, match=r"b\.npz cannot be read"):
    embeddings.read(tmp_path / "b.npz")
  with pytest.raises(FileNotFoundError, match=r"c\.npz"):
    embeddings.read(tmp_path / "c.npz")
  with pytest.raises(ValueError, match="parquet"):
    embeddings.read(tmp_path / "c.txt")


def test_where_it_cannot_be_written_is_told(tmp_path, monkeypatch):
  with pytest.raises(ValueError, match=r"ends in \.npz or"):
    embeddings.check_suffix(tmp_path / "a.npy")
  with pytest.raises(FileNotFoundError, match="nowhere"):
    embeddings.check_suffix(tmp_path / "nowhere" / "a.npz")
  monkeypatch.setitem(sys.modules, "pyarrow", None)
  with pytest.raises(ImportError, match=r"facejax\[parquet\]"):
    embeddings.check_suffix(tmp_path / "a.parquet")
