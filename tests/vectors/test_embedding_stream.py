"""Files of embeddings, block by block, against the whole of them."""

import numpy as np
import pytest

from facejax.vectors import embedding_stream, embeddings


def write(path, count=11, dim=3):
  if path.suffix == ".parquet":
    pytest.importorskip("pyarrow")
  rng = np.random.default_rng(0)
  embeddings.write(
    path,
    embeddings.Embeddings(
      rng.normal(size=(count, dim)).astype(np.float32),
      np.asarray([f"a/{k}.jpg" for k in range(count)]),
      np.zeros(count, np.int32),
      ["ada"],
      {"step": 3},
    ),
  )
  return path


@pytest.mark.parametrize("suffix", embeddings.SUFFIXES)
@pytest.mark.parametrize("rows", [1, 4, 11, 50])
def test_blocks_are_the_whole(tmp_path, suffix, rows):
  path = write(tmp_path / f"a{suffix}")
  whole = embeddings.read(path)
  stream = embedding_stream.EmbeddingStream(path)
  assert len(stream) == 11 and stream.dim == 3 and stream.about == {"step": 3}
  blocks = list(stream.vectors(rows))
  assert max(map(len, blocks)) == min(rows, 11)
  assert all(block.dtype == np.float32 for block in blocks)
  np.testing.assert_array_equal(np.concatenate(blocks), whole.vectors)
  paths = list(stream.paths(rows))
  assert [len(block) for block in paths] == [len(block) for block in blocks]
  assert [one for block in paths for one in block] == whole.paths.tolist()


def test_files_of_others(tmp_path):
  x = np.arange(10, dtype=np.float64).reshape(5, 2) + 1
  np.savez_compressed(tmp_path / "a.npz", embeddings=x)
  stream = embedding_stream.EmbeddingStream(tmp_path / "a.npz")
  assert list(stream.paths(3)) == [
    ["row 0", "row 1", "row 2"],
    ["row 3", "row 4"],
  ]
  np.testing.assert_array_equal(np.concatenate([*stream.vectors(3)]), x)
  assert not stream.about


@pytest.mark.parametrize(
  ("members", "message"),
  [
    ({"x": np.ones((2, 2))}, "cannot be read as embeddings"),
    ({"embeddings": np.ones(3)}, r"shape \(3,\)"),
    ({"embeddings": np.ones((0, 3))}, "holds no embeddings"),
    ({"embeddings": np.asfortranarray(np.ones((2, 3)))}, "column by column"),
  ],
)
def test_damaged_files_are_refused(tmp_path, members, message):
  np.savez(tmp_path / "a.npz", **members)
  with pytest.raises(ValueError, match=message):
    embedding_stream.EmbeddingStream(tmp_path / "a.npz")


def test_other_files_are_refused(tmp_path):
  (tmp_path / "a.txt").write_text("a")
  with pytest.raises(ValueError, match="is no file of embeddings"):
    embedding_stream.EmbeddingStream(tmp_path / "a.txt")
  with pytest.raises(FileNotFoundError, match=r"gone\.npz"):
    embedding_stream.EmbeddingStream(tmp_path / "gone.npz")
  np.savez(tmp_path / "b.npz", embeddings=np.ones((2, 2)), paths=np.ones(3))
  stream = embedding_stream.EmbeddingStream(tmp_path / "b.npz")
  with pytest.raises(ValueError, match="2 embeddings, .* paths"):
    list(stream.paths(2))
