"""Counts of pairs and the curves made of them, against slow twins."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facejax.metrics import counts, curves

near = pytest.approx
# Few values, so that ties abound; both kinds of pair, in any order.
VALUES = st.sampled_from([-1, -0.5, -0.25, 0, 0.1, 0.3, 0.5, 0.75, 1])
PAIRS = st.lists(st.tuples(VALUES, st.booleans()), min_size=2, max_size=40)
BOTH = PAIRS.filter(lambda p: len({same for _, same in p}) == 2)


def arrays(pairs):
  scores, same = zip(*pairs, strict=True)
  return np.array(scores, float), np.array(same)


@settings(max_examples=60, deadline=None)
@given(BOTH)
def test_counts_are_those_of_every_threshold(pairs):
  scores, same = arrays(pairs)
  tally = counts.count(scores, same)
  assert tally.thresholds.tolist() == np.unique(scores)[::-1].tolist()
  accepted = scores >= tally.thresholds[:, None]
  assert tally.same.tolist() == (accepted & same).sum(axis=1).tolist()
  assert tally.different.tolist() == (accepted & ~same).sum(axis=1).tolist()


@settings(max_examples=60, deadline=None)
@given(BOTH, st.integers(1, 40))
def test_shards_add_up_to_the_whole(pairs, cut):
  scores, same = arrays(pairs)
  cut = min(cut, len(scores) - 1)
  for grid in (None, counts.cosine_grid(9)):
    first = counts.count(scores[:cut], same[:cut], thresholds=grid)
    second = counts.count(scores[cut:], same[cut:], thresholds=grid)
    whole = counts.count(scores, same, thresholds=grid)
    for merged in (first + second, second + first):
      assert merged.exact is whole.exact is (grid is None)
      for name in ("thresholds", "same", "different"):
        ours, expected = getattr(merged, name), getattr(whole, name)
        np.testing.assert_array_equal(ours, expected)


@settings(max_examples=60, deadline=None)
@given(BOTH, st.sampled_from([0, 0.01, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1]))
def test_at_far_is_the_loosest_threshold_that_meets_the_target(pairs, far):
  scores, same = arrays(pairs)
  point = curves.at_far(counts.count(scores, same), far)
  accepted = scores >= point.threshold
  assert point.tar.value == accepted[same].mean()
  assert point.far.value == accepted[~same].mean() <= far
  lower = scores >= np.nextafter(point.threshold, -np.inf)
  assert lower.all() or lower[~same].mean() > far
  # A grid reaches what its own thresholds do, never more.
  grid = counts.count(scores, same, thresholds=counts.cosine_grid(7))
  coarse = curves.at_far(grid, far)
  assert coarse.far.value <= far
  assert coarse.tar.value <= point.tar.value
  assert coarse.tar.value == (scores >= coarse.threshold)[same].mean()


@settings(max_examples=40, deadline=None)
@given(BOTH)
def test_rates_are_invariant_and_mirror(pairs):
  scores, same = arrays(pairs)
  tally = counts.count(scores, same)
  shuffled = counts.count(np.exp(3 * scores[::-1]) + 1, same[::-1])
  mirrored = counts.count(-scores, ~same)
  for figure in (curves.area, curves.equal_error_rate):
    assert figure(shuffled) == near(figure(tally), abs=1e-12)
    assert figure(mirrored) == near(figure(tally), abs=1e-12)
  det = curves.detection_error_tradeoff(tally)
  assert (np.diff(det.far) >= 0).all() and (np.diff(det.frr) <= 0).all()
  assert (det.frr[0], det.far[-1]) == (1, 1)


@pytest.mark.parametrize("seed", range(3))
def test_scikit_learn_agrees(seed):
  metrics = pytest.importorskip("sklearn.metrics")
  rng = np.random.default_rng(seed)
  same = rng.random(500) < 0.3
  scores = rng.normal(same, 1).round(1)
  tally = counts.count(scores, same)
  far, tar, thresholds = metrics.roc_curve(
    same, scores, drop_intermediate=False
  )
  ours = tally.roc()
  np.testing.assert_allclose(ours.far, far)
  np.testing.assert_allclose(ours.tar, tar)
  np.testing.assert_array_equal(ours.thresholds, thresholds)
  assert curves.area(tally) == near(metrics.roc_auc_score(same, scores))


def test_thinning_keeps_exact_points_and_both_ends():
  rng = np.random.default_rng(0)
  same = rng.random(200_000) < 0.1
  scores = rng.normal(2 * same, 1)
  tally = counts.count(scores, same)
  thin = counts.thinned(tally, points=600)
  assert len(thin.thresholds) <= 600 and not thin.exact
  place = np.searchsorted(-tally.thresholds, -thin.thresholds)
  np.testing.assert_array_equal(tally.same[place], thin.same)
  np.testing.assert_array_equal(tally.different[place], thin.different)
  assert curves.area(thin) == near(curves.area(tally), abs=1e-4)
  for far in (1e-5, 1e-4, 1e-2):
    full, part = curves.at_far(tally, far), curves.at_far(thin, far)
    assert part.tar.value <= full.tar.value <= part.tar.value + 0.02
  few = counts.count([0.1, 0.2], [0, 1])
  assert counts.thinned(few) is few


def test_bootstrap_interval_covers_what_is_true():
  # Of normal scores a distance of 2 apart: EER = Φ(-1), area = Φ(√2).
  rng, hits = np.random.default_rng(1), []
  for seed in range(30):
    scores = np.r_[rng.normal(1, 1, 300), rng.normal(-1, 1, 300)]
    tally = counts.count(scores, np.arange(600) < 300)
    for figure, truth in (
      (curves.equal_error_rate, 0.1587),
      (curves.area, 0.9214),
    ):
      low, high = counts.interval(tally, figure, samples=120, seed=seed)
      assert high - low < 0.08
      hits.append(low <= truth <= high)
  assert 0.88 <= np.mean(hits) <= 1


def test_bootstrap_interval_is_a_function_of_its_seed():
  tally = counts.count(np.arange(40) % 7, np.arange(40) % 3 > 0)
  first, same, other = (
    counts.interval(tally, curves.area, samples=50, seed=seed)
    for seed in (3, 3, 4)
  )
  assert first == same != other


def test_normal_deviates_are_quantiles():
  rates = np.array([[0.0, 0.02275], [0.5, 1.0]])
  expected = [[-np.inf, -2], [0, np.inf]]
  np.testing.assert_allclose(curves.normal_deviates(rates), expected, atol=1e-4)
  with pytest.raises(ValueError, match=r"\[0, 1\]"):
    curves.normal_deviates([0.5, np.nan])


def test_one_kind_of_pair_counts_but_has_no_rates():
  one = counts.count([0.5, 0.2], [True, True])
  assert one.same.tolist() == [1, 2]
  for figure in (
    curves.area,
    curves.equal_error_rate,
    curves.detection_error_tradeoff,
    lambda tally: curves.at_far(tally, 0.1),
    lambda tally: counts.interval(tally, curves.area),
  ):
    with pytest.raises(ValueError, match="2 same and 0 different pairs"):
      figure(one)
  both = one + counts.count([0.1], [False])
  assert curves.area(both) == 1


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda c: counts.count([], []), "there are no pairs"),
    (lambda c: counts.count([0.1, np.nan], [1, 0]), "nan of pair 1"),
    (lambda c: counts.count([0.1], [1], thresholds=[0, 1]), "must fall"),
    (lambda c: counts.count([0.1], [1], thresholds=[1, 0]), "-infinity"),
    (lambda c: counts.count([0.1], [1], thresholds=[]), "-infinity"),
    (lambda c: counts.thinned(c, points=2), "points is 2; use 8"),
    (lambda c: curves.at_far(c, 2), "far is 2"),
    (lambda c: counts.interval(c, curves.area, level=1), "level is 1"),
    (
      lambda c: c + counts.count([0], [1], thresholds=counts.cosine_grid(3)),
      "one grid, as cosine_grid",
    ),
  ],
)
def test_bad_input_is_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call(counts.count([0.9, 0.1], [True, False]))


def test_ten_million_pairs_take_seconds():
  rng = np.random.default_rng(0)
  same = np.arange(10_000_000) % 100 == 0
  scores = rng.normal(0.4 * same, 0.1).clip(-1, 1)
  start = time.process_time()
  tally = counts.count(scores, same)
  point = curves.at_far(tally, 1e-6)
  error = curves.equal_error_rate(tally)
  low, high = counts.interval(tally, curves.equal_error_rate, samples=50)
  assert time.process_time() - start < 20  # about one second on an idle core
  assert low < error < high
  impostors = np.sort(scores[~same])
  assert point.far.successes == 9  # of 9.9 million, a share of 1e-6 at most
  assert point.tar.value == np.mean(scores[same] > impostors[-10])


def test_a_grid_of_two_shards_loses_next_to_nothing():
  rng = np.random.default_rng(0)
  same = np.arange(400_000) % 10 == 0
  scores = rng.normal(0.4 * same, 0.1).clip(-1, 1)
  grid, half = counts.cosine_grid(), same.size // 2
  merged = counts.count(scores[:half], same[:half], thresholds=grid)
  merged += counts.count(scores[half:], same[half:], thresholds=grid)
  tally = counts.count(scores, same)
  error = curves.equal_error_rate(tally)
  assert curves.equal_error_rate(merged) == near(error, abs=1e-4)
  for far in (1e-4, 1e-2):
    full, part = curves.at_far(tally, far), curves.at_far(merged, far)
    assert part.tar.value <= full.tar.value <= part.tar.value + 1e-3
