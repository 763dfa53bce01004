"""Blur, few pixels, JPEG; masks, glasses and holes: what they do to an image."""

import numpy as np
import pytest

from facejax.data.augment import occlusion, quality


def image(seed=0, size=(16, 12)):
  return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def rng(seed=0):
  return np.random.default_rng(seed)


def smooth(size=32):
  rows, columns = np.mgrid[:size, :size]
  return np.stack([4 * rows, 4 * columns, rows + columns], -1).astype(np.uint8)


@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.5, 4.0, 16.0])
def test_blur_is_a_gaussian(sigma):
  away = np.arange(-150, 151)
  weights = np.exp(-0.5 * (away / sigma) ** 2)
  weights /= weights.sum()
  face = image(size=(40, 30)).astype(float)
  for axis in (0, 1):
    inside = (np.arange(face.shape[axis])[:, None] + away).clip(
      0, face.shape[axis] - 1
    )
    face = np.moveaxis(
      np.moveaxis(face, axis, -1)[..., inside] @ weights, -1, axis
    )

  class Widest:
    def uniform(self, low, high):
      return high

    def random(self):
      return 0.0

  out = quality.random_blur(image(size=(40, 30)), Widest(), sigma=sigma)
  # Weights are multiples of 1 / 256.
  np.testing.assert_allclose(out, face, atol=4)
  assert abs(np.mean(out - face)) < 0.1


def test_no_blur_moves_a_flat_image():
  for change in (quality.random_blur, quality.random_motion_blur):
    for level in (0, 1, 127, 254, 255):
      flat = np.full((9, 11, 3), level, np.uint8)
      for seed in range(20):
        np.testing.assert_array_equal(change(flat, rng(seed)), flat)


def test_motion_blur_smears_along_a_line():
  dot = np.zeros((33, 33, 3), np.uint8)
  dot[16, 16] = 255
  tallest = widest = 0
  for seed in range(40):
    out = quality.random_motion_blur(dot, rng(seed), length=0.5)[..., 0]
    rows, columns = np.nonzero(out)
    pixels = len(rows)
    assert pixels <= 18
    assert set(out[rows, columns].tolist()) == {(255 + pixels // 2) // pixels}
    assert max(np.ptp(rows), np.ptp(columns)) < pixels
    # On a line: no pixel is half a pixel from it along one of the axes.
    points = np.stack([rows - 16, columns - 16], 1).astype(float)
    across = np.linalg.svd(points)[2][1]
    assert abs(points @ across).max() <= 0.75
    tallest = max(tallest, np.ptp(rows))
    widest = max(widest, np.ptp(columns))
  assert min(tallest, widest) > 10


def test_downscale_loses_detail_and_keeps_the_mean():
  face = image(size=(64, 64))
  draw = rng()
  spread = [quality.random_downscale(face, draw).std() for _ in range(60)]
  assert np.mean(spread) < 0.75 * face.std()
  gentle = smooth(64)[:, :, 2:]
  gentle = gentle.repeat(3, axis=2)
  for _ in range(40):
    out = quality.random_downscale(gentle, draw, side=0.5).astype(float)
    np.testing.assert_allclose(out, gentle, atol=12)


def test_downscale_goes_down_to_the_smallest_side():
  class Smallest:
    def random(self):
      return 0.0

    def uniform(self, low, high):
      return low

    def integers(self, kinds, size):
      return np.zeros(size, int)  # nearest

  out = quality.random_downscale(smooth(50), Smallest(), side=0.2)
  assert len(np.unique(out[:, 0, 0])) == len(np.unique(out[0, :, 1])) == 10


def test_jpeg_is_worse_the_lower_the_quality():
  face = smooth(48) // 2 + image(size=(48, 48)) // 4

  def error(quality_):
    out = quality.random_jpeg(face, rng(), quality=quality_)
    return np.abs(out.astype(float) - face).mean()

  assert 0 < error(95) < error(1)
  asked = []

  class Spy:
    def random(self):
      return 0.0

    def integers(self, low, high, *, endpoint):
      asked.append((low, high, endpoint))
      return high

  quality.random_jpeg(face, Spy(), quality=60)
  assert asked == [(60, 95, True)]


def test_mask_hides_the_lower_face_and_sunglasses_the_eyes():
  face = image(size=(112, 112))
  hidden = {}
  for name in ("mask", "sunglasses"):
    draw = rng()
    change = getattr(occlusion, f"random_{name}")
    outs = [change(face, draw) for _ in range(100)]
    hidden[name] = np.mean([(out != face).any(-1) for out in outs], 0)
  mouth, nose, eye, forehead = (92, 56), (80, 56), (52, 38), (20, 56)
  assert hidden["mask"][mouth] > 0.95
  assert hidden["mask"][nose] > 0.95
  assert hidden["mask"][:45].max() == 0
  assert hidden["sunglasses"][eye] > 0.95
  assert hidden["sunglasses"][52, 74] > 0.95
  assert hidden["sunglasses"][75:].max() == 0
  assert hidden["sunglasses"][forehead] == 0


def test_cutout_makes_several_holes_grey_or_of_noise():
  face, draw = np.full((40, 40, 3), 256 // 2, np.uint8), rng()
  outs = [
    occlusion.random_cutout(face, draw, count=4, size=0.3) for _ in range(300)
  ]
  holes = [(out != face).any(-1) for out in outs]
  assert max(hole.mean() for hole in holes) <= 4 * 0.3**2
  reached = np.any(holes, 0)
  assert reached[[0, 0, -1, -1], [0, -1, 0, -1]].sum() >= 2
  assert reached[1:-1, 1:-1].all()
  across, down = np.mean(holes, (0, 1)), np.mean(holes, (0, 2))
  for share in (across, down):  # as much on one side as on the other
    assert 0.8 < share[:10].mean() / share[-10:].mean() < 1.25
  colours = [len(np.unique(out.reshape(-1, 3), axis=0)) for out in outs]
  assert min(colours) <= 2 < 50 < max(colours)


def test_erase_paints_one_grey_rectangle():
  face = image(size=(32, 24))
  out = occlusion.random_erase(face, rng(3), probability=1.0)
  rows, columns = np.nonzero((out != face).any(-1))
  box = out[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
  assert (box == box[0, 0, 0]).all()
  assert 4 <= box.shape[0] <= 16
  assert 3 <= box.shape[1] <= 12
