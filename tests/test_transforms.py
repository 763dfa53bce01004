import numpy as np
import pytest

from facejax.data import transforms


def image(seed=0, size=(16, 12)):
  return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def rng(seed=0):
  return np.random.default_rng(seed)


def smooth():
  rows, columns = np.mgrid[:32, :32]
  return np.stack([4 * rows, 4 * columns, rows + columns], -1).astype(np.uint8)


def test_flip_mirrors_half_of_the_images():
  face, draw = image(), rng()
  flipped = 0
  for _ in range(400):
    out = transforms.random_flip(face, draw)
    changed = np.array_equal(out, face[:, ::-1])
    assert changed or np.array_equal(out, face)
    flipped += changed
  assert 160 < flipped < 240


def test_shift_moves_by_whole_pixels_and_repeats_the_border():
  face, draw, moves = image(), rng(), set()
  padded = np.pad(face, ((2, 2), (2, 2), (0, 0)), mode="edge")
  windows = {
    (i, j): padded[i : i + 16, j : j + 12] for i in range(5) for j in range(5)
  }
  for _ in range(300):
    out = transforms.random_shift(face, draw, pixels=2)
    moves |= {m for m, window in windows.items() if np.array_equal(out, window)}
  assert moves == set(windows)


def test_augment_is_off_by_default():
  face = image()
  assert transforms.Augment()(face, rng()) is face


@pytest.mark.parametrize(
  "options",
  [
    {"flip": True},
    {"shift": 3},
    {"zoom": 0.2},
    {"rotate": 20.0},
    {"zoom": 0.2, "rotate": 20.0, "shift": 3},
    {"brightness": 0.3},
    {"contrast": 0.5},
    {"erase": 1.0},
  ],
)
def test_augment_is_a_function_of_the_generator(options):
  augment, face = transforms.Augment(**options), image()
  face.flags.writeable = False
  outputs = [augment(face, rng(seed)) for seed in range(8)]
  for seed, out in enumerate(outputs):
    assert out.shape == face.shape
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, augment(face, rng(seed)))
  assert len({out.tobytes() for out in outputs}) > 1


def test_rotation_agrees_with_quarter_turns():
  class Fixed:
    def uniform(self, low, high, size):
      return np.array([0.0, 1.0, 0.0, 0.0])

  face = image(size=(16, 16))
  turned = transforms.Augment(rotate=90.0)(face, Fixed())
  expected = np.rot90(face, k=-1).astype(float)
  # Pillow's bilinear weights lose the last bit.
  np.testing.assert_allclose(turned.astype(float), expected, atol=1.0)


def test_zoom_and_shift_scale_about_the_centre():
  class Fixed:
    def uniform(self, low, high, size):
      return np.array([1.0, 0.0, 0.5, -0.25])

  face = smooth()
  out = transforms.Augment(zoom=1.0, shift=8)(face, Fixed()).astype(float)
  # Twice as large, 4 pixels to the right and 2 up: the result's pixel (r, c)
  # shows the row (r + 2 - 15.5) / 2 + 15.5 of the original.
  rows, columns = np.mgrid[8:24, 8:24]
  np.testing.assert_allclose(
    out[8:24, 8:24, 0], 4 * ((rows + 2 - 15.5) / 2 + 15.5), atol=1.0
  )
  np.testing.assert_allclose(
    out[8:24, 8:24, 1], 4 * ((columns - 4 - 15.5) / 2 + 15.5), atol=1.0
  )


def test_relighting_keeps_to_its_limits():
  face, draw = np.full((4, 4, 3), 100, np.uint8), rng()
  bright = transforms.Augment(brightness=0.1)
  values = [int(bright(face, draw)[0, 0, 0]) for _ in range(300)]
  assert 74 <= min(values) < 80
  assert 120 < max(values) <= 126
  strong = transforms.Augment(contrast=1.0, brightness=1.0)
  assert all(strong(image(), draw).dtype == np.uint8 for _ in range(20))


def test_erase_paints_one_grey_rectangle():
  face = image(size=(32, 24))
  out = transforms.Augment(erase=1.0)(face, rng(3))
  rows, columns = np.nonzero((out != face).any(-1))
  box = out[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
  assert (box == box[0, 0, 0]).all()
  assert 4 <= box.shape[0] <= 16
  assert 3 <= box.shape[1] <= 12
  never = transforms.Augment(erase=1e-9)
  np.testing.assert_array_equal(never(face, rng()), face)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"erase": 1.5}, r"augment.erase must be in \[0, 1\], got 1.5"),
    ({"shift": -1}, "augment.shift must be at least 0"),
    ({"shift": 1.5}, "whole pixels"),
    ({"zoom": float("nan")}, "augment.zoom"),
    ({"rotate": 200.0}, r"\[0, 180\]"),
  ],
)
def test_augment_refuses_what_makes_no_sense(options, message):
  with pytest.raises(ValueError, match=message):
    transforms.Augment(**options)
