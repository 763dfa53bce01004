"""The same images in every format: the same content, batches and training."""

import itertools
import os

import numpy as np
import pytest
from helpers import small_training
from PIL import Image

from facejax.data import convert, encoded, formats, pipeline, tfds_builder
from facejax.data.augment import augment
from facejax.data.synthetic import faces as synthetic
from facejax.runs import history

PEOPLE, IMAGES = 5, 4


def write_folder(root):
  faces = synthetic.SyntheticFaces(
    num_identities=PEOPLE, images_per_identity=IMAGES, image_size=(32, 32)
  )
  for index in range(len(faces)):
    person = root / f"person {faces.labels[index]}"
    person.mkdir(parents=True, exist_ok=True)
    Image.fromarray(faces[index]).save(person / f"face{index}.jpg", quality=95)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
  """Where the same faces lie, by format."""
  root = tmp_path_factory.mktemp("formats")
  write_folder(root / "folder")
  found = {"folder": str(root / "folder")}
  for form in ("record_io", "array_record"):
    found[form] = str(root / form)
    assert convert.main([found["folder"], found[form], "--to", form]) == 0
  found["tfds"] = os.fspath(
    tfds_builder.build(found["folder"], root / "tfds", name="faces")
  )
  return found


def batches(path, **options):
  source = encoded.Decoded(formats.open_images(path), image_size=(32, 32))
  options = {"batch_size": 6, "seed": 3, **options}
  stream = pipeline.batches(
    source, augment=augment.Augment(flip=True, shift=2), **options
  )
  try:
    yield from stream
  finally:
    stream.close()


def take(count, path, **options):
  stream = batches(path, **options)
  taken = list(itertools.islice(stream, count))
  stream.close()
  return taken


def assert_same(actual, expected):
  for a, b in zip(actual, expected, strict=True):
    assert a.keys() == b.keys()
    for key in a:
      np.testing.assert_array_equal(a[key], b[key], err_msg=key)


@pytest.mark.parametrize("form", formats.FORMATS)
def test_all_formats_hold_the_same(places, form):
  assert formats.guess(places[form]) == form
  files, folder = (formats.open_images(places[key]) for key in (form, "folder"))
  assert len(files) == len(folder) == PEOPLE * IMAGES
  assert list(files.class_names) == list(folder.class_names)
  np.testing.assert_array_equal(files.labels, folder.labels)
  assert files.labels.dtype == np.int32
  for k in range(len(files)):
    assert files.encoded(k) == folder.encoded(k)
    assert files.name(k) == folder.name(k)


@pytest.mark.parametrize("form", formats.FORMATS)
def test_parts_are_chosen_alike(places, form):
  files = formats.open_images(
    places[form],
    only=["person 1", "person 3", "person 4"],
    without=["person 3"],
    min_images=IMAGES,
  )
  assert list(files.class_names) == ["person 1", "person 4"]
  assert files.name(IMAGES).startswith("person 4/")
  with pytest.raises(ValueError, match="person 11"):
    formats.open_images(places[form], only=["person 11"])


@pytest.mark.parametrize("form", formats.FORMATS)
def test_replay_from_every_position(places, form):
  expected = take(8, places["folder"])
  for start in range(8):
    again = take(8 - start, places[form], start_step=start)
    assert_same(again, expected[start:])


@pytest.mark.parametrize("form", formats.FORMATS)
def test_processes_share_the_same_batches(places, form):
  expected = take(5, places["folder"])
  shares = [take(5, places[form], places=range(k, 6, 2)) for k in (0, 1)]
  for whole, *parts in zip(expected, *shares, strict=True):
    for key, value in whole.items():
      merged = np.empty_like(value)
      for k in (0, 1):
        merged[k::2] = parts[k][key]
      np.testing.assert_array_equal(merged, value)


@pytest.mark.slow
@pytest.mark.parametrize("form", formats.FORMATS)
def test_workers_read_the_same_batches(places, form):
  expected = take(5, places["folder"])
  for workers in (1, 2):
    assert_same(take(5, places[form], workers=workers), expected)


@pytest.mark.parametrize(
  ("path", "form"),
  [("x/train.rec", "record_io"), ("nowhere", "folder")],
)
def test_guess_by_name_alone(path, form):
  assert formats.guess(path) == form


@pytest.mark.slow
def test_training_does_not_depend_on_the_format(places, tmp_path):
  losses = {}
  for form, path in places.items():
    workdir = tmp_path / form
    code, output = small_training.call(
      [
        *("--config", "cosface.py", "--model.name", "sphereface4"),
        *("--steps", "4", "--batch-size", "8", "--log-every", "1"),
        *("--data.path", path, "--data.image-size", "32", "32"),
        *("--model.embedding-dim", "16", "--workdir", workdir),
        *("--mesh.devices", "1"),
      ]
    )
    assert code == 0, output
    lines = history.read(workdir)
    losses[form] = [r["loss"] for r in lines if "loss" in r]
  assert len(losses["folder"]) == 4
  assert all(found == losses["folder"] for found in losses.values()), losses


def test_a_second_set_joins_the_first(places, tmp_path, capsys):
  from facejax import train

  command = ["--config", "cosface.py", "--steps", "2", "--workdir", tmp_path]
  command += ["--data.path", places["record_io"]]
  for wrong in ("nothing", "records:x", "folder:"):
    code = train.main([*map(str, command), "--data.join", wrong])
    assert code == 2
    assert "SOURCE:PATH" in capsys.readouterr().err
