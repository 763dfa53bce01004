"""Each augmentation: what it does to an image, and what it never does."""

import functools

import numpy as np
import pytest

from facejax.data.augment import (
  colour,
  geometry,
  occlusion,
  quality,
)

partial = functools.partial
# Each with amounts that change next to every image of noise.
CHANGES = {
  "flip": partial(geometry.random_flip, probability=0.5),
  "shift": partial(geometry.random_shift, pixels=3),
  "zoom": partial(geometry.random_warp, zoom=0.3),
  "rotate": partial(geometry.random_warp, rotate=20.0),
  "warp": partial(geometry.random_warp, zoom=0.2, rotate=20.0, shift=3),
  "crop": geometry.random_crop,
  "resized crop": geometry.random_resized_crop,
  "brightness": partial(colour.random_relight, brightness=0.3),
  "contrast": partial(colour.random_relight, contrast=0.5),
  "jitter": colour.random_jitter,
  "hue": partial(colour.random_jitter, light=0, saturation=0, hue=90.0),
  "grey": partial(colour.random_grey, probability=0.5),
  "blur": quality.random_blur,
  "motion blur": partial(quality.random_motion_blur, length=0.5),
  "downscale": quality.random_downscale,
  "jpeg": quality.random_jpeg,
  "mask": occlusion.random_mask,
  "sunglasses": occlusion.random_sunglasses,
  "cutout": occlusion.random_cutout,
  "erase": partial(occlusion.random_erase, probability=0.9),
}
# Those whose identity is another amount than a probability of 0.
STILL = {
  "shift": partial(geometry.random_shift, pixels=0),
  "warp": geometry.random_warp,
  "crop": partial(geometry.random_crop, area=1.0),
  "resized crop": partial(geometry.random_resized_crop, area=1.0),
  "relight": colour.random_relight,
  "jitter": partial(colour.random_jitter, light=0, saturation=0, hue=0),
  "blur": partial(quality.random_blur, sigma=0.0),
  "motion blur": partial(quality.random_motion_blur, length=0.0),
  "downscale": partial(quality.random_downscale, side=1.0),
  "cutout": partial(occlusion.random_cutout, size=0.0),
}
SOMETIMES = {
  name: CHANGES[name]
  for name in (
    "flip", "crop", "resized crop", "jitter", "grey", "blur", "motion blur",
    "downscale", "jpeg", "mask", "sunglasses", "cutout", "erase",
  )
}  # fmt: skip
SIZES = [(1, 1), (1, 7), (7, 1), (2, 3), (17, 9), (48, 48), (112, 96)]


def image(seed=0, size=(16, 12)):
  return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def rng(seed=0):
  return np.random.default_rng(seed)


def smooth(size=32):
  rows, columns = np.mgrid[:size, :size]
  return np.stack([4 * rows, 4 * columns, rows + columns], -1).astype(np.uint8)


def fixed(*values):
  class Fixed:
    def uniform(self, low, high, size):
      return np.array(values)

    def random(self):
      return 0.0

  return Fixed()


@pytest.mark.parametrize("name", CHANGES)
def test_each_is_a_function_of_its_generator(name):
  change, face = CHANGES[name], image(size=(48, 40))
  face.flags.writeable = False
  outputs = [change(face, rng(seed)) for seed in range(8)]
  for seed, out in enumerate(outputs):
    assert out.shape == face.shape
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, change(face, rng(seed)))
  assert len({out.tobytes() for out in outputs}) > 1


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_each_takes_any_size_and_any_strides(name, size):
  change, face = CHANGES[name], image(size=size)
  tall = np.zeros((2 * size[0], 3, size[1]), np.uint8)
  tall[::2] = face.transpose(0, 2, 1)
  views = [face[::-1, ::-1][::-1, ::-1], tall[::2].transpose(0, 2, 1)]
  for seed in range(4):
    out = change(face, rng(seed))
    assert out.shape == face.shape
    assert out.dtype == np.uint8
    for view in views:
      np.testing.assert_array_equal(change(view, rng(seed)), out)


@pytest.mark.parametrize("name", STILL)
def test_no_amount_is_no_change_and_no_draw(name):
  face, draw = image(), rng()
  assert STILL[name](face, draw) is face
  assert draw.bytes(8) == rng().bytes(8)


@pytest.mark.parametrize("name", SOMETIMES)
def test_probability_is_kept(name):
  face, draw = image(size=(24, 24)), rng(1)
  change = partial(SOMETIMES[name], probability=0.25)
  changed = sum(change(face, draw) is not face for _ in range(600))
  # Five standard deviations. A Gaussian blur of no width changes nothing.
  assert 150 - 53 < changed + 15 * (name == "blur") < 150 + 53
  draw = rng()
  assert SOMETIMES[name](face, draw, probability=0.0) is face
  assert draw.bytes(8) == rng().bytes(8)


def test_flip_mirrors():
  face = image()
  out = geometry.random_flip(face, rng(), probability=1.0)
  np.testing.assert_array_equal(out, face[:, ::-1])


def test_shift_moves_by_whole_pixels_and_repeats_the_border():
  face, draw, moves = image(), rng(), set()
  padded = np.pad(face, ((2, 2), (2, 2), (0, 0)), mode="edge")
  windows = {
    (i, j): padded[i : i + 16, j : j + 12] for i in range(5) for j in range(5)
  }
  for _ in range(300):
    out = geometry.random_shift(face, draw, pixels=2)
    moves |= {m for m, window in windows.items() if np.array_equal(out, window)}
  assert moves == set(windows)


def test_rotation_agrees_with_quarter_turns():
  face = image(size=(16, 16))
  turned = geometry.random_warp(face, fixed(0, 1, 0, 0), rotate=90.0)
  expected = np.rot90(face, k=-1).astype(float)
  # Pillow's bilinear weights lose the last bit.
  np.testing.assert_allclose(turned.astype(float), expected, atol=1.0)


def test_zoom_and_shift_scale_about_the_centre():
  draws = fixed(1.0, 0.0, 0.5, -0.25)
  out = geometry.random_warp(smooth(), draws, zoom=1.0, shift=8).astype(float)
  # Twice as large, 4 pixels to the right and 2 up: the result's pixel (r, c)
  # shows the row (r + 2 - 15.5) / 2 + 15.5 of the original.
  rows, columns = np.mgrid[8:24, 8:24]
  np.testing.assert_allclose(
    out[8:24, 8:24, 0], 4 * ((rows + 2 - 15.5) / 2 + 15.5), atol=1.0
  )
  np.testing.assert_allclose(
    out[8:24, 8:24, 1], 4 * ((columns - 4 - 15.5) / 2 + 15.5), atol=1.0
  )


def test_crop_keeps_a_rectangle_in_place():
  face, draw, shares = smooth(60) + 1, rng(), []
  for _ in range(300):
    out = geometry.random_crop(face, draw, area=0.2)
    kept = out.any(-1)
    np.testing.assert_array_equal(out[kept], face[kept])
    rows, columns = np.flatnonzero(kept.any(1)), np.flatnonzero(kept.any(0))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert kept.sum() == height * width
    assert 0.7 < width / height < 1.42  # rounded to whole pixels
    shares.append(kept.mean())
  assert 0.18 < min(shares) < 0.25
  assert max(shares) > 0.9


def test_resized_crop_shows_a_part_of_the_image():
  face, draw = smooth(), rng()
  for _ in range(50):
    out = geometry.random_resized_crop(face, draw, area=0.2).astype(int)
    # The rows still grow evenly, but by less than in the original.
    steps = np.diff(out[4:-4, 16, 0])
    assert steps.min() >= 0
    assert 0.35 * 4 < steps.mean() <= 4.1


def test_relighting_keeps_to_its_limits():
  face, draw = np.full((4, 4, 3), 100, np.uint8), rng()
  bright = partial(colour.random_relight, brightness=0.1)
  values = [int(bright(face, draw)[0, 0, 0]) for _ in range(300)]
  assert 74 <= min(values) < 80
  assert 120 < max(values) <= 126


def test_jitter_agrees_with_one_factor_after_the_other():
  face = image(size=(8, 8)) // 4 + 90  # far from the ends: nothing is cut
  out = colour.random_jitter(face, fixed(0.2, -0.4, 0.6, 0.0))
  b, c, s = 1.1, 0.8, 1.3
  luma = np.array([0.299, 0.587, 0.114])
  x = face.astype(float)
  x = s * x + (1 - s) * (x @ luma)[..., None]
  x = c * x + (1 - c) * (x @ luma).mean()
  np.testing.assert_allclose(out, b * x, atol=1.0)


def test_hue_turns_colours_and_keeps_luma_and_grey():
  turn = partial(colour.random_jitter, light=0, saturation=0, hue=180.0)
  grey = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, -1)
  np.testing.assert_array_equal(turn(grey, rng(1)), grey)
  face = image(size=(8, 8)) // 4 + 90
  luma = np.array([0.299, 0.587, 0.114])
  np.testing.assert_allclose(turn(face, rng(1)) @ luma, face @ luma, atol=1.0)
  there = turn(face, fixed(0, 0, 0, 1.0))
  assert (there != face).mean() > 0.9
  back = turn(there, fixed(0, 0, 0, 1.0)).astype(int)
  np.testing.assert_allclose(back, face, atol=3)


def test_grey_is_luma():
  out = colour.random_grey(image(), rng(), probability=1.0)
  assert (out == out[..., :1]).all()
  luma = image() @ np.array([0.299, 0.587, 0.114])
  np.testing.assert_allclose(out[..., 0], luma, atol=0.51)
