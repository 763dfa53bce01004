"""The script that compares two tables of landmarks."""

import sys

import numpy as np
import pytest
from helpers import paths

SCRIPTS = paths.ROOT / "scripts"


@pytest.fixture
def script(monkeypatch):
  monkeypatch.syspath_prepend(str(SCRIPTS))
  import compare_landmarks

  yield compare_landmarks
  sys.modules.pop("compare_landmarks")


def write(path, faces):
  rows = [
    f"{name}," + ",".join(map(str, np.ravel(points))) for name, points in faces
  ]
  path.write_text("path,x1,y1\n" + "\n".join(rows) + "\n")
  return str(path)


def test_the_nearest_face_of_a_photo_counts(script, tmp_path, capsys):
  points = np.asarray([[0, 0], [10, 0], [5, 5], [1, 9], [9, 9]], float)
  near, nearer = points + np.asarray([3, 4]), points + np.asarray([0, 1])
  found = write(
    tmp_path / "found.csv", [("a", near), ("a", points + 50), ("b", nearer)]
  )
  wanted = write(
    tmp_path / "wanted.csv", [("a", points), ("b", points), ("c", points)]
  )
  script.main([found, wanted])
  assert capsys.readouterr().out.splitlines() == [
    "2 faces of photos that both tables have",
    "pixels: median 3.000, 90 % within 4.600, largest 5.000",
    "of the eyes: median 0.300, 90 % within 0.460, largest 0.500",
  ]
  with pytest.raises(SystemExit, match="no photo in common"):
    script.main([found, write(tmp_path / "none.csv", [])])
