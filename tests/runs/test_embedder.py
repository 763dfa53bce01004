"""A trained net as a function."""

import copy
import dataclasses
import shutil

import jax
import numpy as np
import pytest
from helpers import tiny_run as tiny
from PIL import Image

import facejax
from facejax.data import images as image_lib
from facejax.runs import card, embedder, folder, metrics_file, thresholds
from facejax.runs import net as net_lib


def arrays(count=5, size=(50, 41)):
  generator = np.random.default_rng(0)
  return generator.integers(0, 256, (count, *size, 3), np.uint8)


def test_embeddings_follow_the_card(tiny_model):
  # From the parts: crop, size, the average of the weights.
  images = arrays()
  x = [image_lib.fit(i, image_size=tiny.SIZE, crop=0.9) for i in images]
  views = np.concatenate([x, np.stack(x)[:, :, ::-1]])
  net, _, stats, average = tiny.weights()
  apply = jax.jit(lambda *values: net.apply(*values, train=False)[0])
  straight, mirrored = np.split(np.asarray(apply(average, stats, views)), 2)
  for flip, sums in ((False, straight), (True, straight + mirrored)):
    expected = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    found = tiny_model.embed(images, batch_size=4, flip=flip)
    assert found.dtype == np.float32 and found.shape == (5, tiny.DIM)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_every_kind_of_image_is_the_same_image(tiny_model, tiny_faces):
  path = tiny_faces / "person1" / "4.png"
  pixels = np.asarray(Image.open(path))
  kinds = [path, str(path), path.read_bytes(), Image.open(path), pixels]
  found = tiny_model.embed(kinds, batch_size=4)
  np.testing.assert_allclose(found, found[:1].repeat(5, 0), atol=1e-6)
  grey = np.asarray(Image.open(path).convert("L"))
  coloured = np.repeat(grey[:, :, None], 3, axis=2)
  found = tiny_model.embed([grey, coloured, Image.fromarray(grey)])
  np.testing.assert_allclose(found, found[:1].repeat(3, 0), atol=1e-6)


def test_a_photo_is_the_same_however_the_camera_was_held(tiny_model, tmp_path):
  upright = Image.fromarray(arrays(1)[0])
  exif = Image.Exif()
  exif[0x0112] = 6  # to be turned by a quarter, which the next line undoes
  lying = upright.transpose(Image.Transpose.ROTATE_90)
  lying.save(tmp_path / "lying.png", exif=exif)
  kinds = [upright, tmp_path / "lying.png", Image.open(tmp_path / "lying.png")]
  found = tiny_model.embed(kinds, batch_size=4)
  np.testing.assert_allclose(found, found[:1].repeat(3, 0), atol=1e-6)
  ignoring = copy.copy(tiny_model)
  ignoring.card = dataclasses.replace(tiny_model.card, exif="ignore")
  other = ignoring.embed(kinds[1:], batch_size=4)
  assert np.abs(other - found[1:]).max() > 1e-3


def test_no_images_have_no_embeddings(tiny_model):
  assert tiny_model.embed([]).shape == (0, tiny.DIM)


@pytest.mark.parametrize(
  ("images", "message"),
  [
    ("a.png", "a list of images"),
    (np.zeros((8, 8, 3), np.uint8), r"\(8, 8, 3\)"),
    (np.zeros((1, 8, 8, 3), np.float32), "image 0: float32"),
    ([np.zeros((8, 8, 4), np.uint8)], "RGB"),
    ([np.zeros((0, 8, 3), np.uint8)], "no pixels"),
    (["nowhere.png"], "nowhere.png"),
    ([b"text"], "not an image"),
  ],
)
def test_what_is_no_image_is_named(tiny_model, images, message):
  with pytest.raises(ValueError, match=message):
    tiny_model.embed(images)


def test_three_lines_are_enough(tiny_run, tiny_faces):
  model = facejax.load(tiny_run, devices=1)
  assert (model.step, model.threshold) == (tiny.STEP, tiny.THRESHOLD)
  path = tiny_faces / "person0" / "0.png"
  e = model.embed([path, path, tiny_faces / "person2" / "6.png"])
  assert facejax.similarity(e[0], e[1]) == pytest.approx(1, abs=1e-6)
  assert facejax.similarity(e[0], e[2]) < 0.999
  assert "load" in dir(facejax)
  with pytest.raises(AttributeError, match="no attribute 'lode'"):
    _ = facejax.lode


def test_similarity_is_the_cosine():
  assert facejax.similarity([3, 0], [-2, 0]) == -1
  for a, b in (([1.0], [1.0, 2.0]), ([[1.0]], [[1.0]]), ([0.0], [1.0])):
    with pytest.raises(ValueError, match="embedding"):
      facejax.similarity(a, b)


def test_colours_in_the_other_order_are_turned_around(tiny_model, monkeypatch):
  images = arrays(2)
  straight = tiny_model.embed(images[..., ::-1].copy())
  swapped = card.Card(**vars(tiny_model.card) | {"colors": "BGR"})
  monkeypatch.setattr(tiny_model, "card", swapped)
  np.testing.assert_allclose(tiny_model.embed(images), straight, atol=1e-6)


def test_a_net_that_is_not_there_is_told(tiny_run, tmp_path):
  with pytest.raises(FileNotFoundError, match="neither model.json"):
    embedder.load(tmp_path)
  shutil.copy(tiny_run / folder.CARD, tmp_path)
  with pytest.raises(FileNotFoundError, match="no checkpoints/"):
    embedder.load(tmp_path)
  (tmp_path / "checkpoints").mkdir()
  with pytest.raises(FileNotFoundError, match="no checkpoint yet"):
    embedder.load(tmp_path)


def test_another_net_than_the_card_says_is_told(tiny_run, tmp_path):
  shutil.copytree(tiny_run / "checkpoints", tmp_path / "checkpoints")
  other = card.Card(net="iresnet10_slim", embedding_dim=8, image_size=(32, 32))
  card.write(tmp_path, other)
  with pytest.raises(ValueError, match="another kind of state"):
    embedder.load(tmp_path)


def test_the_weights_without_their_average_can_be_read(tiny_run):
  _, params, stats, _ = tiny.weights()
  step, trunk = net_lib.read_trunk(tiny_run, net_lib.Trunk(params, stats))
  assert step == tiny.STEP and trunk.average is None
  assert trunk.verified is trunk.params
  jax.tree.map(np.testing.assert_array_equal, trunk.params, params)


def test_the_threshold_of_a_run(tmp_path):
  assert metrics_file.threshold(tmp_path) is None
  report = tmp_path / "report" / "metrics.json"
  report.parent.mkdir()
  report.write_text('{"results": {}}')
  assert metrics_file.threshold(tmp_path) is None
  report.write_text(
    '{"results": {"a": {"metrics": {"threshold": 0.1, "accuracy": 0.5,'
    ' "given_threshold": 0.2, "accuracy_at_given_threshold": 0.6}}}}'
  )
  assert metrics_file.threshold(tmp_path) == thresholds.Threshold(0.2, 0.6, "a")
  report.write_text('{"results": {"a": {}}}')
  with pytest.raises(ValueError, match="metrics.json is damaged"):
    metrics_file.threshold(tmp_path)
