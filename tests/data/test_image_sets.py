"""What a command may be told to embed."""

import shutil

import numpy as np
import pytest

from facejax.data import image_sets, images


def test_a_folder_of_people(tiny_faces):
  files = image_sets.open_set(tiny_faces)
  assert len(files) == 12 and list(files.class_names)[1] == "person1"
  path = image_sets.image_path(files, 4)
  assert path == str(tiny_faces / "person1" / "4.png")


def test_a_folder_of_images(tiny_faces):
  files = image_sets.open_set(tiny_faces / "person2")
  assert [files.name(k)[-5:] for k in range(3)] == ["6.png", "7.png", "8.png"]
  assert files.labels.tolist() == [-1, -1, -1] and files.num_classes == 0


def test_a_folder_of_both(tiny_faces, tmp_path):
  both = tmp_path / "both"
  shutil.copytree(tiny_faces, both)
  shutil.copy(tiny_faces / "person0" / "0.png", both / "who")
  (both / "papers").mkdir()
  files = image_sets.open_set(both)
  assert len(files) == 13 and files.num_classes == 4
  assert image_sets.image_path(files, 0) == str(both / "who")
  assert files.labels.tolist() == [-1, *np.repeat(range(4), 3)]


def test_paths_with_dots(tiny_faces, monkeypatch):
  monkeypatch.chdir(tiny_faces / "person0")
  for path in ("./0.png", "../person1/3.png", "0.png"):
    assert len(image_sets.open_set(path)) == 1


def test_an_image_of_any_name(tiny_faces, tmp_path):
  shutil.copy(tiny_faces / "person0" / "0.png", tmp_path / "photo")
  assert len(image_sets.open_set(tmp_path / "photo")) == 1


def test_an_image(tiny_faces):
  path = tiny_faces / "person0" / "0.png"
  files = image_sets.open_set(path)
  assert files.encoded(0) == path.read_bytes()


def test_lists_with_and_without_names(tmp_path):
  (tmp_path / "a.txt").write_text("# faces\nx y.png\tbob\n/far/z.png\n\n")
  files = image_sets.open_set(tmp_path / "a.txt")
  paths = [image_sets.image_path(files, k) for k in range(2)]
  assert paths == [str(tmp_path / "x y.png"), "/far/z.png"]
  assert files.labels.tolist() == [0, -1] and files.class_names == ["bob"]
  (tmp_path / "a.csv").write_text("1.png,bob\n2.png,ada\n")
  files = image_sets.open_set(tmp_path / "a.csv")
  assert [files.class_names[k] for k in files.labels] == ["bob", "ada"]
  with pytest.raises(images.BadImageError, match=r"1\.png"):
    files.encoded(0)


@pytest.mark.parametrize(
  ("name", "text", "message"),
  [
    ("a.txt", "", "is empty"),
    ("a.txt", "# nothing\n", "lists no image"),
    ("a.csv", "1.png,bob,1\n", "line 1: expected PATH"),
    ("a.doc", "1.png", "neither an image nor a list"),
  ],
)
def test_what_is_no_list_is_told(tmp_path, name, text, message):
  (tmp_path / name).write_text(text)
  with pytest.raises(ValueError, match=message):
    image_sets.open_set(tmp_path / name)


def test_nothing_there(tmp_path):
  with pytest.raises(FileNotFoundError, match="nowhere"):
    image_sets.open_set(tmp_path / "nowhere")
  with pytest.raises(ValueError, match="one folder per identity"):
    image_sets.open_set(tmp_path)


@pytest.mark.parametrize("name", ["list.json", "list.json_1000_1"])
def test_a_list_of_megaface(tiny_faces, tmp_path, name):
  shutil.copytree(tiny_faces, tmp_path / "faces")
  (tmp_path / name).write_text(
    '{"path": ["faces/person1/4.png", "faces/person0/0.png"], "id": ["b", "a"]}'
  )
  files = image_sets.open_set(tmp_path / name)
  assert files.class_names == ["a", "b"] and files.labels.tolist() == [1, 0]
  assert images.decode(files.encoded(0), name="a").shape == (40, 36, 3)
  (tmp_path / name).write_text('{"path": ["faces/person1/4.png"]}')
  assert image_sets.open_set(tmp_path / name).labels.tolist() == [-1]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("{}", "is no list of images"),
    ('{"path": "a.jpg"}', "is no list of images"),
    ('{"path": ["a.jpg"], "id": [1]}', "is no list of images"),
    ('{"path": ["a.jpg"], "id": []}', "lists 1 and 0 paths and people"),
    ('{"path": []}', "lists 0 paths"),
    ("[1", "damaged"),
    ('{"path": ' + "[" * 100_000, "damaged"),
  ],
)
def test_damaged_lists_of_megaface(tmp_path, text, message):
  (tmp_path / "list.json").write_text(text)
  with pytest.raises(ValueError, match=message):
    image_sets.open_set(tmp_path / "list.json")
