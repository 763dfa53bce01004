"""All augmentations in one object: order, draws, limits, policies.

Frozen digests hold the images of the oldest fields, on which figures in the
README depend.
"""

import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facejax.data.augment import (
  augment,
  colour,
  geometry,
  occlusion,
  policies,
  quality,
)


def image(seed=0, size=(16, 12)):
  return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def rng(seed=0):
  return np.random.default_rng(seed)


def test_augment_is_off_by_default():
  face, draw = image(), rng()
  assert augment.Augment()(face, draw) is face
  assert draw.bytes(8) == rng().bytes(8)


FROZEN = [
  ({"flip": True}, "17c43472b4278dc3"),
  ({"shift": 3}, "451cdaf6c521c813"),
  ({"zoom": 0.2}, "b0fd0ffac269f195"),
  ({"rotate": 20.0}, "0e374bb520d010ba"),
  ({"zoom": 0.2, "rotate": 20.0, "shift": 3}, "82a791372b2cf726"),
  ({"brightness": 0.3}, "3700654b4ab40972"),
  ({"contrast": 0.5}, "8fa3ff821ef8553e"),
  ({"erase": 0.7}, "c3f5458700c8b4e0"),
  (
    {
      "flip": True,
      "shift": 2,
      "brightness": 0.2,
      "contrast": 0.2,
      "erase": 0.5,
    },
    "66236107ae0e37ef",
  ),
  (
    {
      "flip": True,
      "shift": 4,
      "zoom": 0.1,
      "rotate": 10.0,
      "brightness": 0.2,
      "contrast": 0.2,
      "erase": 0.5,
    },
    "4823c20b3747bb1a",
  ),
]


@pytest.mark.parametrize(("options", "expected"), FROZEN)
def test_the_oldest_fields_give_the_same_images_for_ever(options, expected):
  change, draw = augment.Augment(**options), rng(7)
  digest = hashlib.sha256()
  for height, width in ((112, 112), (112, 96), (17, 9)):
    rows, columns = np.mgrid[:height, :width]
    face = np.stack([2 * rows, 2 * columns, rows * columns], -1)
    for _ in range(8):
      digest.update(change(face.astype(np.uint8), draw).tobytes())
  digest.update(draw.bytes(16))  # as many draws as ever
  assert digest.hexdigest()[:16] == expected


PASSED_ON = [
  (occlusion.random_mask, "mask", {}),
  (occlusion.random_sunglasses, "sunglasses", {}),
  (geometry.random_crop, "random_crop", {"crop_area": ("area", 0.5)}),
  (geometry.random_resized_crop, "resized_crop", {"crop_area": ("area", 0.5)}),
  (
    colour.random_jitter,
    "jitter",
    {
      "jitter_light": ("light", 0.1),
      "jitter_saturation": ("saturation", 0.2),
      "jitter_hue": ("hue", 9.0),
    },
  ),
  (colour.random_grey, "grey", {}),
  (quality.random_blur, "blur", {"blur_sigma": ("sigma", 3.0)}),
  (
    quality.random_motion_blur,
    "motion_blur",
    {"motion_length": ("length", 0.4)},
  ),
  (quality.random_downscale, "downscale", {"downscale_side": ("side", 0.7)}),
  (quality.random_jpeg, "jpeg", {"jpeg_quality": ("quality", 80)}),
  (
    occlusion.random_cutout,
    "cutout",
    {"cutout_count": ("count", 9), "cutout_size": ("size", 0.2)},
  ),
  (occlusion.random_erase, "erase", {}),
]


@pytest.mark.parametrize(("function", "field", "amounts"), PASSED_ON)
def test_augment_passes_each_field_to_its_change(function, field, amounts):
  face = image(size=(40, 40))
  fields = {name: value for name, (_, value) in amounts.items()}
  change = augment.Augment(**{field: 0.8}, **fields)
  for seed in range(8):
    np.testing.assert_array_equal(
      change(face, rng(seed)),
      function(face, rng(seed), probability=0.8, **dict(amounts.values())),
    )


def test_changes_come_in_the_order_of_nature():
  face = image(size=(40, 40))
  every = augment.Augment(
    mask=1, flip=True, jitter=1, blur=1, jpeg=1, cutout=1, erase=1
  )
  draw = rng(5)
  expected = occlusion.random_mask(face, draw)
  expected = geometry.random_flip(expected, draw)
  expected = colour.random_jitter(expected, draw)
  expected = quality.random_blur(expected, draw)
  expected = quality.random_jpeg(expected, draw)
  expected = occlusion.random_cutout(expected, draw)
  expected = occlusion.random_erase(expected, draw, probability=1)
  np.testing.assert_array_equal(every(face, rng(5)), expected)


share = st.sampled_from([0.0, 0.3, 1.0])
AUGMENTS = st.builds(
  augment.Augment,
  mask=share,
  sunglasses=share,
  flip=st.booleans(),
  shift=st.integers(0, 200),
  zoom=st.sampled_from([0.0, 0.1, 30.0]),
  rotate=st.floats(0, 180),
  random_crop=share,
  resized_crop=share,
  crop_area=st.floats(0.01, 1),
  brightness=st.floats(0, 1),
  contrast=st.floats(0, 1),
  jitter=share,
  jitter_light=st.floats(0, 1),
  jitter_saturation=st.floats(0, 1),
  jitter_hue=st.floats(0, 180),
  grey=share,
  blur=share,
  blur_sigma=st.floats(0, 16),
  motion_blur=share,
  motion_length=st.floats(0, 1),
  downscale=share,
  downscale_side=st.floats(0.01, 1),
  jpeg=share,
  jpeg_quality=st.integers(1, 95),
  cutout=share,
  cutout_count=st.integers(1, 9),
  cutout_size=st.floats(0, 1),
  erase=share,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
  change=AUGMENTS,
  size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
  seed=st.integers(0, 2**32),
)
def test_any_combination_gives_an_image_and_the_same_again(change, size, seed):
  face = image(seed, size)
  before = face.tobytes()
  face.flags.writeable = False
  out = change(face, rng(seed))
  assert out.shape == face.shape
  assert out.dtype == np.uint8
  assert face.tobytes() == before
  again = pickle.loads(pickle.dumps(change))(face[:, ::-1][:, ::-1], rng(seed))
  np.testing.assert_array_equal(out, again)


def test_a_change_that_is_off_moves_no_draw_of_another():
  face = image(size=(32, 32))
  idle = {"jpeg": 0.0, "blur_sigma": 9.0, "cutout_count": 7, "jitter_hue": 9.0}
  for seed in range(10):
    np.testing.assert_array_equal(
      augment.Augment(shift=2, erase=0.5, **idle)(face, rng(seed)),
      augment.Augment(shift=2, erase=0.5)(face, rng(seed)),
    )


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"erase": 1.5}, r"augment.erase must be in \[0, 1\], got 1.5"),
    ({"shift": -1}, "augment.shift must be at least 0, got -1"),
    ({"shift": 1.5}, "augment.shift must be a whole number, got 1.5"),
    ({"zoom": float("nan")}, "augment.zoom"),
    ({"zoom": float("inf")}, "augment.zoom"),
    ({"rotate": 200.0}, r"\[0, 180\]"),
    ({"crop_area": 0.0}, r"augment.crop_area must be in \[0.01, 1\]"),
    ({"downscale_side": 0.0}, r"\[0.01, 1\]"),
    ({"jpeg_quality": 0}, r"augment.jpeg_quality must be in \[1, 95\]"),
    ({"jpeg_quality": 50.5}, "whole number"),
    ({"cutout_count": 0}, r"\[1, 100\]"),
    ({"blur_sigma": 17.0}, r"\[0, 16\]"),
    ({"jitter_hue": -1.0}, r"\[0, 180\]"),
    ({"mask": -0.1}, r"augment.mask must be in \[0, 1\], got -0.1"),
  ],
)
def test_augment_refuses_what_makes_no_sense(options, message):
  with pytest.raises(ValueError, match=message):
    augment.Augment(**options)


@pytest.mark.parametrize("name", policies.POLICIES)
def test_policies_leave_the_flip_to_its_own_field(name):
  policy = policies.combined(name, augment.Augment())
  assert policy == policies.POLICIES[name]
  assert not policy.flip
  assert policies.combined(name, augment.Augment(flip=True)).flip


def test_own_fields_win_over_a_policy():
  own = augment.Augment(downscale=1.0, mask=0.1)
  changed = policies.combined("adaface", own)
  assert (changed.downscale, changed.mask) == (1.0, 0.1)
  assert (changed.random_crop, changed.jitter) == (0.2, 0.2)
  assert policies.combined("none", own) == own
  with pytest.raises(ValueError, match="'heavy': take one of none, light"):
    policies.combined("heavy", own)
