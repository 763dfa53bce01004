import json
import os
import pickle
import threading

import msgpack
import numpy as np
import pytest

from facejax.data import images
from facejax.data.conversions import copying
from facejax.data.stores import array_records, array_shards


class Made:
  """Images in memory; `EncodedImages` that any process can make again."""

  def __init__(self, labels=(0, 0, 1, 2, 2, 2), size=300, names=None):
    self.labels = np.asarray(labels, np.int32)
    self.num_classes = int(self.labels.max()) + 1
    self.class_names = names or [f"p{k}" for k in range(self.num_classes)]
    self.size = size

  def __len__(self):
    return len(self.labels)

  def encoded(self, index):
    # The first bytes are all that is ever looked at.
    rng = np.random.default_rng([7, index])
    return b"\xff\xd8\xff" + rng.bytes(self.size + index)

  def name(self, index):
    return f"{self.class_names[self.labels[index]]}/{index:05}.jpg"


def write(tmp_path, files=None, **options):
  files = files or Made()
  options = {"to": "array_record", "source_kind": "made", **options}
  plan = copying.plan(files, **options)
  copying.convert(files, tmp_path / "set", plan)
  return tmp_path / "set"


def shard_files(folder):
  return sorted(folder.glob("*.array_record"))


def test_gives_back_what_was_written(tmp_path):
  made = Made()
  read = array_records.ArrayRecords(write(tmp_path, made, shards=4))
  assert (len(read), read.num_classes) == (6, 3)
  assert read.class_names == ["p0", "p1", "p2"]
  assert read.labels.dtype == np.int32
  assert read.labels.tolist() == made.labels.tolist()
  assert not read.labels.flags.writeable
  for index in (5, 0, 3, 1, 2, 4):
    assert read.encoded(index) == made.encoded(index)
    assert read.name(index) == made.name(index)
  assert read.name(0) == "p0/00000.jpg"
  for index in (6, -1):
    with pytest.raises(IndexError):
      read.encoded(index)


def test_pickles_small_and_opens_anew(tmp_path):
  read = array_records.ArrayRecords(write(tmp_path, Made(range(2000), size=9)))
  read.encoded(0)
  data = pickle.dumps(read)
  assert len(data) < 500
  assert pickle.loads(data).encoded(1999) == read.encoded(1999)
  read.close()
  assert read.encoded(7) == Made(range(2000), size=9).encoded(7)


def test_threads_share_a_reader(tmp_path):
  made = Made(np.arange(200) // 5)
  read = array_records.ArrayRecords(write(tmp_path, made, shards=3))
  wrong = []

  def look(seed):
    for index in np.random.default_rng(seed).integers(0, 200, 300).tolist():
      if read.encoded(index) != made.encoded(index):
        wrong.append(index)
      if read.name(index) != made.name(index):
        wrong.append(index)

  threads = [threading.Thread(target=look, args=(k,)) for k in range(6)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not wrong


def test_only_so_many_shards_stay_open(tmp_path, monkeypatch):
  made = Made(range(12))
  folder = write(tmp_path, made, shards=12)
  monkeypatch.setattr(array_shards, "_MAX_OPEN", 3)
  read = array_records.ArrayRecords(folder)
  before = len(os.listdir("/proc/self/fd"))
  for index in [*range(12), *range(12)]:
    assert read.encoded(index) == made.encoded(index)
  assert len(os.listdir("/proc/self/fd")) <= before + 3


def test_a_damaged_record_is_one_bad_image(tmp_path):
  made = Made()
  folder = write(tmp_path, made)
  (shard,) = shard_files(folder)
  data = bytearray(shard.read_bytes())
  data[data.index(made.encoded(3)[100:150])] ^= 1
  shard.write_bytes(data)
  read = array_records.ArrayRecords(folder)
  assert read.encoded(2) == made.encoded(2)
  with pytest.raises(images.BadImageError, match=r"record 3 of .*is damaged"):
    read.encoded(3)
  # The library's reader gives nothing but the error from then on.
  assert read.encoded(4) == made.encoded(4)
  assert read.name(3) == "p2/record 3 of images-00000-of-00001.array_record"
  assert read.name(5) == "p2/00005.jpg"


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda record: record | {"label": 1}, "has label 1, labels.npy 0"),
    (lambda record: record | {"label": "0"}, "does not hold a label"),
    (lambda record: record | {"image": "text"}, "does not hold|no msgpack"),
    (lambda record: record | {"more": 1}, "no msgpack map"),
    (lambda record: {"label": 0}, "does not hold a label"),
    (lambda record: record | {"name": b"n" * 70_000}, "name of 70,000 bytes"),
    (lambda record: [1, 2], "no msgpack map"),
    (lambda record: 5, "does not hold a label"),
  ],
)
def test_records_of_another_make_are_bad_images(
  tmp_path, monkeypatch, change, message
):
  pack = array_records.pack
  monkeypatch.setattr(
    array_records,
    "pack",
    lambda record: (
      msgpack.packb(change(record._asdict()))
      if record.name == b"00001.jpg"
      else pack(record)
    ),
  )
  read = array_records.ArrayRecords(write(tmp_path))
  assert read.encoded(0)
  with pytest.raises(images.BadImageError, match=message):
    read.encoded(1)


@pytest.mark.parametrize(
  "data",
  [b"", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x81" * 5000],
  ids=["empty", "map of 2^32", "bytes of 2^32", "maps in maps"],
)
def test_lengths_are_not_believed(data):
  with pytest.raises(ValueError, match="msgpack|does not hold"):
    array_records.unpack(data)


def test_random_bytes_are_no_records():
  record = array_records.pack(array_records.Record(1, b"a.jpg", b"x" * 40))
  rng = np.random.default_rng(0)
  for _ in range(500):
    data = bytearray(record[: rng.integers(1, len(record) + 1)])
    for place in rng.integers(0, len(data), 3):
      data[place] = rng.integers(256)
    try:
      found = array_records.unpack(bytes(data))
    except ValueError:
      continue
    assert isinstance(found.image, bytes)


def mutated(data, rng):
  """Some bytes changed, and sometimes the end cut off."""
  data = bytearray(
    data[: rng.integers(len(data))] if rng.random() < 0.2 else data
  )
  for _ in range(rng.integers(1, 5) if data else 0):
    # Headers and footers lie at the ends.
    near = min(len(data), 4096 if rng.random() < 0.7 else 2**30)
    place = int(rng.integers(near)) * (1 if rng.random() < 0.5 else -1)
    data[place] = rng.integers(256)
  return bytes(data)


@pytest.mark.parametrize("file", ["*.array_record", "labels.npy", "*.json"])
def test_damaged_files_are_errors_and_no_more(tmp_path, file):
  folder = write(tmp_path)
  (path,) = folder.glob(file)
  sound, rng = path.read_bytes(), np.random.default_rng(0)
  header = json.loads((folder / "facejax.json").read_text())
  errors = 0
  for _ in range(200):
    path.write_bytes(mutated(sound, rng))
    if file != "*.json":  # what lies about sizes is found sooner
      for piece in (*header["shards"], *header["files"]):
        piece["bytes"] = (folder / piece["file"]).stat().st_size
      change_header(**header)(folder)
    try:
      read = array_records.ArrayRecords(folder)
      for index in range(len(read)):
        assert isinstance(read.encoded(index), bytes)
    except ValueError:
      errors += 1
  assert errors > 50


def test_a_damaged_shard_is_no_bad_image(tmp_path):
  folder = write(tmp_path)
  (shard,) = shard_files(folder)
  size = shard.stat().st_size
  shard.write_bytes(b"\0" * size)
  read = array_records.ArrayRecords(folder)
  with pytest.raises(ValueError, match=r"array_record' is damaged") as caught:
    read.encoded(0)
  assert not isinstance(caught.value, images.BadImageError)


def test_a_shard_with_another_count_is_refused(tmp_path):
  folder = write(tmp_path, shards=2)
  header = json.loads((folder / "facejax.json").read_text())
  for shard, count in zip(header["shards"], (2, 4), strict=True):
    shard["images"] = count
  (folder / "facejax.json").write_text(json.dumps(header))
  read = array_records.ArrayRecords(folder)
  with pytest.raises(ValueError, match="holds 3 records, not 2"):
    read.encoded(0)


def change_header(**fields):
  def change(folder):
    path = folder / "facejax.json"
    header = json.loads(path.read_text())
    path.write_text(json.dumps(header | fields))

  return change


def cut(pattern, size):
  def change(folder):
    for path in folder.glob(pattern):
      os.truncate(path, size)

  return change


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (cut("*.array_record", 70_000), r"has 70,000 bytes, not 131,072"),
    (lambda f: shard_files(f)[0].unlink(), "array_record' is missing"),
    (lambda f: (f / "labels.npy").unlink(), "'labels.npy' is missing"),
    (cut("labels.npy", 30), "'labels.npy' has 30 bytes"),
    (cut("facejax.json", 50), "facejax.json'"),
    (cut("facejax.json", 0), "facejax.json'"),
    (lambda f: (f / "facejax.json").write_text("[" * 10**5), "facejax.json'"),
    (lambda f: (f / "facejax.json").write_text("[]"), "no JSON object"),
    (lambda f: (f / "facejax.json").write_bytes(b"\xff"), "facejax.json'"),
    (change_header(format="x"), "format is 'x'"),
    (change_header(version=2), "version is 2, expected 1"),
    (change_header(kind="folder"), "set of kind folder, not array_record"),
    (change_header(images=7), "announces 7 images and lists 6"),
    (change_header(images=2**40), "images=1099511627776: must be from"),
    (change_header(images="6"), "images='6': must be from"),
    (change_header(shards=[]), "announces 6 images and lists 0"),
    (change_header(shards=[1]), "'1' is no shard or file"),
    (change_header(shard_count=2), "announces 2 shards and lists 1"),
    (change_header(identities=4), "announces 4 identities and lists 3"),
    (change_header(class_names="abc"), "class_names is no list"),
    (change_header(source={}), "source lacks its kind"),
    (change_header(source={"kind": "a", "fingerprint": "b"}), "no SHA-256"),
  ],
)
def test_headers_that_do_not_match_are_refused(tmp_path, change, message):
  folder = write(tmp_path)
  change(folder)
  with pytest.raises(ValueError, match=message):
    array_records.ArrayRecords(folder)


@pytest.mark.parametrize("file", ["../x", "/etc/passwd", "", "..", 5])
def test_shards_lie_in_the_folder(tmp_path, file):
  folder = write(tmp_path)
  shards = json.loads((folder / "facejax.json").read_text())["shards"]
  change_header(shards=[shards[0] | {"file": file}])(folder)
  with pytest.raises(ValueError, match="is no name of a file"):
    array_records.ArrayRecords(folder)


@pytest.mark.parametrize(
  ("labels", "message"),
  [
    (np.asarray([0, 0, 1, 2, 2, 3], np.int32), "from 0 to 3, out of range"),
    (np.asarray([0, 0, 1, 2, 2, -1], np.int32), "from -1 to 2, out of range"),
    (np.zeros(6, np.float32), "holds float32"),
    (np.zeros((3, 2), np.int32), r"holds int32 \(3, 2\)"),
    (np.asarray([{}] * 2), "is damaged"),
  ],
)
def test_labels_must_fit(tmp_path, labels, message):
  folder = write(tmp_path)
  np.save(folder / "labels.npy", labels)
  size = (folder / "labels.npy").stat().st_size
  files = json.loads((folder / "facejax.json").read_text())["files"]
  change_header(files=[files[0] | {"bytes": size}])(folder)
  with pytest.raises(ValueError, match=message):
    array_records.ArrayRecords(folder)


def test_unfinished_and_other_folders_are_explained(tmp_path):
  with pytest.raises(FileNotFoundError, match="not there"):
    array_records.ArrayRecords(tmp_path / "nowhere")
  with pytest.raises(FileNotFoundError, match="no facejax.json; make it with"):
    array_records.ArrayRecords(tmp_path)
