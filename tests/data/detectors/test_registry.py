"""Detectors by name, the contract, and YuNet behind a stand-in for OpenCV."""

import sys
import types

import numpy as np
import pytest
from helpers import detectors

from facejax.data.detectors import contract, registry, yunet
from facejax.runtime import extras

POINTS = np.arange(20.0).reshape(2, 5, 2)


def test_points_alone_are_faces():
  faces = contract.checked(POINTS)
  np.testing.assert_array_equal(faces.boxes, [[0, 1, 8, 9], [10, 11, 18, 19]])
  assert np.isnan(faces.scores).all()
  assert len(contract.checked(np.zeros((0, 5, 2)))) == 0
  assert len(contract.checked(np.zeros(0))) == 0


def test_what_cannot_be_a_face_is_left_out():
  points = np.stack([POINTS[0]] * 5)
  found = np.stack([[0.0, 0, 9, 9]] * 5)
  points[1, 2, 0] = np.nan
  found[2] = [5, 5, 5, 9]
  found[3] = [5, 5, 3, 3]
  faces = contract.checked(contract.Faces(found, np.arange(5.0), points))
  assert faces.scores.tolist() == [0, 4]


def test_shapes_are_checked():
  with pytest.raises(ValueError, match=r"\[n, 5, 2\], got \(4, 2\)"):
    contract.checked(np.zeros((4, 2)))
  good = (np.ones((2, 4)), np.ones(2), POINTS)
  for place, shape in ((0, (2, 5)), (1, (3,)), (2, (2, 4, 2))):
    parts = list(good)
    parts[place] = np.ones(shape)
    with pytest.raises(ValueError, match=r"boxes \[n, 4\], scores"):
      contract.checked(contract.Faces(*parts))


def test_enlarging_keeps_the_edges_of_an_image():
  faces = contract.Faces(
    np.asarray([[-0.5, -0.5, 9.5, 4.5]]), np.ones(1), POINTS[:1]
  ).enlarged(4)
  np.testing.assert_array_equal(faces.boxes, [[-0.5, -0.5, 39.5, 19.5]])
  np.testing.assert_array_equal(faces.points, (POINTS[:1] + 0.5) * 4 - 0.5)


def test_options_that_a_detector_does_not_take(tmp_path, monkeypatch):
  detectors.install(tmp_path / "site", "framed", detectors.FRAMED)
  monkeypatch.syspath_prepend(tmp_path / "site")
  assert registry.described(registry.Choice("framed")) == {
    "name": "framed",
    "package": "detector_framed 1.0",
  }
  for choice, message in (
    (registry.Choice("framed", min_face=9), "only mtcnn and yunet take"),
    (registry.Choice("framed", model="x"), "only yunet takes a file"),
    (registry.Choice("fraimed"), "there are: mtcnn, yunet, framed"),
  ):
    with pytest.raises(ValueError, match=message):
      registry.described(choice)
  faces = registry.load(registry.Choice("framed"))(detectors.scene([120, 80]))
  assert sorted((faces.boxes[:, 2] - faces.boxes[:, 0]).tolist()) == [80, 120]


class FakeYuNet:
  """Finds one face of half the image it was told the size of."""

  def __init__(self):
    self.sizes, self.first = [], []

  def create(self, model, config, size, score, overlap, top):
    self.score = score
    return self

  def setInputSize(self, size):
    self.sizes.append(size)

  def detect(self, image):
    self.first.append(image[0, 0].tolist())
    width, height = self.sizes[-1]
    assert image.shape == (height, width, 3)
    if not image.any():
      return 0, None
    points = [0.3, 0.3, 0.5, 0.3, 0.4, 0.5, 0.3, 0.6, 0.5, 0.6]
    row = [0.25, 0.25, 0.5, 0.5, *points]
    scaled = np.asarray(row) * np.tile([width, height], 7)
    return 1, np.asarray([[*scaled, 0.875]], np.float32)


@pytest.fixture
def fake_cv2(monkeypatch):
  fake = FakeYuNet()
  level = types.SimpleNamespace(
    setLogLevel=lambda level: None, LOG_LEVEL_ERROR=2
  )
  module = types.ModuleType("cv2")
  module.__spec__ = types.SimpleNamespace()
  module.FaceDetectorYN, module.error = fake, RuntimeError
  module.utils = types.SimpleNamespace(logging=level)
  monkeypatch.setitem(sys.modules, "cv2", module)
  return fake


def test_yunet_sees_large_images_smaller(fake_cv2, tmp_path):
  model = tmp_path / "yunet.onnx"
  model.write_bytes(b"\x08\x06\x12\x07pytorch")
  image = np.full((500, 2000, 3), (200, 30, 10), np.uint8)
  faces = yunet.build(model)(image)
  seen = np.asarray([[160, 40, 480, 120], [192, 48, 320, 48]])
  found = (seen + 0.5) * 3.125 - 0.5
  np.testing.assert_allclose(faces.boxes[0], found[0], rtol=1e-6)
  np.testing.assert_allclose(faces.points[0, :2].ravel(), found[1], rtol=1e-6)
  assert faces.scores.tolist() == [0.875]
  assert fake_cv2.first[0] == [10, 30, 200], "OpenCV has blue first"
  small = np.ones((100, 250, 3), np.uint8)
  yunet.build(model)(small)
  yunet.build(model, min_face=20, min_score=0.5)(image)
  yunet.build(model, min_face=1000)(image)
  assert fake_cv2.sizes == [(640, 160), (250, 100), (1600, 400), (640, 160)]
  assert fake_cv2.score == 0.6
  assert len(yunet.build(model)(np.zeros((60, 60, 3), np.uint8))) == 0


def test_yunet_needs_its_model(tmp_path, fake_cv2, monkeypatch):
  with pytest.raises(ValueError, match="--detector-model"):
    registry.described(registry.Choice("yunet"))
  with pytest.raises(FileNotFoundError, match="no model of YuNet"):
    registry.described(registry.Choice("yunet", str(tmp_path / "no.onnx")))
  page = tmp_path / "page.onnx"
  page.write_text("<!DOCTYPE html>")
  with pytest.raises(ValueError, match="is an HTML page, not a model"):
    registry.described(registry.Choice("yunet", str(page)))
  monkeypatch.setitem(sys.modules, "cv2", None)
  with pytest.raises(extras.MissingPackageError, match="opencv-python-headl"):
    registry.described(registry.Choice("yunet", str(page)))
