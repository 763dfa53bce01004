"""Log likelihood ratios: hand-computed values, slow twins, what must hold."""

import math

import numpy as np
import pytest
from scipy import optimize

from facejax.metrics import calibration, counts, intervals

near = pytest.approx


def drawn(seed=0, same=300, different=900, gap=1.5, digits=None):
  rng = np.random.default_rng(seed)
  kinds = np.repeat([True, False], [same, different])
  scores = rng.normal(gap * kinds, 1)
  return scores if digits is None else scores.round(digits), kinds


def slow_cllr(llrs, same):
  cost = [0.0, 0.0]
  for llr, kind in zip(llrs, same, strict=True):
    sign = -1 if kind else 1
    cost[int(kind)] += math.log2(1 + math.exp(sign * llr))
  return cost[1] / sum(same) / 2 + cost[0] / (len(same) - sum(same)) / 2


def slow_pav(scores, same):
  """Blocks of equal scores, merged as long as two neighbours fall."""
  same = np.asarray(same)
  total = same.sum(), (~same).sum()
  blocks = []
  for score in np.unique(scores):
    here = same[scores == score]
    blocks.append([here.sum() / total[0], (~here).sum() / total[1], [score]])
    while len(blocks) > 1 and (
      blocks[-2][0] * (blocks[-1][0] + blocks[-1][1])
      >= blocks[-1][0] * (blocks[-2][0] + blocks[-2][1]) - 1e-15
    ):
      last = blocks.pop()
      blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
  llr = {}
  for mine, theirs, values in blocks:
    ratio = math.inf if theirs == 0 else mine / theirs
    llr |= dict.fromkeys(values, math.log(ratio) if ratio else -math.inf)
  return np.array([llr[score] for score in scores])


def test_cllr_by_hand():
  # log2(1 + 1/3) and log2(1 + 1/7): ratios of 3 and of 1/7.
  found = calibration.cllr([math.log(3), -math.log(7)], [True, False])
  assert found == near((math.log2(4 / 3) + math.log2(8 / 7)) / 2)
  assert calibration.cllr([math.inf, -math.inf], [True, False]) == 0
  assert calibration.cllr([-math.inf, 0], [True, False]) == math.inf


def test_saying_nothing_costs_one_bit():
  same = np.arange(50) % 7 == 0
  assert calibration.cllr(np.zeros(50), same) == near(1)
  assert calibration.min_cllr(np.zeros(50), same) == near(1)


@pytest.mark.parametrize("digits", [None, 1])
def test_costs_are_those_of_slow_twins(digits):
  scores, same = drawn(digits=digits)
  assert calibration.cllr(scores, same) == near(slow_cllr(scores, same))
  tally = counts.count(scores, same)
  assert calibration.cllr_of_counts(tally) == near(slow_cllr(scores, same))
  ours, theirs = calibration.pav(scores, same), slow_pav(scores, same)
  np.testing.assert_allclose(ours, theirs, atol=1e-9)
  least = calibration.min_cllr(scores, same)
  assert least == near(calibration.cllr(theirs, same))
  # Order is all that counts.
  assert calibration.min_cllr(np.exp(scores), same) == near(least)


def test_pav_of_counts_whose_draw_left_thresholds_empty():
  scores, same = drawn(digits=1)
  tally = counts.count(scores, same)
  some = np.random.default_rng(1).integers(0, 3, len(scores))
  again = counts.count(np.repeat(scores, some), np.repeat(same, some))
  wide = tally + counts.Counts(
    again.thresholds, 0 * again.same, 0 * again.different, exact=True
  )
  union = again + counts.Counts(
    tally.thresholds, 0 * tally.same, 0 * tally.different, exact=True
  )
  for one, other in ((wide, tally), (union, again)):
    assert calibration.min_cllr_of_counts(one) == near(
      calibration.min_cllr_of_counts(other)
    )


@pytest.mark.parametrize("seed", range(4))
def test_no_calibration_costs_less_than_order_alone(seed):
  scores, same = drawn(seed, gap=seed / 2)
  least = calibration.min_cllr(scores, same)
  line = calibration.logistic(scores, same)
  crossed = calibration.cross_fitted(scores, same, np.arange(len(same)) % 5)
  for llrs in (scores, line(scores), 3 * scores - 1):
    assert least <= calibration.cllr(llrs, same) + 1e-12
  assert calibration.min_cllr(crossed, same) <= calibration.cllr(crossed, same)
  # Ratios that PAV made are calibrated: again it finds nothing to do.
  pooled = calibration.pav(scores, same)
  assert calibration.cllr(pooled, same) == near(least)
  finite = np.clip(pooled, -50, 50)
  assert calibration.min_cllr(finite, same) == near(least)


@pytest.mark.parametrize("prior", [0.5, 0.01, 0.9])
def test_the_line_is_the_minimum_that_a_search_finds(prior):
  scores, same = drawn(2, same=80, different=300)
  offset = math.log(prior / (1 - prior))

  def loss(x):
    z = x[0] * scores + x[1] + offset
    return (
      prior * np.logaddexp(0, -z[same]).mean()
      + (1 - prior) * np.logaddexp(0, z[~same]).mean()
    )

  expected = optimize.minimize(loss, [1, 0], method="BFGS", tol=1e-9).x
  line = calibration.logistic(scores, same, prior=prior)
  assert tuple(line) == near(tuple(expected), abs=1e-4)
  assert loss(line) <= loss(expected) + 1e-12


def test_two_normal_distributions_have_a_known_line():
  """Means 0 and d, variance 1: LLR = d s - d² / 2."""
  scores, same = drawn(5, same=200_000, different=200_000, gap=2.0)
  line = calibration.logistic(scores, same)
  assert tuple(line) == near((2, -2), abs=0.03)


def test_the_line_moves_with_its_scores():
  scores, same = drawn(3)
  line = calibration.logistic(scores, same)
  other = calibration.logistic(1e-4 * scores + 7, same)
  assert (1e4 * line.slope, line(0)) == near((other.slope, other(7)), rel=1e-6)


def test_scores_that_do_not_overlap_have_no_line():
  for scores in ([1, 2, 3, 4], [4, 3, 2, 1], [1, 2, 2, 3], [1, 1, 1, 1]):
    with pytest.raises(ValueError, match="do not overlap"):
      calibration.logistic(scores, [False, False, True, True])
  with pytest.raises(ValueError, match="prior is 1"):
    calibration.logistic([1, 2], [True, False], prior=1)
  with pytest.raises(ValueError, match="one for each"):
    calibration.cllr([math.nan, 0], [True, False])
  with pytest.raises(ValueError, match="at least one same"):
    calibration.cllr([1, 0], [True, True])


def test_cross_fitting_uses_the_other_folds():
  scores, same = drawn(4)
  fold = np.arange(len(same)) % 3 + 5
  found = calibration.cross_fitted(scores, same, fold)
  for k in (5, 6, 7):
    line = calibration.logistic(scores[fold != k], same[fold != k])
    np.testing.assert_allclose(found[fold == k], line(scores[fold == k]))
  with pytest.raises(ValueError, match="all pairs are in fold"):
    calibration.cross_fitted(scores, same, np.zeros(len(same)))


def test_reliability_by_hand():
  """Two bins; one same pair of each four different ones at equal odds."""
  llrs = np.repeat([-2.0, 1.0], [6, 4])
  same = np.array([1, 0, 0, 0, 0, 0, 1, 0, 0, 0], bool)
  found = calibration.reliability(llrs, same, bins=2)
  np.testing.assert_array_equal(found.pairs, [6, 4])
  np.testing.assert_allclose(
    found.found, [0.5 / (0.5 + 5 / 8), 0.5 / (0.5 + 3 / 8)]
  )
  np.testing.assert_allclose(found.said, 1 / (1 + np.exp([2.0, -1.0])))
  low, high = intervals.wilson(1, 6)
  for end, ours in ((low, found.low[0]), (high, found.high[0])):
    assert ours == near(4 * end / (4 * end + 1 - end))


def test_calibrated_ratios_lie_on_the_diagonal():
  scores, same = drawn(6, same=40_000, different=60_000)
  found = calibration.reliability(
    calibration.logistic(scores, same)(scores), same, bins=12
  )
  assert len(found.said) == 12
  np.testing.assert_allclose(found.found, found.said, atol=0.02)
  assert (found.low <= found.found).all() and (found.found <= found.high).all()
  with pytest.raises(ValueError, match="bins is 0"):
    calibration.reliability(scores, same, bins=0)
