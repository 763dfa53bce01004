"""The readers that `fuzz_readers.py` feeds, with small valid files for each.

A reader is one function under `@target`: it reads a folder and raises what its
reader raises. Whatever it reads is looked at as the trainer would.
"""

import io
import itertools
import json
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence

import fuzz_dlib
import fuzz_samples
import numpy as np
from fuzz_mutations import CHANGES, Files, Target

from facejax.data import encoded, images
from facejax.data.pairs import protocols

_LOOKED_AT = 8


TARGETS: dict[str, Target] = {}


def target(name: str, samples: Callable[[], Sequence[Files]], **options):
  """Registers a reader."""

  def register(read: Callable[[pathlib.Path], None]):
    TARGETS[name] = Target(name, samples, read, **options)
    return read

  return register


def look_at(files: encoded.EncodedImages) -> None:
  """Uses a set as the trainer does; one bad image does not end it."""
  labels = np.asarray(files.labels)
  assert len(files) == len(labels) > 0 and labels.dtype == np.int32
  assert labels.min() >= 0 and labels.max() < files.num_classes
  assert len(files.class_names) == files.num_classes
  for index in range(min(len(files), _LOOKED_AT)):
    assert isinstance(files.name(index), str)
    try:
      assert isinstance(files.encoded(index), bytes)
    except images.BadImageError:
      continue


@target("record_io", fuzz_samples.record_io)
def read_record_io(folder: pathlib.Path) -> None:
  from facejax.data.stores import record_io

  look_at(record_io.RecordIO(folder, max_bad_share=1.0))


@target("record_io_idx", fuzz_samples.record_io, mutated=["train.idx"])
def read_record_io_idx(folder: pathlib.Path) -> None:
  from facejax.data.stores import record_io

  look_at(record_io.RecordIO(folder))


@target("record_io_scan", fuzz_samples.record_io_bare)
def read_record_io_scan(folder: pathlib.Path) -> None:
  from facejax.data.stores import record_io

  look_at(record_io.RecordIO(folder / "train.rec", max_bad_share=1.0))


@target("record_io_lst", fuzz_samples.record_io, mutated=["train.lst"])
def read_record_io_lst(folder: pathlib.Path) -> None:
  from facejax.data.stores import record_io

  look_at(record_io.RecordIO(folder))


def fit_sizes(files: Files, rng: np.random.Generator) -> Files:
  """Makes `facejax.json` announce the sizes that the files have."""
  try:
    header = json.loads(files["facejax.json"])
    for piece in header["shards"] + header["files"]:
      piece["bytes"] = len(files[piece["file"]])
  except (ValueError, TypeError, KeyError, RecursionError):
    return files
  return {**files, "facejax.json": json.dumps(header).encode()}


@target("array_records", fuzz_samples.array_records, finish=fit_sizes)
def read_array_records(folder: pathlib.Path) -> None:
  from facejax.data.stores import array_records

  look_at(array_records.ArrayRecords(folder))


@target(
  "array_records_json", fuzz_samples.array_records, mutated=["facejax.json"]
)
def read_array_records_json(folder: pathlib.Path) -> None:
  read_array_records(folder)


@target("tfds", fuzz_samples.tfds, kept=10_000)
def read_tfds(folder: pathlib.Path) -> None:
  from facejax.data.stores import tfds_images

  look_at(tfds_images.TfdsImages(folder, split="train"))


def fit_crc(files: Files, rng: np.random.Generator) -> Files:
  """Corrects the checksums of a PNG, without which nothing else is looked at."""
  data = bytearray(files["image"])
  if not data.startswith(b"\x89PNG") or rng.random() < 0.2:
    return files
  place = 8
  while place + 12 <= len(data):
    length = struct.unpack_from(">I", data, place)[0]
    end = place + 8 + length
    if end + 4 > len(data):
      break
    struct.pack_into(">I", data, end, zlib.crc32(data[place + 4 : end]))
    place = end + 4
  return {"image": bytes(data)}


def read_image(folder: pathlib.Path) -> None:
  pixels = images.decode((folder / "image").read_bytes(), name="image")
  assert pixels.dtype == np.uint8 and pixels.shape[2:] == (3,)
  assert 0 < pixels.size <= 3 * images.MAX_PIXELS
  images.fit(pixels, image_size=(16, 16), crop=0.9)


for form in fuzz_samples.FORMS:
  target(form, fuzz_samples.pictures(form), finish=fit_crc)(read_image)


def read_pack(folder: pathlib.Path) -> None:
  from facejax.data.pairs import packs

  (path,) = folder.iterdir()
  pairs = packs.read_pack(path)
  assert len(pairs.first) == len(pairs.second) == len(pairs.same) > 0
  assert max(pairs.first.max(), pairs.second.max()) < len(pairs.files)
  look_at(pairs.files)


target("pack_bin", fuzz_samples.packs_bin)(read_pack)


def zip_arrays(files: Files, rng: np.random.Generator) -> Files:
  """Packs the arrays; every other time it is the archive that is damaged."""
  data = io.BytesIO()
  with zipfile.ZipFile(data, "w") as archive:
    for name, content in files.items():
      archive.writestr(name, content)
  packed = data.getvalue()
  if rng.random() < 0.5:
    packed = CHANGES[rng.integers(len(CHANGES))](packed, packed, rng)
  return {"pack.npz": packed}


@target("pack_npz", fuzz_samples.packs_npz, finish=zip_arrays)
def read_npz(folder: pathlib.Path) -> None:
  members = sorted(folder.iterdir())
  if len(members) > 1:
    # A sample as it is: arrays that are not in an archive yet.
    content = {path.name: path.read_bytes() for path in members}
    zipped = zip_arrays(content, np.random.default_rng(0))
    for path in members:
      path.unlink()
    (folder / "pack.npz").write_bytes(zipped["pack.npz"])
  read_pack(folder)


@target("lfw_lists", fuzz_samples.lfw_lists)
def read_lfw_lists(folder: pathlib.Path) -> None:
  from facejax.data.pairs import lfw

  (path,) = folder.iterdir()
  readers: dict[str, Callable] = {
    "pairs.txt": lfw.read_lfw_pairs,
    "people.txt": lfw.read_lfw_people,
    "names.txt": lfw.read_identities,
  }
  assert readers[path.name](path)


@target("protocols", fuzz_samples.protocols)
def read_protocols(folder: pathlib.Path) -> None:
  (path,) = folder.iterdir()
  if path.name.startswith("guess"):
    pairs = protocols.read_list(path)
  else:
    pairs = protocols.read_list(path, path.stem)
  look_at_paths(pairs)


@target("protocol_cfp", fuzz_samples.cfp)
def read_cfp(folder: pathlib.Path) -> None:
  look_at_paths(protocols.read_list(folder, "cfp_fp"))
  look_at_paths(protocols.read_list(folder / "Split" / "FF"))


def look_at_paths(pairs: Sequence[protocols.ListedPair]) -> None:
  """No image of a list may lie outside the folder of the images."""
  for pair in pairs:
    for image in (pair.first, pair.second):
      assert _is_inside(image), image


def splits() -> list[Files]:
  """Pairs of videos, MegaFace's lists of images, and those to leave out."""
  header = b"split number, first name, second name, is same, original\n"
  return [
    {"splits.txt": header + b"1, A/0, A/1, 1, 0\n2, A/0, B/3, 0, 1\n"},
    {"list.json": b'{"id": ["A", "B"], "path": ["A/1.jpg", "B/2.jpg"]}'},
    {"noises.txt": b"# noises\nA_1.png\n7\tA/1@N/2_0.jpg\n"},
  ]


@target("splits", splits)
def read_splits(folder: pathlib.Path) -> None:
  from facejax.data import image_sets, refined
  from facejax.data.pairs import videos

  (path,) = folder.iterdir()
  if path.name == "splits.txt":
    look_at_paths(list(videos.read_splits(path)))
  elif path.name == "list.json":
    files = image_sets.open_set(path)
    assert len(files) == len(files.labels) > 0
    assert files.labels.max() < files.num_classes
  else:
    refined.RefinedList([path]).holds("faces/A/A_1.jpg")


@target("templates", fuzz_samples.templates)
def read_templates(folder: pathlib.Path) -> None:
  from facejax.data.pairs import templates

  (path,) = folder.iterdir()
  readers: dict[str, Callable] = {
    "images.txt": templates.read_template_images,
    "faces.txt": templates.read_detected_faces,
    "pairs.txt": templates.read_template_pairs,
    "enrolled.csv": templates.read_enrolled,
  }
  readers[path.name](path)


@target("landmarks", fuzz_samples.landmarks)
def read_landmarks(folder: pathlib.Path) -> None:
  from facejax.data import align
  from facejax.data.aligning import table

  pixels = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
  faces = table.once(table.read_table(folder / "landmarks.csv"))
  for face in itertools.islice(faces, _LOOKED_AT):
    if face.complaint or face.landmarks is None:
      continue
    assert _is_inside(face.path)
    try:
      assert align.align(pixels, face.landmarks).shape == (112, 112, 3)
    except align.LandmarkError:
      continue


@target("dlib", fuzz_dlib.nets)
def read_dlib(folder: pathlib.Path) -> None:
  from facejax.runtime import dlib_file

  dlib_file.read(folder / "net.dat")


def _is_inside(path: str) -> bool:
  root = pathlib.Path("/root")
  return root in (root / path).resolve().parents
