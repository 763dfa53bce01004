"""Reading and writing RecordIO, whole, split, damaged and hostile."""

import concurrent.futures
import hashlib
import os
import pathlib
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facejax.data import formats, images
from facejax.data.stores import record_io, record_io_read
from facejax.data.stores import record_io_write as write

MAGIC = write.MAGIC_BYTES
# The digest of what MXRecordIO of MXNet 1.9.1 wrote.
PACKED_BY_MXNET = (
  "59c31fe7bc3cb05f3ceda2b738ff10db06f6a88aaa309c75ab459f67ccddb617"
)


class Writer:
  """A `.rec` file in the making."""

  def __init__(self):
    self.rec, self.lines = b"", []

  def add(self, key: int, payload: bytes) -> None:
    self.lines.append(f"{key}\t{len(self.rec)}\n")
    self.rec += write.pack(payload)

  def save(self, folder: pathlib.Path, *, classes: int | None = None):
    (folder / "train.rec").write_bytes(self.rec)
    (folder / "train.idx").write_text("".join(self.lines))
    if classes is not None:
      (folder / "property").write_text(f"{classes},112,112")
    return folder


def picture(key: int) -> bytes:
  return b"\xff\xd8\xff" + f"image {key}".encode() * (1 + key % 5)


def insightface(labels) -> Writer:
  """Images of the given labels, as InsightFace's tool lays them out."""
  writer, spans = Writer(), []
  for key, label in enumerate(labels, 1):
    writer.add(key, write.image_payload(label, key, picture(key)))
    if key == 1 or label != labels[key - 2]:
      spans.append([key, key])
    spans[-1][1] = key + 1
  first = len(labels) + 1
  writer.add(0, write.header_payload(first, first + len(spans)))
  for key, span in enumerate(spans, first):
    writer.add(key, write.identity_payload(key, *span))
  return writer


def im2rec(labels) -> Writer:
  """Images alone, with one label in the header, as MXNet's im2rec."""
  writer = Writer()
  for key, label in enumerate(labels):
    header = struct.pack("<IfQQ", 0, label, key, 0)
    writer.add(key, header + picture(key))
  return writer


def test_the_file_of_mxnet_is_read_and_written_byte_for_byte(data_folder):
  sample = data_folder / "insightface_samples/lfw_mini_rec"
  faces = sorted((data_folder / "lfw_mini/train").glob("*/*.jpg"))
  people = sorted({face.parent.name for face in faces})
  labels = [people.index(face.parent.name) for face in faces]
  files = record_io.RecordIO(sample)
  assert (len(files), files.num_classes, files.skipped) == (600, 60, 0)
  np.testing.assert_array_equal(files.labels, labels)
  assert files.labels.dtype == np.int32
  for index, face in enumerate(faces):
    assert files.encoded(index) == face.read_bytes()

  writer = Writer()
  for key, (label, face) in enumerate(zip(labels, faces, strict=True), 1):
    writer.add(key, write.image_payload(label, key, face.read_bytes()))
  writer.add(0, write.header_payload(601, 661))
  for k in range(60):
    span = (1 + 10 * k, 11 + 10 * k)
    writer.add(601 + k, write.identity_payload(601 + k, *span))
  assert writer.rec == (sample / "train.rec").read_bytes()
  assert "".join(writer.lines) == (sample / "train.idx").read_text()


def test_pack_equals_mxnet():
  cases = [b"", b"a", MAGIC, MAGIC * 3, MAGIC + b"abc", b"abcd" + MAGIC]
  cases += [bytes(n) + MAGIC + bytes(m) for n in range(9) for m in range(5)]
  packed = b"".join(write.pack(case) for case in cases)
  assert hashlib.sha256(packed).hexdigest() == PACKED_BY_MXNET


chunks = st.lists(st.one_of(st.just(MAGIC), st.binary(max_size=9)), max_size=6)


@settings(max_examples=200, deadline=None)
@given(st.lists(chunks.map(b"".join), min_size=1, max_size=4))
def test_any_payload_comes_back(tmp_path_factory, payloads):
  path = tmp_path_factory.mktemp("pack") / "x.rec"
  offsets, data = [], b""
  for payload in payloads:
    offsets.append(len(data))
    data += write.pack(payload)
  path.write_bytes(data)
  with open(path, "rb") as file:
    for offset, payload in zip(offsets, payloads, strict=True):
      assert record_io_read.read_record(file.fileno(), offset) == payload


@pytest.mark.parametrize("lead", range(8))
@pytest.mark.parametrize("make", [insightface, im2rec])
def test_images_that_hold_the_magic_word(tmp_path, monkeypatch, make, lead):
  special = bytes(lead) + MAGIC + b"xy" + MAGIC * 2
  monkeypatch.setitem(globals(), "picture", lambda key: special + bytes(key))
  files = record_io.RecordIO(make([0, 0, 1]).save(tmp_path))
  first = make is insightface
  for index in range(3):
    assert files.encoded(index) == special + bytes(index + first)
  np.testing.assert_array_equal(files.labels, [0, 0, 1])


@pytest.mark.parametrize("make", [insightface, im2rec])
def test_gaps_in_labels_close_and_names_keep_them(tmp_path, make):
  files = record_io.RecordIO(make([3, 3, 7, 7, 12]).save(tmp_path, classes=13))
  np.testing.assert_array_equal(files.labels, [0, 0, 1, 1, 2])
  assert list(files.class_names) == ["3", "7", "12"]
  assert files.name(4) == ("12/5.jpg" if make is insightface else "12/4.jpg")


def test_identity_records_spare_reading_every_header(tmp_path, monkeypatch):
  seen = []
  read = record_io_read._heads

  def counting(words, offsets):
    seen.extend(offsets)
    return read(words, offsets)

  monkeypatch.setattr(record_io_read, "_heads", counting)
  labels = np.repeat(np.arange(4), 500).tolist()
  files = record_io.RecordIO(insightface(labels).save(tmp_path))
  np.testing.assert_array_equal(files.labels, labels)
  assert len(seen) < 60


def test_labels_of_headers_win_where_identity_records_are_wrong(tmp_path):
  writer = insightface([0, 0, 1, 1])
  shifted = Writer()
  for key, label in enumerate([0, 0, 1, 1], 1):
    shifted.add(key, write.image_payload(label, key, picture(key)))
  shifted.add(0, write.header_payload(5, 7))
  shifted.add(5, write.identity_payload(5, 1, 4))
  shifted.add(6, write.identity_payload(6, 4, 5))
  assert shifted.lines == writer.lines
  files = record_io.RecordIO(shifted.save(tmp_path))
  np.testing.assert_array_equal(files.labels, [0, 0, 1, 1])


def test_counts_above_2_to_the_24_are_not_trusted(tmp_path):
  # Keys as in the last part of a set of 42 million: float32 rounds both ends.
  base, writer = 2**25 + 1, Writer()
  labels = [0, 0, 0, 1, 1]
  for key, label in enumerate(labels, base):
    writer.add(key, write.image_payload(label, key, picture(key)))
  writer.add(0, write.header_payload(base + 5, base + 7))
  writer.add(base + 5, write.identity_payload(base + 5, base, base + 3))
  writer.add(base + 6, write.identity_payload(base + 6, base + 3, base + 5))
  files = record_io.RecordIO(writer.save(tmp_path))
  np.testing.assert_array_equal(files.labels, labels)
  assert files.name(0) == f"0/{base}.jpg"


@pytest.mark.parametrize("make", [insightface, im2rec])
def test_index_in_any_order_or_missing(tmp_path, caplog, make):
  writer = make([0, 0, 1, 2, 2])
  whole = record_io.RecordIO(writer.save(tmp_path))
  expected = [(whole.name(i), whole.encoded(i)) for i in range(5)]
  writer.lines.reverse()
  mixed = record_io.RecordIO(writer.save(tmp_path))
  assert [(mixed.name(i), mixed.encoded(i)) for i in range(5)] == expected
  (tmp_path / "train.idx").unlink()
  found = record_io.RecordIO(tmp_path / "train.rec")
  assert [(found.name(i), found.encoded(i)) for i in range(5)] == expected
  assert "no" in caplog.text and "train.idx" in caplog.text


def test_list_file_gives_names(tmp_path):
  folder = insightface([0, 0, 1]).save(tmp_path)
  (folder / "train.lst").write_bytes(
    b"3\t1.000000\tBo/b.png\n1\t0\t/faces/An\xff/a1.jpg\r\n2\t0\tAn\xff/a2.jpg"
  )
  files = record_io.RecordIO(folder)
  assert list(files.class_names) == ["An\\xff", "Bo"]
  names = [files.name(index) for index in range(3)]
  assert names == ["An\\xff/a1.jpg", "An\\xff/a2.jpg", "Bo/b.png"]


def test_list_files_of_face2rec2_name_the_people(tmp_path, caplog):
  folder = insightface([0, 0, 1]).save(tmp_path)
  (folder / "train.lst").write_text(
    "1\t/faces/Ann/a.jpg\t0\n1\tfaces/Ann/b c.jpg\t0\n1\tBo/a.jpg\t1\n"
  )
  files = record_io.RecordIO(folder)
  assert list(files.class_names) == ["Ann", "Bo"]
  names = [files.name(index) for index in range(3)]
  assert names == ["Ann/a.jpg", "Ann/b c.jpg", "Bo/a.jpg"]
  assert not caplog.messages
  (folder / "train.lst").write_text("1\tA/a\t0\n1\tA/b\t0\n1\tB/c\t7\n")
  with pytest.raises(ValueError, match="belongs to other records"):
    _ = record_io.RecordIO(folder).class_names


def test_property_may_have_a_second_line(tmp_path, caplog):
  folder = insightface([0, 0, 1]).save(tmp_path)
  (folder / "property").write_text("2,112,112\n2,112,112\n")
  assert record_io.RecordIO(folder).num_classes == 2
  assert not caplog.messages


def test_a_property_of_another_set_is_a_warning(tmp_path, caplog):
  folder = insightface([0, 1, 2]).save(tmp_path, classes=2)
  assert record_io.RecordIO(folder).num_classes == 3
  assert "says 2 people" in caplog.text and "say 3" in caplog.text


def test_a_record_file_of_any_name_is_found_in_its_folder(tmp_path):
  folder = insightface([0, 1]).save(tmp_path)
  for suffix in ("rec", "idx"):
    (folder / f"train.{suffix}").rename(folder / f"mydata.{suffix}")
  assert formats.guess(folder) == "record_io"
  assert len(formats.open_images(folder)) == 2
  (folder / "other.rec").write_bytes(b"")
  with pytest.raises(ValueError, match=r"2 .rec files \(mydata.rec, other.rec"):
    formats.guess(folder)


@pytest.mark.parametrize(
  "text",
  ["1\t/faces/a.jpg\t0\n1\t/faces/b.jpg\t0\n", "1\t0\tA/a\n2\t0\tA/b\n", "\0"],
)
def test_lists_of_another_layout_are_passed_over(tmp_path, caplog, text):
  folder = insightface([0, 0, 1]).save(tmp_path)
  (folder / "train.lst").write_text(text)
  assert list(record_io.RecordIO(folder).class_names) == ["0", "1"]
  assert "train.lst" in caplog.text


@pytest.mark.parametrize("name", ["../b", "A/..", "A/", "/", "A/b\0", "A/."])
def test_list_paths_that_are_no_names(tmp_path, name):
  folder = insightface([0]).save(tmp_path)
  (folder / "train.lst").write_text(f"1\t0\t{name}\n")
  with pytest.raises(ValueError, match="train.lst.*key 1.* no name"):
    _ = record_io.RecordIO(folder).class_names


def test_list_of_other_records_is_refused(tmp_path):
  folder = insightface([0, 1]).save(tmp_path)
  (folder / "train.lst").write_text("1\t1\tA/a\n2\t0\tB/b\n")
  with pytest.raises(ValueError, match="belongs to other records"):
    _ = record_io.RecordIO(folder).class_names


def damaged(folder: pathlib.Path, at: int, new: bytes) -> pathlib.Path:
  data = bytearray((folder / "train.rec").read_bytes())
  data[at : at + len(new)] = new
  (folder / "train.rec").write_bytes(data)
  return folder


FRAME = struct.Struct("<II")


@pytest.mark.parametrize(
  ("place", "new", "reason"),
  [
    (0, b"JUNK", "begins with 0x4b4e554a, not 0xced7230a"),
    (4, struct.pack("<I", 2**29 - 1), "claims more than 134,217,728 bytes"),
    (4, struct.pack("<I", 2**20), "more than the file still has"),
    (4, struct.pack("<I", 2 << 29 | 60), "parts that do not follow"),
    (4, struct.pack("<I", 1 << 29 | 60), "parts that do not follow|begins"),
    (4, struct.pack("<I", 10), "too short"),
    (8, struct.pack("<I", 2**31), "claims 2,147,483,648 labels"),
    (32, struct.pack("<f", 1.0), "has label 1.0, unlike the rest"),
    (32, struct.pack("<f", np.nan), "has label nan, unlike the rest"),
  ],
)
def test_one_damaged_record_is_a_bad_image(tmp_path, place, new, reason):
  writer = insightface([0] * 5 + [1] * 5)
  offset = int(writer.lines[2].split("\t")[1])
  files = record_io.RecordIO(
    damaged(writer.save(tmp_path), offset + place, new)
  )
  with pytest.raises(images.BadImageError, match=f"record 3 .*{reason}"):
    files.encoded(2)
  assert files.encoded(1) == picture(2) and files.encoded(3) == picture(4)


def test_damaged_headers_are_left_out_up_to_a_share(tmp_path, caplog):
  writer = im2rec([0] * 5 + [1] * 5)
  offset = int(writer.lines[2].split("\t")[1])
  folder = damaged(writer.save(tmp_path), offset, b"JUNK")
  with pytest.raises(ValueError, match=r"1 of 10 .*record 2 at byte.*begins"):
    record_io.RecordIO(folder)
  files = record_io.RecordIO(folder, max_bad_share=0.1)
  assert (len(files), files.skipped, files.name(2)) == (9, 1, "0/3.jpg")
  assert "record 2" in caplog.text
  assert len(pickle.loads(pickle.dumps(files))) == 9


@pytest.mark.parametrize("label", [2.0, -1.0, 0.5, 1e30, np.inf, np.nan])
@pytest.mark.parametrize("make", [insightface, im2rec])
def test_labels_out_of_range(tmp_path, make, label):
  writer = make([0, 1])
  folder = writer.save(tmp_path, classes=2)
  field = 32 if make is insightface else 12
  damaged(folder, field, struct.pack("<f", label))
  with pytest.raises(ValueError, match="no integer from 0 to 1"):
    record_io.RecordIO(folder)


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    ("", "is empty"),
    ("1 0\n", "line 1: expected 'KEY<tab>OFFSET', got b'1 0'"),
    ("1\t0\n2\t-4\n", "line 2"),
    ("1\t0\n\t4\n", "line 2"),
    ("1\t0\n2\t99999999999999999999999\n", "line 2"),
    ("1\t0\n\n", "line 2"),
    ("1\t0\n2\t1e3\n", "line 2"),
    ("1\t0\n1\t48\n", "key 1 twice"),
    ("1\t0\n2\t0\n", "offset 0 twice"),
    ("1\t0\n2\t2\n", "no record can be, 1 times: key 2 at byte 2"),
    ("1\t0\n2\t99999996\n", "key 2 at byte 99,999,996"),
  ],
)
def test_bad_index(tmp_path, text, reason):
  folder = insightface([0, 0]).save(tmp_path)
  (folder / "train.idx").write_text(text)
  with pytest.raises(ValueError, match=f"train.idx.*{reason}"):
    record_io.RecordIO(folder)


@pytest.mark.parametrize("index", [True, False])
def test_every_truncation_is_seen(tmp_path, index):
  folder = insightface([0, 0, 1]).save(tmp_path)
  rec = (folder / "train.rec").read_bytes()
  ends = {len(rec)}
  if not index:
    (folder / "train.idx").unlink()
    ends |= {int(line.split("\t")[1]) for line in insightface([0, 0, 1]).lines}
  for size in range(len(rec)):
    # Without an index a file that ends behind a record looks whole.
    if size not in ends and -size % 4 == 0:
      (folder / "train.rec").write_bytes(rec[:size])
      with pytest.raises(ValueError, match="truncated|no RecordIO file"):
        record_io.RecordIO(folder)


def test_files_that_are_no_records(tmp_path):
  with pytest.raises(FileNotFoundError, match="train.rec"):
    record_io.RecordIO(tmp_path)
  for data in (b"", b"hello", bytes(100), MAGIC):
    (tmp_path / "train.rec").write_bytes(data)
    with pytest.raises(ValueError, match="is no RecordIO file"):
      record_io.RecordIO(tmp_path)
  insightface([]).save(tmp_path)
  with pytest.raises(ValueError, match="holds no image"):
    record_io.RecordIO(tmp_path)


@pytest.mark.parametrize("text", ["", "2", "0,112,112", "a,b,c", "2,-1,1"])
def test_bad_property(tmp_path, text):
  folder = insightface([0, 1]).save(tmp_path)
  (folder / "property").write_text(text)
  with pytest.raises(ValueError, match="property.*classes,height,width"):
    record_io.RecordIO(folder)


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
  folder = insightface([0, 0, 1]).save(tmp_path)
  files = record_io.RecordIO(folder)
  os.truncate(folder / "train.rec", 60)
  assert files.encoded(0) == picture(1)
  with pytest.raises(images.BadImageError, match="record 2"):
    files.encoded(1)


def test_copies_are_small_and_threads_agree(tmp_path):
  labels = np.repeat(np.arange(50), 20).tolist()
  files = record_io.RecordIO(insightface(labels).save(tmp_path))
  data = pickle.dumps(files)
  assert len(data) < 500
  copy = pickle.loads(data)
  np.testing.assert_array_equal(copy.labels, files.labels)
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    found = list(pool.map(copy.encoded, [*range(1000)] * 4))
  assert found == [picture(key) for key in range(1, 1001)] * 4
  with pytest.raises(IndexError):
    files.encoded(1000)
  with pytest.raises(IndexError):
    files.name(-1)


def test_what_does_not_fit_is_not_written():
  with pytest.raises(ValueError, match="label 16777217 .*float32"):
    write.image_payload(2**24 + 1, 1, b"")
  with pytest.raises(ValueError, match="label -1"):
    write.image_payload(-1, 1, b"")
