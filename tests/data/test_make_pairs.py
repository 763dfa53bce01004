import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from facejax.data import images, make_pairs
from facejax.data.pairs import listed, packs, pairs

LIST = "2\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\nBob\t1\t2\nBob\t2\tAnn\t2\n"


@pytest.fixture
def faces(tmp_path):
  rng = np.random.default_rng(0)
  for person in ("Ann", "Bob"):
    folder = tmp_path / "faces" / person
    folder.mkdir(parents=True)
    for n in (1, 2):
      pixels = rng.integers(0, 256, (10, 8, 3), np.uint8)
      Image.fromarray(pixels).save(folder / f"{person}_{n:04d}.jpg")
  (tmp_path / "pairs.txt").write_text(LIST)
  return tmp_path


def run(folder, *flags, out="set.bin"):
  return make_pairs.main(
    [*(str(folder / name) for name in ("faces", "pairs.txt", out)), *flags]
  )


def test_bin_holds_the_files_byte_for_byte(faces, capsys):
  assert run(faces) == 0
  told = capsys.readouterr().out
  assert "4 pairs, 2 of them genuine, in 2 folds; 4 images" in told
  bins, same = pickle.loads((faces / "set.bin").read_bytes())
  names = (
    "Ann 1",
    "Ann 2",
    "Ann 1",
    "Bob 1",
    "Bob 1",
    "Bob 2",
    "Bob 2",
    "Ann 2",
  )
  for data, name in zip(bins, names, strict=True):
    person, n = name.split()
    file = faces / "faces" / person / f"{person}_000{n}.jpg"
    assert data == file.read_bytes()
  assert same == [True, False, True, False]


def test_npz_is_the_list_and_the_folder(faces):
  assert run(faces, out="set.npz") == 0
  ours = pairs.open_pairs(faces / "set.npz", image_size=(10, 8))
  theirs = pairs.open_pairs(
    faces / "pairs.txt", root=faces / "faces", image_size=(10, 8)
  )
  for name in ("first", "second", "same", "fold"):
    np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
  for k in range(4):
    np.testing.assert_array_equal(ours.source[k], theirs.source[k])
    assert ours.source.name(k) == theirs.source.name(k)


def test_images_are_resized_without_loss(faces):
  assert run(faces, "--image-size", "6", "4", "--crop", "0.5", out="x.npz") == 0
  pack = packs.read_pack(faces / "x.npz")
  expected = pairs.open_pairs(
    faces / "pairs.txt", root=faces / "faces", image_size=(6, 4), crop=0.5
  )
  for k in range(4):
    small = images.decode(pack.files.encoded(k), name="")
    np.testing.assert_array_equal(small, expected.source[k])


@pytest.mark.parametrize(
  ("flags", "out", "message"),
  [
    ((), "set.pkl", r"a pack is called \.bin"),
    ((), "nowhere/set.bin", "there is no folder"),
    (("--crop", "0.5"), "set.bin", "--crop goes with --image-size"),
    (("--protocol", "agedb"), "set.bin", "line 1: expected 3 fields"),
    (("--image-size", "0", "4"), "set.bin", "image_size must be"),
  ],
)
def test_mistakes_are_told_in_one_line(faces, capsys, flags, out, message):
  assert run(faces, *flags, out=out) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ")
  assert error.count("\n") == 1
  with pytest.raises(ValueError, match=message):
    raise ValueError(error)
  assert sorted(path.name for path in faces.iterdir()) == ["faces", "pairs.txt"]


def test_a_damaged_image_stops_and_nothing_is_written(faces, capsys):
  file = faces / "faces" / "Bob" / "Bob_0002.jpg"
  file.write_bytes(file.read_bytes()[:200])
  assert run(faces) == 2
  assert "Bob/Bob_0002.jpg" in capsys.readouterr().err
  assert not (faces / "set.bin").exists()


def test_the_command_line(faces):
  command = [sys.executable, "-m", "facejax.data.make_pairs"]
  taught = subprocess.run([*command, "--help"], capture_output=True, text=True)
  assert taught.returncode == 0
  assert "lfw.npz" in taught.stdout
  done = subprocess.run(
    [*command, "faces", "pairs.txt", "out.npz"],
    cwd=faces,
    capture_output=True,
    text=True,
    env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": ""},
  )
  assert (done.returncode, done.stderr) == (0, "")
  assert len(packs.read_pack(faces / "out.npz")) == 4


def test_all_of_lfw(data_folder, tmp_path):
  root, file = (
    data_folder / "lfw_112",
    data_folder / "lfw_protocol" / "pairs.txt",
  )
  flags = [str(root), str(file), str(tmp_path / "lfw.npz")]
  assert make_pairs.main(flags) == 0
  pack = packs.read_pack(tmp_path / "lfw.npz")
  expected = listed.listed_pairs(file, root)
  for name in ("first", "second", "same", "fold"):
    np.testing.assert_array_equal(getattr(pack, name), getattr(expected, name))
  names = [pack.files.name(k) for k in range(len(pack.files))]
  assert names == [expected.files.name(k) for k in range(len(names))]
  for k in range(0, len(names), 97):
    assert pack.files.encoded(k) == (root / names[k]).read_bytes()
  np.testing.assert_array_equal(pack.files.labels, expected.files.labels)
