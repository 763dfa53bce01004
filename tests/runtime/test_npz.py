"""Archives of which one member need not fit in memory."""

import zipfile

import numpy as np
import pytest

from facejax.runtime import npz


def write(path):
  blocks = [
    np.float32([[1, 2], [3, 4]]),
    np.empty((0, 2)),
    np.float64([[5, 6]]),
  ]
  small = {"names": np.asarray(["ada", "bob"])}
  npz.write(path, small, large="x", shape=(3, 2), blocks=blocks)
  return np.concatenate(blocks)


def test_numpy_reads_what_came_in_blocks(tmp_path):
  whole = write(tmp_path / "a.npz")
  with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
    np.testing.assert_array_equal(archive["x"], whole)
    assert archive["x"].dtype == np.float32
    assert archive["names"].tolist() == ["ada", "bob"]
  write(tmp_path / "b.npz")
  assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_member_is_mapped_not_read(tmp_path):
  whole = write(tmp_path / "a.npz")
  found = npz.mapped(tmp_path / "a.npz", "x")
  assert isinstance(found, np.memmap)
  np.testing.assert_array_equal(found, whole)
  # As NumPy writes it: another order, another type, nothing at all.
  for values in (whole.T, whole.astype(int), whole[:0]):
    np.savez(tmp_path / "b.npz", y=1, x=values)
    np.testing.assert_array_equal(npz.mapped(tmp_path / "b.npz", "x"), values)


def test_what_is_compressed_is_read(tmp_path):
  np.savez_compressed(tmp_path / "a.npz", x=np.arange(5))
  assert npz.mapped(tmp_path / "a.npz", "x").tolist() == [0, 1, 2, 3, 4]


def test_damage_is_an_error(tmp_path):
  write(tmp_path / "a.npz")
  with pytest.raises(KeyError, match="y"):
    npz.mapped(tmp_path / "a.npz", "y")
  np.savez(tmp_path / "b.npz", x=np.asarray([{}], object))
  with pytest.raises(ValueError, match="pickle"):
    npz.mapped(tmp_path / "b.npz", "x")
  with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
    archive.writestr("x.npy", b"no array")
  with pytest.raises(ValueError, match="magic string"):
    npz.mapped(tmp_path / "c.npz", "x")
  # Cut off in the middle of the member, with the directory put back.
  with zipfile.ZipFile(tmp_path / "a.npz") as archive:
    member = archive.read("x.npy")
  with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
    archive.writestr("x.npy", member[:-4])
  with pytest.raises(ValueError, match="beyond"):
    npz.mapped(tmp_path / "d.npz", "x")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_members_are_read_block_by_block(tmp_path, save, rows):
  x = np.arange(21, dtype=np.float64).reshape(7, 3)
  names = np.asarray([f"n{k}" for k in range(7)])
  save(tmp_path / "a.npz", x=x, names=names)
  for name, whole in (("x", x), ("names", names)):
    member = npz.Member(tmp_path / "a.npz", name)
    assert member.shape == whole.shape and member.dtype == whole.dtype
    blocks = list(member.blocks(rows))
    assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_members_that_cannot_be_read_in_rows(tmp_path):
  np.savez(
    tmp_path / "a.npz",
    columns=np.asfortranarray(np.ones((2, 3))),
    objects=np.asarray([{}], object),
  )
  for name, message in (("columns", "column by column"), ("objects", "pickle")):
    with pytest.raises(ValueError, match=message):
      npz.Member(tmp_path / "a.npz", name)
  with pytest.raises(KeyError):
    npz.Member(tmp_path / "a.npz", "nothing")
  with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
    header = {"descr": "<f4", "fortran_order": False, "shape": (4, 2)}
    with archive.open("x.npy", "w") as file:
      np.lib.format.write_array_header_1_0(file, header)
      file.write(bytes(24))
  with pytest.raises(ValueError, match="cut short"):
    list(npz.Member(tmp_path / "b.npz", "x").blocks(4))
