import io
import logging
import os
import pickle
import threading

import numpy as np
import pytest
from PIL import Image

from facejax.data import encoded, images, sources
from facejax.data.stores import folder


def pixels(seed=0, size=(12, 10)):
  return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def encode(array, form, **options):
  file = io.BytesIO()
  Image.fromarray(array).save(file, form, **options)
  return file.getvalue()


def write_faces(root, people=3, count=2, size=(12, 10)):
  for person in range(people):
    (root / f"p{person}").mkdir(parents=True)
    for k in range(count):
      data = encode(pixels(10 * person + k, size), "PNG")
      (root / f"p{person}" / f"{k}.png").write_bytes(data)
  return root


def open_folder(root, *, image_size=(12, 10), crop=1.0, **options):
  files = folder.ImageFolder(root, **options)
  return encoded.Decoded(files, image_size=image_size, crop=crop)


def test_folder_lists_identities_and_images_in_order(tmp_path):
  source = open_folder(write_faces(tmp_path, people=3, count=2))
  assert (len(source), source.num_classes) == (6, 3)
  assert source.class_names == ["p0", "p1", "p2"]
  assert source.labels.tolist() == [0, 0, 1, 1, 2, 2]
  assert source.labels.dtype == np.int32
  assert source.name(3) == "p1/1.png"
  np.testing.assert_array_equal(source[3], pixels(11))
  with pytest.raises(IndexError):
    source[6]
  copy = pickle.loads(pickle.dumps(source))
  np.testing.assert_array_equal(copy[5], source[5])


def test_a_list_packed_and_unpacked_elsewhere(tmp_path):
  files = folder.ImageFolder(write_faces(tmp_path / "a", people=3, count=2))
  (tmp_path / "b").symlink_to(tmp_path / "a", target_is_directory=True)
  other = folder.ImageFiles.unpacked(tmp_path / "b", files.packed())
  np.testing.assert_array_equal(other.labels, files.labels)
  assert other.class_names == files.class_names
  assert [other.name(k) for k in range(6)] == [files.name(k) for k in range(6)]
  assert other.path(3) == str(tmp_path / "b" / "p1" / "1.png")
  assert other.encoded(3) == files.encoded(3)


def test_folder_ignores_hidden_text_and_nested_and_follows_links(tmp_path):
  root = write_faces(tmp_path / "faces", people=2)
  (root / ".cache").mkdir()
  (root / "readme.txt").write_text("hello")
  (root / "p0" / ".hidden.png").write_bytes(b"")
  (root / "p0" / "notes.txt").write_text("hello")
  (root / "p0" / "deeper.png").mkdir()
  outside = tmp_path / "outside.png"
  outside.write_bytes(encode(pixels(), "PNG"))
  (root / "p1" / "link.png").symlink_to(outside)
  (root / "p2").symlink_to(root / "p0")
  source = open_folder(root)
  assert [source.name(i) for i in range(len(source))] == [
    *("p0/0.png", "p0/1.png", "p1/0.png", "p1/1.png", "p1/link.png"),
    *("p2/0.png", "p2/1.png"),
  ]
  assert source.files.skipped == 0
  assert source.files.ignored == 2 + 3 + 3


@pytest.mark.parametrize(
  ("labels", "message"),
  [
    ([0, 1, -1], "1 of 3 .* 0 to 1, such as -1 of 'image 2'"),
    ([0, 2, 3], "2 of 3 .*such as 2 of 'image 1'"),
    ([0.0, 1.0, 1.0], "float64, not whole numbers"),
  ],
)
def test_labels_that_name_nobody_are_refused(labels, message):
  class Source:
    num_classes = 2
    name = "image {}".format

  Source.labels = np.array(labels)
  with pytest.raises(ValueError, match=message):
    sources.check_labels(Source())


def test_images_are_told_by_their_content(tmp_path, caplog):
  root = write_faces(tmp_path, people=2, count=1)
  face = encode(pixels(), "JPEG")
  for name in ("no_suffix", "a.jfif", "b.jpe", "c.jpg.1", "d.dat"):
    (root / "p0" / name).write_bytes(face)
  (root / "p0" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
  (root / "readme.txt").write_text("hello")
  (root / "stray.png").write_bytes(encode(pixels(), "PNG"))
  source = open_folder(root)
  assert [source.name(i) for i in range(len(source))] == [
    *("p0/0.png", "p0/a.jfif", "p0/b.jpe", "p0/c.jpg.1", "p0/d.dat"),
    *("p0/no_suffix", "p1/0.png"),
  ]
  (told,) = caplog.messages
  assert "1 images beside the folders, such as 'stray.png'" in told
  assert "2 other files, such as 'readme.txt', 'p0/Thumbs.db'" in told


def test_images_in_deeper_folders_are_told_or_taken(tmp_path, caplog):
  root = write_faces(tmp_path, people=2, count=2)
  deep = root / "p0" / "2019" / "may"
  deep.mkdir(parents=True)
  for name in ("x", "y.jpg"):
    (deep / name).write_bytes(encode(pixels(5), "PNG"))
  assert len(open_folder(root)) == 4
  assert "2 images in deeper folders" in caplog.text
  assert "--recursive" in caplog.text and "p0/2019/may/x" in caplog.text
  caplog.clear()
  source = open_folder(root, recursive=True)
  assert [source.name(i) for i in range(4)] == [
    *("p0/0.png", "p0/1.png", "p0/2019/may/x", "p0/2019/may/y.jpg"),
  ]
  np.testing.assert_array_equal(source[2], pixels(5))
  assert not caplog.messages


def test_a_loop_of_links_has_an_end(tmp_path):
  root = write_faces(tmp_path, people=2, count=1)
  (root / "p0" / "again").symlink_to(root)
  assert len(open_folder(root, recursive=True)) == 2


def test_identities_whose_images_all_lie_deeper_are_explained(tmp_path):
  write_faces(tmp_path / "train")
  with pytest.raises(ValueError, match="--recursive.* 6 images deeper"):
    open_folder(tmp_path)


def test_damaged_files_are_left_out_named_and_counted(tmp_path, caplog):
  root = write_faces(tmp_path, people=2)
  for k in range(12):
    (root / "p0" / f"bad{k:02}.jpg").write_bytes(b"")
  (root / "p1" / "gone.jpg").symlink_to(root / "nowhere")
  os.mkfifo(root / "p1" / "pipe.jpg")  # to open it would wait for ever
  with caplog.at_level(logging.WARNING, "facejax.data"):
    source = open_folder(root, max_bad_share=0.9)
  assert (len(source), source.files.skipped) == (4, 14)
  assert len(caplog.messages) == 11
  assert "bad00.jpg' is empty" in caplog.messages[0]
  assert "14 damaged files in all" in caplog.messages[-1]


def test_too_many_damaged_files_stop(tmp_path):
  root = write_faces(tmp_path, people=2)
  (root / "p1" / "bad.jpg").write_text("not an image")
  with pytest.raises(ValueError, match=r"1 of 5 .*20.00%, allowed 1.00%.*bad"):
    open_folder(root)


def test_broken_layouts_are_explained(tmp_path):
  with pytest.raises(FileNotFoundError, match="no image folder"):
    open_folder(tmp_path / "nowhere")
  with pytest.raises(ValueError, match="has none; expected one folder"):
    open_folder(tmp_path)
  (tmp_path / "a.png").write_bytes(encode(pixels(), "PNG"))
  with pytest.raises(ValueError, match="1 images lie directly in it"):
    open_folder(tmp_path)
  with pytest.raises(ValueError, match="is a file"):
    open_folder(tmp_path / "a.png")


@pytest.mark.parametrize(
  ("file", "content", "found"),
  [
    (None, "", "it holds nothing"),
    ("a.txt", "hello", "1 other files"),
    ("a.png", "", "1 damaged images, such as .*a.png' is empty"),
  ],
)
def test_identity_without_image_stops_at_once(tmp_path, file, content, found):
  root = write_faces(tmp_path)
  (root / "lone").mkdir()
  if file:
    (root / "lone" / file).write_text(content)
  with pytest.raises(ValueError, match=f"lone' has no usable image.*{found}"):
    open_folder(root)


def test_a_folder_above_the_identities_is_explained(tmp_path):
  write_faces(tmp_path / "train")
  with pytest.raises(ValueError, match="it holds 3 folders"):
    open_folder(tmp_path)


def test_identities_choose_the_folders(tmp_path):
  root = write_faces(tmp_path, people=4)
  chosen = open_folder(root, identities=["p3", "p1", "p0"])
  assert chosen.class_names == ["p0", "p1", "p3"]
  with pytest.raises(
    ValueError, match=r"1 of 2 listed.*'p33' \(is it 'p3'\?\)"
  ):
    open_folder(root, identities=["p33", "p0"])


def test_names_that_are_not_utf8(tmp_path):
  root = os.fsencode(write_faces(tmp_path, people=2))
  person = os.path.join(root, b"caf\xe9")
  try:
    os.mkdir(person)
  except OSError:
    pytest.skip("this file system takes only UTF-8 names")
  with open(os.path.join(person, b"\xff.png"), "wb") as file:
    file.write(encode(pixels(5), "PNG"))
  source = open_folder(tmp_path)
  assert source.class_names[0] == "caf\\xe9"
  source.name(0).encode("utf-8")
  np.testing.assert_array_equal(source[0], pixels(5))


def test_arguments_are_checked(tmp_path):
  root = write_faces(tmp_path)
  with pytest.raises(ValueError, match=r"crop must lie in \(0, 1\], got 0"):
    open_folder(root, crop=0.0)
  with pytest.raises(ValueError, match="height, width"):
    open_folder(root, image_size=(0, 3))


class Counting:
  """A source that counts its reads; its image 1 is damaged."""

  num_classes, class_names = 2, ("a", "b")
  labels = np.array([0, 0, 1, 1], np.int32)

  def __init__(self):
    self.reads = []

  def __len__(self):
    return 4

  def name(self, index):
    return f"image {index}"

  def __getitem__(self, index):
    self.reads.append(index)
    if index == 1:
      raise images.BadImageError("image 1 is damaged")
    return np.full((3, 2, 3), index, np.uint8)


def test_cache_reads_once_and_hands_out_read_only_images():
  inner = Counting()
  cached = sources.CachedSource(inner)
  for _ in range(2):
    np.testing.assert_array_equal(cached[3], np.full((3, 2, 3), 3))
  assert inner.reads.count(3) == 1
  assert not cached[3].flags.writeable
  for _ in range(2):
    with pytest.raises(images.BadImageError, match="image 1"):
      cached[1]
  assert (len(cached), cached.num_classes, cached.name(2)) == (4, 2, "image 2")


def test_cache_refuses_what_does_not_fit():
  assert len(sources.CachedSource(Counting(), limit_bytes=4 * 18)) == 4
  with pytest.raises(ValueError, match=r"4 images of 3 x 2 .* limit"):
    sources.CachedSource(Counting(), limit_bytes=4 * 18 - 1)


def test_cache_travels_empty_and_serves_many_threads(tmp_path):
  root = write_faces(tmp_path, people=3, count=4)
  plain = open_folder(root)
  cached = sources.CachedSource(plain)
  cached[0]
  assert not pickle.loads(pickle.dumps(cached))._filled.any()
  wrong = []

  def read():
    for index in range(len(plain)):
      if not np.array_equal(cached[index], plain[index]):
        wrong.append(index)

  threads = [threading.Thread(target=read) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not wrong


def test_orl_is_grey_and_not_square(data_folder):
  source = open_folder(data_folder / "orl", image_size=(112, 92))
  assert (len(source), source.num_classes) == (400, 40)
  image = source[0]
  assert image.shape == (112, 92, 3)
  assert (image == image[..., :1]).all()
  raw = (data_folder / "orl" / source.name(0)).read_bytes()[-112 * 92 :]
  np.testing.assert_array_equal(
    image[..., 0], np.frombuffer(raw, np.uint8).reshape(112, 92)
  )


def test_lfw_mini_reads_whole(data_folder):
  source = open_folder(
    data_folder / "lfw_mini/train", image_size=(32, 32), crop=0.8
  )
  assert (len(source), source.num_classes, source.files.skipped) == (600, 60, 0)
  assert {source[i].shape for i in range(0, 600, 20)} == {(32, 32, 3)}
