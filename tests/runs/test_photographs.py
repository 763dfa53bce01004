"""Photographs become the faces that a net wants; doubts are said."""

import io

import numpy as np
import pytest
from PIL import Image

from facejax.data import align, image_sets, images
from facejax.data.detectors import contract, registry
from facejax.runs import photographs
from facejax.runs.card import Card
from facejax.runtime import extras

CARD = Card("iresnet18", 8, (112, 112))
CHIPS = Card("dlib_resnet29", 8, (150, 150), template="dlib")


def scene(size=(200, 260), seed=0):
  y, x = np.indices(size)
  noise = np.random.default_rng(seed).integers(0, 30, size)
  return np.stack([x % 256, y % 256, noise], axis=-1).astype(np.uint8)


def png(image):
  file = io.BytesIO()
  Image.fromarray(image).save(file, "PNG")
  return file.getvalue()


def points_at(x, y, *, scale=0.7):
  return align.template() * scale + np.asarray([x, y])


@pytest.fixture
def find(monkeypatch):
  """Sets what the detector finds."""
  found = []

  def detect(image):
    points = np.asarray(found, float).reshape(-1, 5, 2)
    return contract.checked(points)

  monkeypatch.setattr(registry, "load", lambda choice: detect)
  return found.append


@pytest.mark.parametrize("card", [CARD, CHIPS])
def test_a_photograph_is_aligned(find, card):
  image, points = scene(), points_at(90, 40)
  find(points)
  face = photographs.Photographer(card).of_data(png(image), "a.png")
  expected = align.align(
    image, points, image_size=card.image_size, kind=card.template
  )
  np.testing.assert_array_equal(face.pixels, expected)
  assert (face.faces, face.note, face.certain) == (1, "", True)


def test_nets_of_other_shapes_get_theirs(find):
  find(points_at(90, 40))
  tall = Card("sphereface20", 8, (112, 96))
  face = photographs.Photographer(tall).of_data(png(scene()), "a.png")
  assert face.pixels.shape == (112, 96, 3)
  # The middle of a face, which is cut out of it later.
  middle = Card("iresnet18", 8, (112, 112), crop=0.8)
  face = photographs.Photographer(middle).of_data(png(scene()), "a.png")
  assert face.pixels.shape == (224, 224, 3)


@pytest.mark.parametrize("side", [112, 56, 224])
def test_an_aligned_face_stays_as_it_is(find, side):
  image = scene((side, side))
  find(align.template((side, side)) + 0.04 * side)
  face = photographs.Photographer(CARD).of_data(png(image), "a.png")
  np.testing.assert_array_equal(face.pixels, image)
  # For another template it is a photograph.
  face = photographs.Photographer(CHIPS).of_data(png(image), "a.png")
  assert face.pixels.shape == (150, 150, 3)


def test_of_several_faces_the_main_one_counts(find):
  image = scene()
  find(points_at(90, 40))
  find(points_at(0, 0, scale=0.2))
  face = photographs.Photographer(CARD).of_data(png(image), "a.png")
  np.testing.assert_array_equal(
    face.pixels, align.align(image, points_at(90, 40))
  )
  assert "a.png: 2 faces" in face.note and face.certain


def test_no_face(find):
  image = scene()
  face = photographs.Photographer(CARD).of_data(png(image), "a.png")
  np.testing.assert_array_equal(face.pixels, image)
  assert "no face was found" in face.note and not face.certain
  must = photographs.Photographer(CARD, "on")
  with pytest.raises(images.BadImageError, match=r"a\.png.*no face"):
    must.of_data(png(image), "a.png")


def test_off_looks_at_nothing(find):
  find(points_at(90, 40))
  face = photographs.Photographer(CARD, "off").of_data(png(scene()), "a.png")
  np.testing.assert_array_equal(face.pixels, scene())
  assert face.faces is None and face.certain


def test_without_a_detector_they_are_taken_for_faces(monkeypatch):
  def missing(choice):
    raise extras.MissingPackageError("pip install 'facejax[detect]'")

  monkeypatch.setattr(registry, "load", missing)
  photographer = photographs.Photographer(CARD)
  assert "facejax[detect]" in photographer.note
  face = photographer.of_data(png(scene()), "a.png")
  np.testing.assert_array_equal(face.pixels, scene())
  assert photographs.Photographer(CARD, "off").note == ""
  with pytest.raises(extras.MissingPackageError):
    photographs.Photographer(CARD, "on")


def test_a_set_of_photographs(find, tmp_path):
  find(points_at(90, 40))
  find(points_at(0, 0, scale=0.2))
  for person in ("ada", "bob"):
    (tmp_path / person).mkdir()
    (tmp_path / person / "1.png").write_bytes(png(scene(seed=len(person))))
  files, told = image_sets.open_set(tmp_path), []
  faces = photographs.AlignedSet(
    files, photographs.Photographer(CARD), told.append
  )
  assert len(faces) == 2 and faces.name(1) == files.name(1)
  assert list(faces.class_names) == ["ada", "bob"]
  found = images.decode(faces.encoded(1), name="face")
  expected = align.align(scene(seed=3), points_at(90, 40))
  np.testing.assert_array_equal(found, expected)
  assert len(told) == 1 and "bob" in told[0] and "2 faces" in told[0]
