"""Which packs a folder holds, and which lie beside images."""

import pickle

import pytest
from helpers import pair_packs

from facejax.data.pairs import pack_folders, pairs


def test_a_folder_stands_for_the_packs_in_it_by_name(tmp_path):
  for name in ("lfw.bin", "agedb_30.bin", "mine.NPZ", ".hidden.bin", "a.txt"):
    (tmp_path / name).write_bytes(b"")
  (tmp_path / "deeper.bin").mkdir()
  (tmp_path / "FP").mkdir()
  other = str(tmp_path / "pairs.txt")
  cfp = str(tmp_path / "FP")
  assert pack_folders.expanded([other, str(tmp_path), cfp]) == [
    other,
    *(str(tmp_path / n) for n in ("agedb_30.bin", "lfw.bin", "mine.NPZ")),
    cfp,
  ]


def test_a_folder_without_packs_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r"holds no pack.*\.bin or \.npz"):
    pack_folders.expanded([str(tmp_path)])


def test_packs_beside_images_are_told_from_other_files(tmp_path):
  for name in ("train.rec", "weights.bin", "pack.npz"):
    (tmp_path / name).write_bytes(b"PK\x03\x04")
  # By a protocol that no byte announces, and damaged: the name alone says so.
  (tmp_path / "lfw.bin").write_bytes(pickle.dumps(([], []), 0))
  mine = pair_packs.write(tmp_path / "mine.bin")
  expected = [str(tmp_path / "lfw.bin"), str(mine)]
  assert pack_folders.beside(tmp_path) == expected
  assert pack_folders.beside(tmp_path / "train.rec") == expected
  assert pack_folders.beside(tmp_path / "absent" / "x") == []
  assert len(pairs.open_pairs(mine, image_size=(16, 16))) == 40
