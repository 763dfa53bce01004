"""Lists of images that a benchmark is better without."""

import pytest

from facejax.data import refined


def test_paths_are_met_by_their_ends(tmp_path):
  (tmp_path / "a.txt").write_text(
    "# noises\nAda_12.png\n3\tx/1@N05/7_0.jpg\nb_1.x\nEve_1.jpg\n"
  )
  (tmp_path / "b.txt").write_text("./top/z.jpg\n")
  listed = refined.RefinedList([tmp_path / "a.txt", tmp_path / "b.txt"])
  assert len(listed) == 5
  for path, left_out in (
    ("faces/Ada/Ada_12.jpg", True),
    ("Ada_12", True),
    ("faces/Ada/Ada_1.jpg", False),
    ("faces/Ada_12.jpg/1.jpg", False),
    ("all/x/1@N05/7_0.jpg", True),
    ("all/y/1@N05/7_0.jpg", False),
    ("1@N05/7_0.jpg", False),
    ("b_1.x", True),
    ("b_1.jpg", False),
    ("top/z.png", True),
  ):
    assert listed.holds(path) == left_out, path
  assert listed.unmatched == ["Eve_1"]


def test_no_list_leaves_nothing_out():
  assert not refined.RefinedList().holds("a.jpg")


def test_mistakes_are_named(tmp_path):
  (tmp_path / "a.txt").write_text("ok.jpg\n3\t\n")
  with pytest.raises(FileNotFoundError, match="gone"):
    refined.RefinedList([tmp_path / "gone.txt"])
