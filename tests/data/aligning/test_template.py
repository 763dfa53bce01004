"""The template of dlib's net: where it lies, and faces that are made by it."""

import json

import numpy as np
import pytest
from PIL import Image

from facejax.data import align, images
from facejax.data.aligning import command, landmarks

SIDE = 150


def test_it_is_dlib_s_mean_face():
  # Of the tip of the nose, point 30, the mean face says (0.490127, 0.515625).
  nose = (0.25 + np.asarray([0.490127, 0.515625])) / 1.5 * SIDE
  found = align.template((SIDE, SIDE), "dlib")
  np.testing.assert_allclose(found[2], nose, atol=1e-4)
  # Eyes lie level, and the mouth below them by what it is below the nose.
  assert found[0, 1] == found[1, 1] < found[2, 1] < found[3, 1] == found[4, 1]
  double = align.template((2 * SIDE, 2 * SIDE), "dlib")
  np.testing.assert_allclose((double + 0.5) / 2 - 0.5, found)


def test_points_of_the_template_change_nothing():
  image = np.random.default_rng(2).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
  points = align.template((SIDE, SIDE), "dlib")
  aligned = align.align(image, points, image_size=(SIDE, SIDE), kind="dlib")
  np.testing.assert_array_equal(aligned, image)


@pytest.mark.parametrize("size", [(112, 96), (0, 0), (8192, 8192)])
def test_only_squares(size):
  with pytest.raises(ValueError, match="squares"):
    align.template(size, "dlib")


def test_a_folder_is_aligned_to_it(tmp_path, capsys):
  y, x = np.indices((SIDE + 20, SIDE + 40))
  photo = np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)
  (tmp_path / "src" / "ada").mkdir(parents=True)
  Image.fromarray(photo).save(tmp_path / "src" / "ada" / "1.png")
  points = align.template((SIDE, SIDE), "dlib") + np.asarray([30, 10])
  numbers = ",".join(f"{n:.6f}" for n in points.ravel())
  names = ",".join(f"x{k},y{k}" for k in range(1, 6))
  table = tmp_path / "points.csv"
  table.write_text(f"path,{names}\nada/1.png,{numbers}\n")
  source, target = str(tmp_path / "src"), str(tmp_path / "dst")
  words = [source, target, "--landmarks", str(table), "--quality", "100"]
  assert command.main([*words, "--workers", "0", "--template", "dlib"]) == 0
  said = json.loads((tmp_path / "dst" / "align.json").read_text())
  assert said["template"] == "dlib" and said["image_size"] == [SIDE, SIDE]
  face = images.decode((tmp_path / "dst/ada/1.jpg").read_bytes(), name="face")
  expected = photo[10 : 10 + SIDE, 30 : 30 + SIDE]
  assert np.abs(face.astype(int) - expected).mean() < 1.5  # of the JPEG
  # Another template is not taken for done.
  assert command.main([*words, "--workers", "0"]) == 2
  assert "aligned otherwise" in capsys.readouterr().err


def test_usual_sizes():
  assert landmarks.size_of("arcface") == (112, 112)
  assert landmarks.size_of("dlib") == (SIDE, SIDE)
