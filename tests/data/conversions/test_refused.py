import fcntl
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import conversion_cases
from PIL import Image

from facejax.data import convert, images
from facejax.data.conversions import copying
from facejax.data.stores import array_records, folder


def complain(capsys, *arguments):
  assert conversion_cases.run(*arguments) == 2
  out = capsys.readouterr().err
  assert out.startswith("error: ") and "Traceback" not in out
  assert out.count("\n") == 1
  return out


def test_nothing_foreign_is_overwritten(tmp_path, capsys):
  source = conversion_cases.write_faces(tmp_path / "faces")
  out = tmp_path / "out"
  out.mkdir()
  assert conversion_cases.run(source, out) == 0  # empty folders are welcome
  before = conversion_cases.tree(out)
  assert conversion_cases.run(source, out) == 0
  assert "was there already" in capsys.readouterr().out
  flags = ("--shuffle", "1")
  assert "is not empty" in complain(capsys, source, out, *flags)
  (tmp_path / "file").write_text("mine")
  assert "is there already" in complain(capsys, source, tmp_path / "file")
  (tmp_path / "b.partial").mkdir()
  (tmp_path / "b.partial" / "mine").write_text("mine")
  assert "in the way" in complain(capsys, source, tmp_path / "b")
  assert conversion_cases.tree(tmp_path / "b.partial") == {b"mine": b"mine"}
  assert conversion_cases.tree(out) == before


def test_another_conversion_is_not_gone_on_with(tmp_path, capsys):
  source = conversion_cases.write_faces(tmp_path / "faces")
  files, out = folder.ImageFolder(source), tmp_path / "out"
  options = {"to": "array_record", "source_kind": "folder", "shards": 2}
  plan = copying.plan(files, **options)
  (source / "p003" / "001.jpg").unlink()
  with pytest.raises(images.BadImageError, match="001.jpg"):
    copying.convert(files, out, plan)
  message = complain(capsys, source, out, "--shards", "2")
  assert "another conversion: images 24 there and 23 now" in message
  with open(tmp_path / "out.partial" / ".conversion" / "lock", "ab") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert "by another process" in complain(capsys, source, out)


def test_options_and_places_are_checked(tmp_path, capsys):
  source = conversion_cases.write_faces(tmp_path / "faces")
  assert "beside SRC" in complain(capsys, source, source / "out")
  assert "beside SRC" in complain(capsys, source, source)
  assert "no image folder" in complain(capsys, tmp_path / "no", tmp_path / "x")
  flags = ("--to", "folder", "--shuffle", "1")
  assert "order of its names" in complain(
    capsys, source, tmp_path / "x", *flags
  )
  many = ("--shards", "1000")
  assert "must be from 1 to 24" in complain(
    capsys, source, tmp_path / "x", *many
  )
  assert "no facejax.json" in complain(capsys, source, "--verify")
  for flags in (["--shards", "0"], ["--workers", "x"], ["--to", "tfds"], []):
    with pytest.raises(SystemExit, match="2"):
      convert.main([str(source), *(["x"] if flags else []), *flags])
  assert not (tmp_path / "x").exists()
  assert not (tmp_path / "x.partial").exists()


@pytest.mark.parametrize("to", ["array_record", "record_io", "folder"])
def test_damage_is_found_by_verifying(tmp_path, capsys, to):
  source = conversion_cases.write_faces(tmp_path / "faces")
  out = tmp_path / "out"
  assert (
    conversion_cases.run(source, out, "--to", to, "--shards", "3", "--verify")
    == 0
  )
  assert "24 images, as they were written" in capsys.readouterr().out
  image = (source / "p002" / "001.jpg").read_bytes()
  for name, data in conversion_cases.tree(out).items():
    if image in data:
      place = data.index(image) + len(image) // 2
      changed = data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
      (pathlib.Path(os.fsdecode(out)) / os.fsdecode(name)).write_bytes(changed)
  assert conversion_cases.run(out, "--verify") == 2
  assert "differs from what was written" in capsys.readouterr().err
  if to == "array_record":
    with pytest.raises(images.BadImageError, match="damaged"):
      files = array_records.ArrayRecords(out)
      [files.encoded(k) for k in range(len(files))]


def test_a_missing_file_is_found_by_verifying(tmp_path, capsys):
  out = tmp_path / "out"
  assert (
    conversion_cases.run(
      conversion_cases.write_faces(tmp_path / "faces"), out, "--to", "folder"
    )
    == 0
  )
  (out / "p001" / "000.png").unlink()
  assert "000.png', which is missing" in complain(capsys, out, "--verify")


class Named:
  """Images with chosen names; `EncodedImages`."""

  def __init__(self, *names, data=b"\xff\xd8\xff\xe0 not looked at"):
    self.names, self.data = names, data
    self.class_names = list(dict.fromkeys(n.split("/")[0] for n in names))
    self.num_classes = len(self.class_names)
    self.labels = np.asarray(
      [self.class_names.index(n.split("/")[0]) for n in names], np.int32
    )

  def __len__(self):
    return len(self.names)

  def encoded(self, index):
    return self.data

  def name(self, index):
    return self.names[index]


def to_folder(tmp_path, files):
  plan = copying.plan(files, to="folder", source_kind="made")
  return copying.convert(files, tmp_path / "out", plan)


@pytest.mark.parametrize(
  "name",
  [
    *(
      "../a.jpg",
      "a/../b.jpg",
      "a//b.jpg",
      "a/.b.jpg",
      "a/b\n.jpg",
      ".a/b.jpg",
    ),
    *("a/b\0.jpg", "/b.jpg", f"a/{'b' * 300}.jpg", "a/b/c.jpg"),
  ],
)
def test_names_cannot_leave_the_folder(tmp_path, name):
  with pytest.raises(ValueError, match="cannot be written to a folder"):
    to_folder(tmp_path, Named("good/a.jpg", name))
  left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
  assert set(left) <= {"lock", "workers.lock", "plan.json", "a.jpg"}


def test_what_a_folder_cannot_hold_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r"two images are called 'a/b.jpg'"):
    to_folder(tmp_path / "1", Named("a/b.jpg", "a/b.jpg"))
  files = Named("a/1.jpg", "b/1.jpg")
  files.class_names = ["a", "a"]
  with pytest.raises(ValueError, match="two identities are called 'a'"):
    to_folder(tmp_path / "2", files)
  with pytest.raises(images.BadImageError, match="is not an image"):
    to_folder(tmp_path / "3", Named("a/b", data=b"text"))
  # Suffixes tell images from other files when a folder is read.
  assert to_folder(tmp_path / "4", Named("b/1", "a/2", "b/3.jpg"))
  files = folder.ImageFolder(tmp_path / "4" / "out")
  assert [files.name(k) for k in range(3)] == ["a/2.jpg", "b/1.jpg", "b/3.jpg"]


@pytest.mark.parametrize("name", ["a/b\t.jpg", "a/b\n.jpg", "a/b\\c.jpg"])
def test_names_that_would_break_a_list_are_refused(tmp_path, name):
  path = tmp_path / "1.png"
  Image.new("RGB", (4, 4)).save(path)
  files = Named("a/a.jpg", name, data=path.read_bytes())
  plan = copying.plan(files, to="record_io", source_kind="made")
  with pytest.raises(ValueError, match="cannot be written to a list"):
    copying.convert(files, tmp_path / "out", plan)


def test_a_full_disk_is_told_in_one_line(tmp_path):
  source = conversion_cases.write_faces(tmp_path / "faces")
  code = (
    "import resource, signal, sys\n"
    "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
    "from facejax.data import convert\n"
    "sys.exit(convert.main(sys.argv[1:]))\n"
  )
  words = [sys.executable, "-c", code, source, tmp_path / "out", "--workers=1"]
  done = subprocess.run(words, capture_output=True, text=True, check=False)
  assert done.returncode == 2
  assert re.fullmatch(r"error: .*cannot be written.*\n", done.stderr)
