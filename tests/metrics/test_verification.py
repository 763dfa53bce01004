"""facejax.metrics.verification and validation against golden numbers and a slow twin."""

import numpy as np
import pytest

from facejax.metrics import validation, verification

# Forty squared L2 distances, four folds of five same and five different pairs.
# The expected numbers come from an independent program.
_DISTANCES = np.ravel(
  [
    [0.31313, 0.62313, 0.85313, 1.12313, 1.46313],
    [1.72717, 1.91717, 1.28717, 2.05717, 1.57717],
    [0.44313, 0.71313, 0.93313, 1.05313, 1.38313],
    [1.66717, 1.83717, 1.15717, 2.11717, 1.94717],
    [0.27313, 0.58313, 0.99313, 1.21313, 1.52313],
    [1.49717, 1.77717, 1.35717, 2.20717, 1.62717],
    [0.36313, 0.66313, 0.88313, 1.02313, 1.31313],
    [1.81717, 1.43717, 1.97717, 1.25717, 2.31717],
  ]
)
_SCORES = 1 - _DISTANCES / 2
_SAME = np.tile(np.repeat([True, False], 5), 4)
_FOLD = np.repeat(np.arange(4), 10)


def _tied_pairs(seed, pairs=200):
  """Random pairs whose scores take few values, so that ties abound."""
  rng = np.random.default_rng(seed)
  same = rng.random(pairs) < 0.4
  scores = np.round(rng.normal(0.3 * same, 0.3).clip(-1, 1), 1)
  return scores, same, rng.integers(0, 5, pairs)


def test_facenet_folds_match_golden():
  result = verification.ten_fold_accuracy(_SCORES, _SAME, _FOLD)
  np.testing.assert_allclose(result.accuracies, [0.8, 0.8, 0.8, 0.9])
  distances = 2 - 2 * result.thresholds
  np.testing.assert_allclose(distances, [1.06, 1.22, 1.13, 1.13], atol=1e-12)
  assert result.mean == pytest.approx(0.825)
  assert result.std == pytest.approx(0.043301270189221926)
  assert result.standard_error == pytest.approx(0.025)
  assert result.convention == "facenet"


def test_exact_folds_match_golden():
  result = verification.ten_fold_accuracy(
    _SCORES, _SAME, _FOLD, convention="exact"
  )
  np.testing.assert_allclose(
    2 - 2 * result.thresholds, [1.33515, 1.23515, 1.14015, 1.48015]
  )
  np.testing.assert_allclose(result.accuracies, 0.8)
  assert result.std == pytest.approx(0)


def test_best_threshold_and_rates_match_golden():
  threshold = verification.best_threshold(_SCORES, _SAME)
  assert verification.accuracy_at(_SCORES, _SAME, threshold) == 0.875
  rates = [verification.tar_at_far(_SCORES, _SAME, f) for f in (0.05, 0.1, 0.2)]
  assert rates == [0.8, 0.8, 0.9]
  assert verification.area_under_curve(_SCORES, _SAME) == pytest.approx(0.9525)
  assert verification.equal_error_rate(_SCORES, _SAME) == pytest.approx(0.15)


@pytest.mark.parametrize("seed", range(5))
def test_facenet_folds_match_the_published_loop(seed):
  scores, same, fold = _tied_pairs(seed)
  distances, grid = 2 - 2 * scores, np.arange(0, 4, 0.01)
  accuracies, thresholds = [], []
  for k in range(5):
    train = [
      np.mean((distances[fold != k] < t) == same[fold != k]) for t in grid
    ]
    thresholds.append(grid[np.argmax(train)])
    accepted = distances[fold == k] < thresholds[-1]
    accuracies.append(np.mean(accepted == same[fold == k]))
  result = verification.ten_fold_accuracy(scores, same, fold)
  np.testing.assert_allclose(result.accuracies, accuracies)
  np.testing.assert_allclose(2 - 2 * result.thresholds, thresholds, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_exact_folds_apply_best_threshold_of_the_others(seed):
  scores, same, fold = _tied_pairs(seed)
  result = verification.ten_fold_accuracy(
    scores, same, fold, convention="exact"
  )
  for k in range(5):
    out, mine = fold != k, fold == k
    threshold = verification.best_threshold(scores[out], same[out])
    assert result.thresholds[k] == threshold
    assert result.accuracies[k] == verification.accuracy_at(
      scores[mine], same[mine], threshold
    )


def test_folds_are_named_by_any_integers_in_any_order():
  shuffle = np.random.default_rng(0).permutation(40)
  names = np.array([7, -3, 100, 5])[_FOLD]
  expected = verification.ten_fold_accuracy(_SCORES, _SAME, names)
  result = verification.ten_fold_accuracy(
    _SCORES[shuffle], _SAME[shuffle], names[shuffle]
  )
  np.testing.assert_array_equal(result.accuracies, expected.accuracies)
  np.testing.assert_array_equal(expected.accuracies, [0.8, 0.9, 0.8, 0.8])


@pytest.mark.parametrize("seed", range(10))
def test_best_threshold_beats_every_other(seed):
  scores, same, _ = _tied_pairs(seed, pairs=30)
  best = verification.accuracy_at(
    scores, same, verification.best_threshold(scores, same)
  )
  tried = np.r_[-np.inf, scores, np.inf]
  brute = max(verification.accuracy_at(scores, same, t) for t in tried)
  assert best == brute


@pytest.mark.parametrize(
  "scores, same, expected",
  [
    ([0.9, 0.7, 0.3, 0.1], [1, 1, 0, 0], 0.5),
    ([0.8, 0.6, 0.4, 0.2], [1, 0, 1, 0], 0.3),  # two plateaus: the lower
    ([0.8, 0.6, 0.4, 0.2, 0.0], [1, 0, 1, 0, 1], 0.3),  # three: the middle
    ([0.2, 0.5, 0.6], [0, 1, 1], 0.35),
    ([0.9, 0.5, 0.1], [0, 1, 1], 0.1),  # accept all
    ([0.9, 0.5, 0.5], [0, 0, 1], np.nextafter(0.9, 1)),  # accept none
  ],
)
def test_best_threshold_of_small_sets(scores, same, expected):
  assert verification.best_threshold(scores, same) == pytest.approx(
    expected, abs=1e-15
  )


def test_best_threshold_separates_neighbouring_floats():
  low = 0.5
  high = np.nextafter(low, 1)
  threshold = verification.best_threshold([high, low], [True, False])
  assert verification.accuracy_at([high, low], [True, False], threshold) == 1


@pytest.mark.parametrize("seed", range(5))
def test_roc_counts_pairs_at_every_distinct_score(seed):
  scores, same, _ = _tied_pairs(seed)
  far, tar, thresholds = verification.roc(scores, same)
  assert thresholds[0] == np.inf
  assert far[0] == tar[0] == 0
  np.testing.assert_array_equal(thresholds[1:], np.unique(scores)[::-1])
  for f, t, threshold in zip(far, tar, thresholds, strict=True):
    assert f == np.mean(scores[~same] >= threshold)
    assert t == np.mean(scores[same] >= threshold)


@pytest.mark.parametrize("target", [0, 0.001, 0.05, 0.3, 1])
def test_tar_at_far_is_the_best_reached_rate(target):
  scores, same, _ = _tied_pairs(1)
  rates = [
    np.mean(scores[same] >= t)
    for t in np.r_[np.inf, scores]
    if np.mean(scores[~same] >= t) <= target
  ]
  assert verification.tar_at_far(scores, same, target) == max(rates)


@pytest.mark.parametrize("seed", range(5))
def test_area_is_the_mann_whitney_statistic(seed):
  scores, same, _ = _tied_pairs(seed)
  difference = scores[same][:, None] - scores[~same]
  expected = np.mean(difference > 0) + np.mean(difference == 0) / 2
  area = verification.area_under_curve(scores, same)
  assert area == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_equal_error_rate_lies_on_the_roc(seed):
  scores, same, _ = _tied_pairs(seed)
  rate = verification.equal_error_rate(scores, same)
  far, tar, _ = verification.roc(scores, same)
  assert np.interp(rate, far, tar) == pytest.approx(1 - rate)


def test_perfect_opposite_and_constant_scores():
  same = np.array([True, True, False, False])
  perfect, constant = np.array([0.9, 0.8, 0.2, 0.1]), np.zeros(4)
  assert verification.equal_error_rate(perfect, same) == 0
  assert verification.area_under_curve(perfect, same) == 1
  assert verification.tar_at_far(perfect, same, 0) == 1
  assert verification.equal_error_rate(-perfect, same) == 1
  assert verification.area_under_curve(-perfect, same) == 0
  assert verification.equal_error_rate(constant, same) == 0.5
  assert verification.area_under_curve(constant, same) == 0.5
  assert verification.tar_at_far(constant, same, 0.5) == 0


def test_float32_scores_a_little_over_one_are_cosines():
  scores = np.float32([1.0000002, 0.1] * 4)
  result = verification.ten_fold_accuracy(
    scores, [True, False] * 4, np.repeat([0, 1], 4)
  )
  assert result.mean == 1


@pytest.mark.parametrize(
  "function",
  [
    verification.best_threshold,
    verification.roc,
    verification.equal_error_rate,
    verification.area_under_curve,
    lambda scores, same: verification.tar_at_far(scores, same, 0.1),
    lambda scores, same: verification.ten_fold_accuracy(
      scores, same, np.arange(len(scores))
    ),
  ],
)
@pytest.mark.parametrize(
  "scores, same, message",
  [
    ([], [], "no pairs"),
    ([0.1, 0.2], [True], r"\(2,\), same \(1,\)"),
    ([[0.1], [0.2]], [[True], [False]], "shape"),
    ([0.1, np.nan, np.inf], [True, False, True], "2 of 3 .* nan of pair 1"),
    ([0.1, 0.2], [True, True], "2 same and 0 different"),
    ([0.1, 0.2], [False, False], "0 same and 2 different"),
    ([0.1, 0.2], [1, -1], "use true and false"),
  ],
)
def test_bad_pairs_are_refused(function, scores, same, message):
  with pytest.raises(ValueError, match=message):
    function(scores, same)


@pytest.mark.parametrize(
  "fold, message",
  [
    ([0, 1], r"fold has shape \(2,\)"),
    ([3, 3, 3, 3], "all pairs are in fold 3"),
    ([0, 0, 1, 1], "2 pairs outside of fold 0 are all of one kind"),
  ],
)
def test_bad_folds_are_refused(fold, message):
  scores, same = [0.9, 0.8, 0.2, 0.1], [True, True, False, False]
  with pytest.raises(ValueError, match=message):
    verification.ten_fold_accuracy(scores, same, fold)


def test_bad_options_are_refused():
  scores, same, fold = [0.9, 0.8, 2.0, 0.1], [1, 0, 1, 0], [0, 0, 1, 1]
  with pytest.raises(ValueError, match=r"\[0.1, 2\].*normalise"):
    verification.ten_fold_accuracy(scores, same, fold)
  with pytest.raises(ValueError, match=r"'oracle'; use .*'facenet'"):
    verification.ten_fold_accuracy(scores, same, fold, convention="oracle")  # pyright: ignore
  with pytest.raises(ValueError, match=r"far is 1.5"):
    verification.tar_at_far(scores, same, 1.5)
  with pytest.raises(ValueError, match="threshold is nan"):
    verification.accuracy_at(scores, same, np.nan)


def test_rare_false_accepts_among_two_million_pairs():
  rng = np.random.default_rng(0)
  same = rng.random(2_000_000) < 0.01
  scores = rng.normal(0.2 * same, 0.1).clip(-1, 1)
  rate = verification.tar_at_far(scores, same, 1e-6)
  impostors = np.sort(scores[~same])[::-1]
  # One impostor may pass; the next one bars the pairs that score no more.
  allowed = int(1e-6 * impostors.size)
  assert rate == np.mean(scores[same] > impostors[allowed])


@pytest.mark.parametrize(
  "distance, val, far",
  [
    (0.9, 0.5, 0.0),
    (1.0, 0.6, 0.0),
    (1.1, 0.7, 0.0),
    (1.242, 0.8, 0.05),
    (1.25, 0.8, 0.05),
    (1.5, 0.95, 0.3),
  ],
)
def test_accepts_match_golden(distance, val, far):
  accepts = validation.accepts_at(_SCORES, _SAME, distance)
  assert accepts.validation_rate == pytest.approx(val, abs=1e-15)
  assert accepts.false_accept_rate == pytest.approx(far, abs=1e-15)
  np.testing.assert_array_equal(
    accepts.true_accepts, np.flatnonzero(_SAME & (distance >= _DISTANCES))
  )
  np.testing.assert_array_equal(
    accepts.false_accepts, np.flatnonzero(~_SAME & (distance >= _DISTANCES))
  )


def test_a_pair_at_the_threshold_is_accepted():
  accepts = validation.accepts_at([0.5, 0.25], [True, False], 1.0)
  assert accepts[2:] == (1.0, 0.0)
  assert validation.accepts_at([0.5, 0.25], [1, 0], 1.5)[2:] == (1.0, 1.0)


@pytest.mark.parametrize("far", [0.0, 0.01, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_validation_takes_the_largest_threshold_of_the_others(seed, far):
  scores, same, fold = _tied_pairs(seed)
  result = validation.validation_at_far(scores, same, fold, far=far)
  for k in range(5):
    out, mine = fold != k, fold == k
    threshold = result.thresholds[k]
    chosen = validation.accepts_at(scores[out], same[out], threshold)
    assert chosen.false_accept_rate <= far
    if threshold < 4:
      above = np.nextafter(threshold, np.inf)
      larger = validation.accepts_at(scores[out], same[out], above)
      assert larger.false_accept_rate > far
    accepts = validation.accepts_at(scores[mine], same[mine], threshold)
    assert result.rates[k] == accepts.validation_rate
    assert result.false_accept_rates[k] == accepts.false_accept_rate
  rates = result.rates
  assert result.mean == pytest.approx(rates.mean())
  assert result.standard_error == pytest.approx(
    np.sqrt(((rates - rates.mean()) ** 2).sum() / 4 / 5)
  )
  assert result.far == pytest.approx(result.false_accept_rates.mean())


def test_validation_at_far_of_golden_distances():
  # Impostors outside of each fold: at 0.1, one of 15 may pass.
  result = validation.validation_at_far(_SCORES, _SAME, _FOLD, far=0.1)
  np.testing.assert_allclose(
    result.thresholds, [1.25717, 1.28717, 1.25717, 1.28717]
  )
  np.testing.assert_allclose(result.rates, [0.8, 0.8, 0.8, 0.8])
  np.testing.assert_allclose(result.false_accept_rates, [0, 0.2, 0, 0.2])
  assert result.standard_error == pytest.approx(0, abs=1e-15)


def test_a_share_that_rounds_down_is_not_lost():
  # 0.29 * 100 is 28.999999999999996, and 29 of 100 is a share of 0.29.
  scores = np.r_[np.linspace(0.9, 0.1, 100), 0.95] * np.ones((2, 1))
  same = np.tile(np.arange(101) == 100, 2)
  result = validation.validation_at_far(
    scores.ravel(), same, np.repeat([0, 1], 101), far=0.29
  )
  np.testing.assert_allclose(result.false_accept_rates, 0.29)


def test_bad_options_of_validation_are_refused():
  scores, same, fold = [0.9, 0.8, 0.2, 0.1], [1, 0, 1, 0], [0, 0, 1, 1]
  with pytest.raises(ValueError, match="far is -1"):
    validation.validation_at_far(scores, same, fold, far=-1)
  with pytest.raises(ValueError, match="distance is nan"):
    validation.accepts_at(scores, same, np.nan)
  with pytest.raises(ValueError, match="0 same and 4 different"):
    validation.accepts_at(scores, [0] * 4, 1.0)
  with pytest.raises(ValueError, match="all pairs are in fold 2"):
    validation.validation_at_far(scores, same, [2] * 4, far=0.1)
  with pytest.raises(ValueError, match="fold 7 has pairs of one kind only"):
    validation.validation_at_far(
      [*scores, 0.5], [*same, 1], [*fold, 7], far=0.1
    )
