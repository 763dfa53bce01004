import json
import os
import re

import numpy as np
import pytest
from helpers import conversion_cases

from facejax.data import fingerprints, subsets
from facejax.data.stores import array_records, folder, record_io
from facejax.data.stores import record_io_write as layout
from facejax.runtime import text_lines, whole_files


def assert_equal(left, right):
  assert len(left) == len(right)
  assert list(left.class_names) == list(right.class_names)
  np.testing.assert_array_equal(left.labels, right.labels)
  for index in range(len(left)):
    assert left.encoded(index) == right.encoded(index)
    assert left.name(index) == right.name(index)


def there_and_back(source, tmp_path):
  """folder -> record_io -> array_record -> folder; the four sets."""
  places = [tmp_path / name for name in ("rec", "records", "again")]
  assert (
    conversion_cases.run(
      source, places[0], "--to", "record_io", "--shards", "3"
    )
    == 0
  )
  assert conversion_cases.run(places[0], places[1], "--shards", "2") == 0
  assert conversion_cases.run(places[1], places[2], "--verify") == 0
  sets = [
    folder.ImageFolder(source),
    record_io.RecordIO(places[0]),
    array_records.ArrayRecords(places[1]),
    folder.ImageFolder(places[2]),
  ]
  for other in sets[1:]:
    assert_equal(sets[0], other)
    # Computed anew, even where a set knows its own.
    assert fingerprints.fingerprint(sets[0]) == fingerprints.fingerprint(
      subsets.Subset(other)
    )
  assert sets[2].fingerprint == fingerprints.fingerprint(sets[0])
  assert conversion_cases.faces_of(places[2]) == conversion_cases.faces_of(
    source
  )


def test_round_trip_is_byte_equal(tmp_path):
  there_and_back(conversion_cases.write_faces(tmp_path / "faces"), tmp_path)


def test_names_that_are_not_utf8_survive(tmp_path):
  root = os.fsencode(conversion_cases.write_faces(tmp_path / "faces", people=2))
  os.rename(root + b"/p000", root + b"/Jos\xe9")
  os.rename(root + b"/p001/000.png", root + b"/p001/\xff \xe2\x82\xac.png")
  there_and_back(tmp_path / "faces", tmp_path)
  assert os.path.isdir(os.fsencode(tmp_path) + b"/again/Jos\xe9")


@pytest.mark.slow
def test_round_trip_of_real_faces(tmp_path, data_folder):
  there_and_back(data_folder / "lfw_mini" / "train", tmp_path)


def test_records_written_by_mxnet_are_converted(tmp_path, data_folder):
  theirs = data_folder / "insightface_samples" / "lfw_mini_rec"
  assert conversion_cases.run(theirs, tmp_path / "records") == 0
  assert (
    conversion_cases.run(
      tmp_path / "records", tmp_path / "rec", "--to", "record_io"
    )
    == 0
  )
  assert_equal(record_io.RecordIO(theirs), record_io.RecordIO(tmp_path / "rec"))


def test_fingerprint_tells_sets_apart(tmp_path):
  conversion_cases.write_faces(tmp_path)
  mark = fingerprints.fingerprint(folder.ImageFolder(tmp_path))
  assert re.fullmatch("[0-9a-f]{64}", mark)
  assert mark == fingerprints.fingerprint(folder.ImageFolder(tmp_path))
  marks = [mark, fingerprints.shuffled(mark, 0), fingerprints.shuffled(mark, 1)]
  files = folder.ImageFolder(tmp_path)
  files.labels = files.labels[::-1].copy()
  marks.append(fingerprints.fingerprint(files))
  os.rename(tmp_path / "p001" / "000.png", tmp_path / "p001" / "009.png")
  marks.append(fingerprints.fingerprint(folder.ImageFolder(tmp_path)))
  os.rename(tmp_path / "p001", tmp_path / "p00x")
  marks.append(fingerprints.fingerprint(folder.ImageFolder(tmp_path)))
  assert len(set(marks)) == 6


@pytest.mark.parametrize(
  "raw", [b"a.jpg", b"Jos\xe9", b"\xff\xfe", "Łódź €".encode(), b"a\\x41b"]
)
def test_printable_names_lead_back(raw):
  shown = text_lines.printable(os.fsdecode(raw))
  assert fingerprints.name_on_disk(shown) == raw


@pytest.mark.parametrize("to", ["array_record", "record_io"])
def test_shuffling_is_a_permutation_by_the_seed(tmp_path, to):
  source = conversion_cases.write_faces(tmp_path / "faces", people=9)
  opened = {
    "array_record": array_records.ArrayRecords,
    "record_io": record_io.RecordIO,
  }[to]
  found = []
  for seed, shards in ((0, 1), (0, 4), (1, 4)):
    out = tmp_path / f"{seed}-{shards}"
    flags = ("--to", to, "--shuffle", str(seed), "--shards", str(shards))
    assert conversion_cases.run(source, out, *flags) == 0
    files = opened(out)
    found.append([files.name(k) for k in range(len(files))])
    for k in range(len(files)):
      assert files.encoded(k) == (source / files.name(k)).read_bytes()
      assert files.class_names[files.labels[k]] == files.name(k).split("/")[0]
  plain = folder.ImageFolder(source)
  names = [plain.name(k) for k in range(len(plain))]
  assert found[0] == found[1] != found[2]
  assert names not in found
  assert all(sorted(order) == names for order in found)


def test_record_io_is_laid_out_as_insightface_has_it(tmp_path):
  source = conversion_cases.write_faces(tmp_path / "faces", people=3, count=2)
  out = tmp_path / "rec"
  assert (
    conversion_cases.run(source, out, "--to", "record_io", "--shards", "4") == 0
  )
  assert (out / "property").read_text() == "3,8,6\n"
  data = (out / "train.rec").read_bytes()
  index = [
    tuple(map(int, line.split("\t")))
    for line in (out / "train.idx").read_text().splitlines()
  ]
  # 2, 3 and 4 images: a header, nine images, three identities.
  assert [key for key, _ in index] == list(range(13))
  ends = [offset for _, offset in index[1:]] + [len(data)]
  payloads = [
    data[begin + 8 : end] for (_, begin), end in zip(index, ends, strict=True)
  ]
  assert payloads[0] == layout.header_payload(10, 13)
  for key, first, end in ((10, 1, 3), (11, 3, 6), (12, 6, 10)):
    assert payloads[key] == layout.identity_payload(key, first, end)
  lines = (out / "train.lst").read_text().splitlines()
  assert lines[0] == "1\t0\tp000/000.png"
  assert lines[8] == "9\t2\tp002/003.png"
  flags = ("--to", "record_io", "--shuffle", "0")
  assert conversion_cases.run(source, tmp_path / "mixed", *flags) == 0
  mixed = (tmp_path / "mixed" / "train.rec").read_bytes()
  assert mixed[8:].startswith(layout.header_payload(10, 10))


def test_identities_can_be_chosen(tmp_path):
  source = conversion_cases.write_faces(tmp_path / "faces")
  (tmp_path / "list").write_text("p003\np001\n")
  flags = ("--identities", tmp_path / "list")
  assert conversion_cases.run(source, tmp_path / "out", *flags) == 0
  files = array_records.ArrayRecords(tmp_path / "out")
  assert files.class_names == ["p001", "p003"]
  assert len(files) == 9


def test_the_header_says_what_is_there(tmp_path):
  source = conversion_cases.write_faces(tmp_path / "faces")
  assert (
    conversion_cases.run(
      source, tmp_path / "out", "--shards", "2", "--shuffle", "5"
    )
    == 0
  )
  header = json.loads((tmp_path / "out" / "facejax.json").read_text())
  mark = fingerprints.fingerprint(folder.ImageFolder(source))
  assert header["source"] == {"kind": "folder", "fingerprint": mark}
  assert (header["images"], header["identities"]) == (24, 5)
  assert header["shuffle"] == 5
  for piece in header["shards"] + header["files"]:
    path = tmp_path / "out" / piece["file"]
    assert path.stat().st_size == piece["bytes"]
    assert whole_files.sha256(path) == piece["sha256"]
  files = array_records.ArrayRecords(tmp_path / "out")
  assert files.fingerprint == fingerprints.shuffled(mark, 5)
