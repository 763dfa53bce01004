"""The arithmetic of boxes against twins written plainly."""

import itertools
import math

import numpy as np
import pytest

from facejax.data.detectors import boxes


def random_boxes(rng, count):
  corner = rng.integers(0, 40, (count, 2))
  sides = rng.integers(0, 30, (count, 2))
  return np.concatenate([corner, corner + sides], 1).astype(float)


def plain_suppress(found, scores, most, within):
  def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])

  kept = []
  for place in sorted(range(len(found)), key=lambda k: (-scores[k], k)):
    a = found[place]
    good = True
    for other in kept:
      b = found[other]
      width = min(a[2], b[2]) - max(a[0], b[0])
      height = min(a[3], b[3]) - max(a[1], b[1])
      shared = max(width, 0) * max(height, 0)
      of = area(a) + area(b) - shared
      if within:
        of = min(area(a), area(b))
      good = good and shared <= most * of
    if good:
      kept.append(place)
  return kept


@pytest.mark.parametrize("within", [False, True])
def test_suppression_is_that_of_a_plain_loop(within):
  rng = np.random.default_rng(0)
  for _ in range(100):
    found = random_boxes(rng, int(rng.integers(0, 25)))
    scores = rng.integers(0, 6, len(found)) / 5  # with ties
    most = float(rng.choice([0.3, 0.5, 0.7]))
    kept = boxes.suppress(found, scores, most=most, within=within)
    assert kept.tolist() == plain_suppress(found, scores, most, within)


def test_a_box_inside_of_another_goes_only_if_asked():
  found = np.asarray([[0.0, 0.0, 100.0, 100.0], [40.0, 40.0, 60.0, 60.0]])
  scores = np.asarray([0.8, 0.9])
  kept = boxes.suppress(found, scores, most=0.7)
  assert kept.tolist() == [1, 0]
  assert boxes.suppress(found, scores, most=0.7, within=True).tolist() == [1]


def test_regression_and_squares_are_those_of_a_plain_loop():
  rng = np.random.default_rng(1)
  found, shifts = random_boxes(rng, 50), rng.normal(size=(50, 4)) / 5
  moved, squares = boxes.regress(found, shifts), boxes.square(found)
  for k, (left, top, right, bottom) in enumerate(found):
    width, height = right - left, bottom - top
    np.testing.assert_allclose(
      moved[k],
      [
        left + shifts[k, 0] * width,
        top + shifts[k, 1] * height,
        right + shifts[k, 2] * width,
        bottom + shifts[k, 3] * height,
      ],
      atol=1e-9,
    )
    side = max(width, height)
    x, y = (left + right) / 2, (top + bottom) / 2
    np.testing.assert_allclose(
      squares[k],
      [x - side / 2, y - side / 2, x + side / 2, y + side / 2],
      atol=1e-9,
    )
  assert boxes.square(np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize(
  ("height", "width"), [(250, 250), (11, 500), (20, 20), (19, 4000), (733, 41)]
)
def test_a_pyramid_goes_from_the_smallest_faces_to_the_largest(height, width):
  sizes = boxes.pyramid(height, width, window=12, smallest=20)
  if min(height, width) < 20:
    assert sizes == []
    return
  # A face of 20 pixels fills the window at the first, the image at the last.
  assert sizes[0] == (math.ceil(0.6 * height), math.ceil(0.6 * width))
  assert 12 <= min(sizes[-1]) < 12 / 0.709 + 1
  for larger, smaller in itertools.pairwise(sizes):
    for a, b in zip(larger, smaller, strict=True):
      assert 0.709 * (a - 1) <= b <= math.ceil(0.709 * a)


def test_boxes_that_can_be_cut_out():
  found = np.asarray(
    [
      [0, 0, 10, 10],
      [-5, -5, 3, 3],  # beyond the border
      [-9, 0, 0, 9],  # touches it from outside
      [100, 0, 110, 9],
      [5, 5, 5, 9],  # no width
      [5, 5, 3, 3],
      [-300, -300, 200, 200],  # far larger than the image
      [np.nan, 0, 10, 10],
      [0, 0, np.inf, 10],
    ],
    float,
  )
  good = boxes.usable(found, 50, 100)
  assert good.tolist() == [True, True] + [False] * 7
