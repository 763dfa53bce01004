"""Qualities of images and the area under the EDC, against loops and by hand."""

import math

import numpy as np
import pytest

from facejax.metrics import quality

near = pytest.approx


def reject(rejected, frr):
  zeros = np.zeros(len(rejected))
  return quality.Reject(np.array(rejected), np.array(frr), zeros, zeros)


def test_area_by_hand():
  level = reject([0, 0.1, 0.2, 0.4], [0.2] * 4)
  assert quality.area(level) == near(0.2)
  falling = reject([0, 0.3, 0.6], [0.3, 0.0, 0.0])
  assert quality.area(falling) == near(0.15)
  # The end of the range lies between two points.
  assert quality.area(falling, until=0.15) == near((0.3 + 0.15) / 2)
  assert quality.area(falling, until=0.6) == near(0.075)
  with pytest.raises(ValueError, match="ends where 0.6 are set aside"):
    quality.area(falling, until=0.7)
  with pytest.raises(ValueError, match="until is 0"):
    quality.area(falling, until=0)


def test_area_is_that_of_a_fine_sum():
  rng = np.random.default_rng(0)
  rejected = np.r_[0, np.sort(rng.uniform(0, 1, 20))]
  frr = rng.uniform(0, 1, 21)
  places = (np.arange(200_000) + 0.5) / 200_000 * 0.3
  expected = np.interp(places, rejected, frr).mean()
  assert quality.area(reject(rejected, frr)) == near(expected, abs=1e-4)


def test_a_quality_that_knows_has_less_area_than_one_that_does_not():
  rng = np.random.default_rng(1)
  same = np.tile([True, False], 2000)
  clear = rng.uniform(0, 1, 4000)
  scores = np.where(same, clear, 0) + rng.normal(0, 0.1, 4000)
  areas = []
  for worth in (clear, rng.permutation(clear), -clear):
    curve = quality.error_versus_reject(scores, same, worth, far=0.01)
    areas.append(quality.area(curve))
  first = curve.frr[0]
  assert areas[0] < areas[1] < areas[2]
  assert areas[1] == near(first, abs=0.03)


def test_a_threshold_may_be_given():
  rng = np.random.default_rng(2)
  same, worth = np.tile([True, False], 50), rng.uniform(size=100)
  scores = rng.normal(same)
  curve = quality.error_versus_reject(scores, same, worth, threshold=0.5)
  assert (curve.thresholds == 0.5).all()
  assert curve.frr[0] == near(np.mean(scores[same] < 0.5))


def test_dropout_agreement_is_that_of_a_loop():
  draws = np.random.default_rng(3).normal(size=(4, 7, 5))
  expected = []
  for image in draws:
    distances = []
    for i in range(7):
      for j in range(i):
        a, b = (image[k] / math.hypot(*image[k]) for k in (i, j))
        distances.append(math.dist(a, b))
    mean = sum(distances) / len(distances)
    expected.append(2 / (1 + math.exp(mean)))
  np.testing.assert_allclose(quality.dropout_agreement(draws), expected)
  # Lengths do not count, and draws that agree make the best there is.
  scaled = draws * np.arange(1, 8)[:, None]
  np.testing.assert_allclose(quality.dropout_agreement(scaled), expected)
  same = np.repeat(draws[:, :1], 3, axis=1)
  np.testing.assert_allclose(quality.dropout_agreement(same), 1, atol=1e-7)
  opposite = np.stack([draws[0, 0], -draws[0, 0]])[None]
  assert quality.dropout_agreement(opposite)[0] == near(2 / (1 + math.e**2))
  for wrong in (draws[:, :1], draws[0]):
    with pytest.raises(ValueError, match="two draws or more"):
      quality.dropout_agreement(wrong)


def test_certainty_ratio():
  found = quality.certainty_ratio([0.5, 0.5, -0.2], [0.0, 0.5, 0.6])
  np.testing.assert_allclose(found, [0.5, 1 / 3, -0.125], atol=1e-8)
  # Far from every other class it grows, and stays finite.
  assert np.isfinite(quality.certainty_ratio([1.0], [-1.0])).all()
  with pytest.raises(ValueError, match="must be cosines"):
    quality.certainty_ratio([1.5], [0.0])
  with pytest.raises(ValueError, match="target has shape"):
    quality.certainty_ratio([0.5], [0.0, 0.1])
