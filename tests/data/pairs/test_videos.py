"""splits.txt of YouTube Faces and the frames that it names."""

import numpy as np
import pytest
from PIL import Image

from facejax.data.pairs import videos

HEADER = "split number, first name, second name, is same, original\n"


def write(root, names):
  for name in names:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), 9, np.uint8)).save(path)


@pytest.fixture
def root(tmp_path):
  names = [f"Ada_X/0/0.{k}.jpg" for k in (99, 100, 7)]
  names += [f"Ada_X/2/aligned_detect_2.{k}.jpg" for k in (1000, 998, 999)]
  write(tmp_path / "db", [*names, "Bob_Y/1/1.5.jpg", "Bob_Y/3/3.1.jpg"])
  return tmp_path / "db"


def listed(tmp_path, text):
  (tmp_path / "splits.txt").write_text(text)
  return tmp_path / "splits.txt"


def test_frames_come_in_the_order_of_their_numbers(tmp_path, root):
  text = f"{HEADER}1, Bob_Y/1, Ada_X/2, 0, 1\n2,Ada_X/0,Ada_X/2,1,0\n"
  found = videos.open_videos(listed(tmp_path, text), root)
  assert found.frames.class_names == ["Ada_X/0", "Ada_X/2", "Bob_Y/1"]
  assert [found.frames.name(k) for k in range(len(found.frames))] == [
    "Ada_X/0/0.7.jpg",
    "Ada_X/0/0.99.jpg",
    "Ada_X/0/0.100.jpg",
    "Ada_X/2/aligned_detect_2.998.jpg",
    "Ada_X/2/aligned_detect_2.999.jpg",
    "Ada_X/2/aligned_detect_2.1000.jpg",
    "Bob_Y/1/1.5.jpg",
  ]
  assert found.frames.labels.tolist() == [0, 0, 0, 1, 1, 1, 2]
  assert found.first.tolist() == [2, 0] and found.second.tolist() == [1, 1]
  assert found.same.tolist() == [False, True]
  assert found.fold.tolist() == [0, 1]
  few = videos.open_videos(listed(tmp_path, text), root, frames=2)
  assert few.frames.labels.tolist() == [0, 0, 1, 1, 2]
  assert few.frames.name(1) == "Ada_X/0/0.99.jpg"


def test_a_list_without_names_of_columns(tmp_path):
  (pair,) = videos.read_splits(listed(tmp_path, "10,A/0,A/1,1\n"))
  assert (pair.first, pair.second, pair.same, pair.fold) == (
    "A/0", "A/1", True, 9,
  )  # fmt: skip


@pytest.mark.parametrize(
  ("text", "message"),
  [
    (HEADER, "lists no pair of videos"),
    (f"{HEADER}1, Ada_X/0, Ada_X/2\n", "line 2: expected 4 fields"),
    ("1, Ada_X/0, Ada_X/2, yes, 0\n", "line 1: expected 0 or 1 .* 'yes'"),
    ("0, Ada_X/0, Ada_X/2, 1, 0\n", "line 1: expected a number of 1 or more"),
    ("1, ../Ada_X/0, Ada_X/2, 1, 0\n", "line 1: .* leads out"),
    ("1, Ada_X/0, Ada_X/9, 1, 0\n", "line 1: there is no folder .*Ada_X/9"),
    ("1, Ada_X/0, Eve/0, 1, 0\n", "line 1: .*Eve/0' has no frames"),
    ("1, Ada_X/0, Mal/0, 1, 0\n", r"line 1: 1 frames are damaged, .*0\.2\.jpg"),
  ],
)
def test_mistakes_name_file_and_line(tmp_path, root, text, message):
  (root / "Eve" / "0").mkdir(parents=True)
  write(root, ["Mal/0/0.1.jpg"])
  (root / "Mal" / "0" / "0.2.jpg").write_text("no image")
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    videos.open_videos(listed(tmp_path, text), root)


def test_a_missing_root_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match="no folder of videos .*gone"):
    videos.open_videos(tmp_path / "splits.txt", tmp_path / "gone")
