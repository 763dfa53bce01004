"""Data sets of TFDS against the folder that they were made from."""

import concurrent.futures
import contextlib
import io
import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from facejax.data import encoded, images, pipeline, tfds_builder
from facejax.data.stores import folder, tfds_images, tfds_index

SHARD = 3500


def picture(rng, size=(40, 32)):
  return Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))


def jpeg(rng):
  data = io.BytesIO()
  picture(rng).save(data, "JPEG")
  return data.getvalue()


def write_identities(root, people=13):
  """Identities with unequal numbers of images, formats and odd names."""
  rng = np.random.default_rng(0)
  for person in range(people):
    place = root / f"person {person:02} Żółw ü"
    place.mkdir(parents=True)
    for shot in range(1 + person % 4):
      picture(rng).save(place / f"{shot}.jpg")
  picture(rng).save(root / "person 00 Żółw ü" / "a.png")
  picture(rng).convert("L").save(root / "person 01 Żółw ü" / "b.pgm")
  odd = os.fsencode(root / "person 02 Żółw ü") + b"/\xff\xfe.jpg"
  with open(odd, "wb") as file:
    file.write(jpeg(rng))
  return root


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """The folder, and the data set made from it in more than eleven shards."""
  root = write_identities(tmp_path_factory.mktemp("faces") / "src")
  data_dir = tmp_path_factory.mktemp("tfds")
  path = tfds_builder.build(root, data_dir, name="faces", shard_bytes=SHARD)
  return folder.ImageFolder(root), path


def copy(path, tmp_path):
  """A copy whose labels have not been read yet."""
  target = tmp_path / "faces" / "1.0.0"
  ignore = shutil.ignore_patterns("facejax-index-*")
  shutil.copytree(path, target, ignore=ignore)
  return target


def shards_of(path):
  return sorted(path.glob("*.array_record-*"))


def assert_equal(data, files):
  assert len(data) == len(files)
  assert data.class_names == files.class_names
  assert data.num_classes == files.num_classes
  assert data.labels.dtype == np.int32
  np.testing.assert_array_equal(data.labels, files.labels)
  for index in range(len(files)):
    assert data.encoded(index) == files.encoded(index)
    assert data.name(index) == files.name(index)


def test_equals_the_folder(made):
  files, path = made
  assert len([f for f in os.listdir(path) if "array_record" in f]) > 11
  assert_equal(tfds_images.TfdsImages(path), files)
  assert_equal(tfds_images.TfdsImages(os.path.dirname(path)), files)


def test_shards_are_bounded(made):
  files, path = made
  largest = max(len(files.encoded(i)) for i in range(len(files)))
  sizes = tfds.builder_from_directory(path).info.splits["train"].shard_lengths
  assert sum(sizes) == len(files)
  ends = np.cumsum([0, *sizes])
  for begin, end in itertools.pairwise(ends):
    held = sum(len(files.encoded(i)) for i in range(begin, end))
    assert held <= max(SHARD, largest)


def test_tfds_itself_reads_it(made):
  files, path = made
  source = tfds.builder_from_directory(path).as_data_source("train")
  (index,) = [i for i in range(len(files)) if files.name(i).endswith("png")]
  example = source[index]
  assert example["file"].decode() == files.name(index)
  assert example["label"] == files.labels[index]
  expected = images.decode(files.encoded(index), name="it")
  assert np.abs(example["image"].astype(int) - expected).max() == 0
  info = tfds.builder_from_directory(path).info
  assert info.features["label"].names == files.class_names
  assert info.supervised_keys == ("image", "label")


def test_labels_are_read_once(made, tmp_path, monkeypatch):
  files, path = made
  path = copy(path, tmp_path)
  tfds_images.TfdsImages(path)
  monkeypatch.setattr(tfds_index, "gather", None)
  assert_equal(tfds_images.TfdsImages(path), files)
  part = tfds_index.load(next(map(str, path.glob("facejax-index-*"))))
  assert isinstance(part.labels, np.memmap)
  assert not list(path.glob(".facejax*"))
  # A shard that is written anew may hold other labels.
  shard = shards_of(path)[0]
  os.utime(shard, ns=(1, 1))
  with pytest.raises(TypeError):
    tfds_images.TfdsImages(path)


def test_a_damaged_index_is_made_again(made, tmp_path):
  files, path = made
  path = copy(path, tmp_path)
  tfds_images.TfdsImages(path)
  index = next(path.glob("facejax-index-*"))
  attacks = {
    "labels.npy": np.full(len(files), -1, np.int32),
    "records.npy": np.full(len(files), 10**12, np.int64),
    "ends.npy": np.arange(len(files) + 1) * 10**9,
  }
  for name, values in attacks.items():
    good = (index / name).read_bytes()
    np.save(index / name, values)
    assert_equal(tfds_images.TfdsImages(path), files)
    (index / name).write_bytes(good)
  (index / "classes.json").write_text('["a", 1]')
  assert_equal(tfds_images.TfdsImages(path), files)
  (index / "labels.npy").write_bytes(pickle.dumps(print))
  assert_equal(tfds_images.TfdsImages(path), files)


def test_without_a_place_for_the_index(made, tmp_path, monkeypatch, caplog):
  files, path = made

  def refuse(path):
    raise PermissionError(13, "Permission denied")

  monkeypatch.setattr(tfds_index.whole_files, "replacing", refuse)
  path = copy(path, tmp_path)
  data = tfds_images.TfdsImages(path)
  assert "cannot be kept" in caplog.text
  assert not list(path.glob("facejax-index-*"))
  assert_equal(pickle.loads(pickle.dumps(data)), files)


def test_pickles_small_and_in_threads(made):
  files, path = made
  data = tfds_images.TfdsImages(path)
  sent = pickle.dumps(data)
  assert len(sent) < 10_000
  again = pickle.loads(sent)
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for source in (data, again):
      order = np.random.default_rng(0).permutation(10 * len(files)) % len(files)
      for index, data_read in zip(
        order, pool.map(source.encoded, order.tolist()), strict=True
      ):
        assert data_read == files.encoded(int(index))


def test_parts_of_a_split(made):
  files, path = made
  cut = round(len(files) * 0.6)
  first = tfds_images.TfdsImages(path, "train[:60%]")
  rest = tfds_images.TfdsImages(path, split="train[60%:]")
  assert len(first) + len(rest) == len(files)
  assert first.encoded(cut - 1) == files.encoded(cut - 1)
  assert rest.encoded(0) == files.encoded(cut)
  # Classes without an image in the part are skipped over.
  assert set(rest.labels) == set(range(rest.num_classes))
  assert rest.num_classes < files.num_classes
  assert (
    rest.class_names[rest.labels[0]] == files.class_names[files.labels[cut]]
  )
  assert rest.name(0) == files.name(cut)
  with pytest.raises(IndexError):
    rest.encoded(len(rest))


def test_needs_no_tensorflow(made, tmp_path):
  files, path = made
  code = f"""
import sys
from facejax.data import tfds_builder
from facejax.data.stores import tfds_images
data = tfds_images.TfdsImages({path!r})
data.encoded(3)
tfds_builder.build({files.root!r}, {str(tmp_path)!r}, name="again")
assert "tensorflow" not in sys.modules
assert "jax" not in sys.modules
"""
  subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.slow
def test_the_pipeline_reads_it_with_workers(made):
  files, path = made

  def stream(source, workers):
    source = encoded.Decoded(source, image_size=(16, 16))
    batches = pipeline.batches(source, batch_size=4, seed=3, workers=workers)
    first = [next(batches) for _ in range(5)]
    batches.close()
    return first

  expected = stream(files, 0)
  for workers in (0, 2):
    found = stream(tfds_images.TfdsImages(path), workers)
    for batch, other in zip(expected, found, strict=True):
      for key in batch:
        np.testing.assert_array_equal(batch[key], other[key])


def build_any(data_dir, features, examples, *, supervised=None, split="train"):
  """Writes a data set as any user of TFDS would."""

  class Any(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("2.1.0")
    name = "any"

    def _make_download_manager(self, **_):
      return tfds_builder.types.SimpleNamespace(
        downloaded_size=tfds.core.utils.Size(0)
      )

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self, features=features, supervised_keys=supervised
      )

    def _split_generators(self, dl_manager):
      return {split: self._generate_examples()}

    def _generate_examples(self):
      yield from enumerate(examples)

  Any(data_dir=data_dir, file_format="array_record").download_and_prepare()
  return data_dir / "any"


def test_names_as_labels(tmp_path):
  # As in TFDS's own `lfw`.
  rng = np.random.default_rng(0)
  names = ["Zoë", "Al", "Zoë", "Bo"]
  path = build_any(
    tmp_path,
    tfds.features.FeaturesDict(
      {"image": tfds.features.Image(), "label": tfds.features.Text()}
    ),
    [{"image": io.BytesIO(jpeg(rng)), "label": name} for name in names],
  )
  data = tfds_images.TfdsImages(path)
  assert data.class_names == ["Al", "Bo", "Zoë"]
  found = [data.class_names[label] for label in data.labels]
  assert sorted(found) == sorted(names)
  assert data.name(0) == f"{found[0]}/00000000"


def test_gaps_and_supervised_keys(tmp_path):
  rng = np.random.default_rng(0)
  features = tfds.features.FeaturesDict(
    {
      "photo": tfds.features.Image(),
      "mask": tfds.features.Image(),
      "who": tfds.features.ClassLabel(num_classes=10),
      "age": tfds.features.Scalar(np.int64),
      "weights": tfds.features.Tensor(shape=(2,), dtype=np.float32),
    }
  )
  files = [jpeg(rng) for _ in range(3)]
  examples = [
    {
      "photo": io.BytesIO(file),
      "mask": io.BytesIO(jpeg(rng)),
      "who": label,
      "age": 9,
      "weights": np.zeros(2, np.float32),
    }
    for file, label in zip(files, (7, 2, 7), strict=True)
  ]
  path = build_any(
    tmp_path / "a", features, examples, supervised=("photo", "who")
  )
  data = tfds_images.TfdsImages(path)
  assert data.class_names == ["2", "7"]
  assert sorted(data.labels) == [0, 1, 1]
  assert {data.encoded(i) for i in range(3)} == set(files)
  assert tfds_images.TfdsImages(path, label_key="age").num_classes == 1
  for example in examples:
    example["photo"].seek(0)
    example["mask"].seek(0)
  path = build_any(tmp_path / "b", features, examples)
  with pytest.raises(ValueError, match="one image feature and has several"):
    tfds_images.TfdsImages(path)
  with pytest.raises(ValueError, match="one label feature and has several"):
    tfds_images.TfdsImages(path, image_key="photo")
  data = tfds_images.TfdsImages(path, image_key="photo", label_key="who")
  assert data.num_classes == 2
  with pytest.raises(ValueError, match="no image feature 'age'"):
    tfds_images.TfdsImages(path, image_key="age")


def test_unlabelled_split(tmp_path):
  rng = np.random.default_rng(0)
  path = build_any(
    tmp_path,
    tfds.features.FeaturesDict(
      {
        "image": tfds.features.Image(),
        "label": tfds.features.ClassLabel(num_classes=3),
      }
    ),
    [{"image": io.BytesIO(jpeg(rng)), "label": -1}],
    split="test",
  )
  with pytest.raises(ValueError, match="no split 'train'.*'test'"):
    tfds_images.TfdsImages(path)
  with pytest.raises(ValueError, match="label -1.*choose a split with labels"):
    tfds_images.TfdsImages(path, "test")


def test_no_image_feature(tmp_path):
  path = build_any(
    tmp_path,
    tfds.features.FeaturesDict(
      {"label": tfds.features.ClassLabel(num_classes=3)}
    ),
    [{"label": 1}],
  )
  with pytest.raises(ValueError, match="one image feature and has none"):
    tfds_images.TfdsImages(path)


def test_what_is_no_data_set(made, tmp_path):
  with pytest.raises(FileNotFoundError, match="no data set"):
    tfds_images.TfdsImages(tmp_path / "absent")
  with pytest.raises(ValueError, match="no data set of TFDS: expected"):
    tfds_images.TfdsImages(tmp_path)
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match="is a file"):
    tfds_images.TfdsImages(tmp_path / "file")
  path = copy(made[1], tmp_path)
  shutil.copytree(path, path.parent / "1.0.1")
  with pytest.raises(ValueError, match="2 versions.*name one"):
    tfds_images.TfdsImages(path.parent)
  (path / "features.json").unlink()
  with pytest.raises(ValueError, match="no features.json"):
    tfds_images.TfdsImages(path)


def edit(file, change):
  content = json.loads(file.read_text())
  change(content)
  file.write_text(json.dumps(content))


def test_hostile_descriptions(made, tmp_path):
  path = copy(made[1], tmp_path)
  info, features = path / "dataset_info.json", path / "features.json"
  good = info.read_text(), features.read_text()

  def refused(file, change, match):
    edit(file, change)
    with pytest.raises((ValueError, FileNotFoundError), match=match):
      tfds_images.TfdsImages(path)
    info.write_text(good[0])
    features.write_text(good[1])

  (tmp_path / "evil_module.py").write_text("raise SystemExit('ran')")
  sys.path.insert(0, str(tmp_path))
  refused(
    features,
    lambda c: c.update(pythonClassName="evil_module.Feature"),
    "evil_module.*no feature of TFDS",
  )
  sys.path.remove(str(tmp_path))
  refused(info, lambda c: c.update(splits=[]), "no split 'train'")
  refused(info, lambda c: c.update(fileFormat="tfrecord"), "convert_format")
  refused(info, lambda c: c.update(version="x"), "TFDS can read")
  split = "splits"
  huge = [str(2**40)] * len(shards_of(path))
  refused(
    info,
    lambda c: c[split][0].update(shardLengths=huge),
    "dataset_info.json claims",
  )
  refused(
    info,
    lambda c: c[split][0].update(
      filepathTemplate="../{DATASET}-{SPLIT}.{SHARD_X_OF_Y}"
    ),
    "elsewhere|no split|no shard",
  )
  for file in (info, features):
    file.write_bytes(b'{"a": [' * 10_000)
    with pytest.raises(ValueError):
      tfds_images.TfdsImages(path)
    info.write_text(good[0])
    features.write_text(good[1])


def test_missing_and_truncated_shards(made, tmp_path):
  path = copy(made[1], tmp_path)
  shard = shards_of(path)[3]
  data = shard.read_bytes()
  for broken in (b"", data[: len(data) // 2], b"\0" * len(data)):
    shard.write_bytes(broken)
    with pytest.raises(ValueError, match="00003-of.*damaged|00003-of.*holds"):
      tfds_images.TfdsImages(path)
  shard.unlink()
  with pytest.raises(FileNotFoundError, match="00003-of"):
    tfds_images.TfdsImages(path)


def flip(shard):
  """Turns a bit of the only record, and hides that the file has changed."""
  data = bytearray(shard.read_bytes())
  data[200] ^= 1
  status = shard.stat()
  shard.write_bytes(data)
  os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_damaged_record(made, tmp_path, caplog):
  files, path = made
  path = copy(path, tmp_path)
  tfds_images.TfdsImages(path)
  sizes = tfds.builder_from_directory(path).info.splits["train"].shard_lengths
  shard = sizes.index(1, 1)
  index = sum(sizes[:shard])
  flip(shards_of(path)[shard])
  data = tfds_images.TfdsImages(path)
  with pytest.raises(images.BadImageError, match="hash mismatch") as error:
    data.encoded(index)
  assert files.name(index) in str(error.value)
  assert data.encoded(index - 1) == files.encoded(index - 1)
  # Its label is unknown to whom has not read it before.
  shutil.rmtree(next(path.glob("facejax-index-*")))
  with pytest.raises(ValueError, match=f"1 of {len(files)} records.*damaged"):
    tfds_images.TfdsImages(path)
  fewer = tfds_images.TfdsImages(path, max_bad_share=0.1)
  assert f"left out: record {index}" in caplog.text
  assert len(fewer) == len(files) - 1
  assert fewer.encoded(index) == files.encoded(index + 1)
  assert fewer.name(index) == files.name(index + 1)


def test_mutated_shards_never_crash(made, tmp_path):
  path = copy(made[1], tmp_path)
  rng = np.random.default_rng(1)
  shard = shards_of(path)[0]
  good = shard.read_bytes()
  # A shard is padded with zeros.
  used = np.flatnonzero(np.frombuffer(good, np.uint8))
  outcomes = set()
  for _ in range(150):
    data = bytearray(good)
    for place in rng.choice(used, rng.integers(1, 4)):
      data[place] = rng.integers(0, 256)
    shard.write_bytes(data)
    try:
      found = tfds_images.TfdsImages(path, max_bad_share=1.0)
      outcomes.add(len(found) - len(made[0]))
      for index in range(len(found)):
        assert found.encoded(index)
    except ValueError as error:
      outcomes.add("damaged" in str(error))
    for index in path.glob("facejax-index-*"):
      shutil.rmtree(index)
  assert {-1, True} <= outcomes


def test_mutated_records_never_crash(made):
  from facejax.data.stores import tfds_features

  files, path = made
  data = tfds_images.TfdsImages(path)
  record = data._records[0]
  keys = tfds_features.Keys("image", "label", "file", files.num_classes)
  rng = np.random.default_rng(2)
  for _ in range(500):
    mutated = bytearray(record[: rng.integers(1, len(record) + 1)])
    # The description of a record stands at its ends.
    for place in rng.integers(0, min(60, len(mutated)), 2):
      mutated[rng.choice([place, -1 - place])] = rng.integers(0, 256)
    for read in (keys.entry, keys.image_bytes):
      with contextlib.suppress(ValueError):
        read(bytes(mutated))


def test_builder_refuses(made, tmp_path, capsys):
  files, path = made

  def fails(*arguments):
    assert tfds_builder.main([*arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    return message

  out = str(tmp_path / "out")
  assert "no image folder" in fails(str(tmp_path / "no"), out, "--name", "a")
  assert "lower-case" in fails(files.root, out, "--name", "My-faces")
  assert "three numbers" in fails(
    files.root, out, "--name", "a", "--version", "1"
  )
  data_dir = os.path.dirname(os.path.dirname(path))
  assert "exists already" in fails(files.root, data_dir, "--name", "faces")
  with pytest.raises(SystemExit, match="2"):
    tfds_builder.main([files.root, out, "--name", "a", "--runner=Spark"])
  assert "need --beam" in capsys.readouterr().err
  for name in (" padded", "two\nlines", "car\rriage"):
    shutil.copytree(files.root, tmp_path / "odd" / "src" / "x")
    (tmp_path / "odd" / "src").rename(tmp_path / "odd" / "old")
    rng = np.random.default_rng(0)
    root = tmp_path / "odd" / "src"
    (root / name).mkdir(parents=True)
    picture(rng).save(root / name / "0.jpg")
    assert "rename its folder" in fails(str(root), out, "--name", "a")
    shutil.rmtree(tmp_path / "odd")
  assert not os.path.exists(out)


def test_beam_missing(made, tmp_path, capsys, monkeypatch):
  monkeypatch.setitem(sys.modules, "apache_beam", None)
  arguments = [made[0].root, str(tmp_path / "o"), "--name", "a", "--beam"]
  assert tfds_builder.main(arguments) == 2
  assert "pip install apache-beam" in capsys.readouterr().err


def test_beam_writes_the_same(made, tmp_path):
  pytest.importorskip("apache_beam")
  files, _ = made
  path = tfds_builder.build(
    files.root, tmp_path, name="faces", shard_bytes=SHARD, beam=[]
  )
  assert_equal(tfds_images.TfdsImages(path), files)


def test_command(made, tmp_path, capsys):
  files, _ = made
  arguments = [
    files.root,
    str(tmp_path),
    "--name",
    "mine",
    "--version",
    "3.0.1",
  ]
  assert tfds_builder.main(arguments) == 0
  target = tmp_path / "mine" / "3.0.1"
  expected = (
    f"{target}: {len(files)} images of {files.num_classes} identities\n"
  )
  assert capsys.readouterr().out == expected
  assert sorted(os.listdir(tmp_path)) == ["mine"]
  assert_equal(tfds_images.TfdsImages(target), files)
