"""Fold conventions beyond FaceNet's: SphereFace's, and the oracle."""

import numpy as np
import pytest

from facejax.metrics import verification

GRID = np.arange(-10_000, 10_001) / 10_000


def features(seed, pairs=120, dim=6, folds=4):
  """Pairs of features far from the origin, where the mean matters."""
  rng = np.random.default_rng(seed)
  same = rng.random(pairs) < 0.5
  left = rng.normal(size=(pairs, dim)) + 3
  other = np.where(same[:, None], left, rng.normal(size=(pairs, dim)) + 3)
  right = other + rng.normal(size=(pairs, dim))
  return left, right, same, rng.integers(0, folds, pairs)


def slow_fold(scores, same, out):
  """The public code of SphereFace: threshold on `out`, accuracy of the rest."""

  def right(threshold, pairs):
    mine, kinds = scores[pairs], same[pairs]
    return np.mean(np.where(kinds, mine > threshold, mine < threshold))

  gains = np.array([right(t, out) for t in GRID])
  threshold = GRID[gains == gains.max()].mean()
  return right(threshold, ~out), threshold


@pytest.mark.parametrize("seed", range(2))
def test_sphereface_folds_match_the_published_loop(seed):
  rng = np.random.default_rng(seed)
  same = rng.random(60) < 0.4
  # On the grid itself and between, so that strictness shows.
  scores = rng.normal(0.3 * same, 0.3).clip(-1, 1).round(seed + 1)
  fold = rng.integers(0, 3, 60)
  result = verification.ten_fold_accuracy(
    scores, same, fold, convention="sphereface"
  )
  for k in range(3):
    accuracy, threshold = slow_fold(scores, same, fold != k)
    assert result.accuracies[k] == accuracy
    assert result.thresholds[k] == pytest.approx(threshold, abs=1e-12)


def test_centred_folds_take_away_the_mean_of_the_others():
  left, right, same, fold = features(0)
  result = verification.centred_accuracy(left, right, same, fold)
  for k in range(4):
    out = fold != k
    mean = np.concatenate([left[out], right[out]]).mean(axis=0)
    a, b = left - mean, right - mean
    scores = (a * b).sum(axis=1)
    scores /= np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    accuracy, threshold = slow_fold(scores, same, out)
    assert result.accuracies[k] == accuracy
    assert result.thresholds[k] == pytest.approx(threshold, abs=1e-12)
  assert result.convention == "sphereface"


def test_the_mean_matters_and_a_shift_does_not():
  left, right, same, fold = features(1)
  centred = verification.centred_accuracy(left, right, same, fold)
  shifted = verification.centred_accuracy(left - 7, right - 7, same, fold)
  np.testing.assert_allclose(shifted.accuracies, centred.accuracies)
  exact = verification.centred_accuracy(
    left, right, same, fold, convention="exact"
  )
  assert exact.convention == "exact"
  plain = (left * right).sum(axis=1)
  plain /= np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
  raw = verification.ten_fold_accuracy(
    plain, same, fold, convention="sphereface"
  )
  assert centred.mean > raw.mean + 0.05


def test_the_oracle_must_be_asked_for_and_flatters():
  rng = np.random.default_rng(0)
  same, fold = np.arange(400) % 2 == 0, np.arange(400) // 100
  scores = rng.uniform(-1, 1, 400)  # knows nothing: no honest gain over 0.5
  with pytest.raises(ValueError, match="'oracle'.*allow_oracle=True"):
    verification.ten_fold_accuracy(scores, same, fold, convention="oracle")
  with pytest.raises(ValueError, match="only ten_fold_accuracy has it"):
    verification.centred_accuracy(
      scores[:, None], scores[:, None], same, fold, convention="oracle"
    )
  oracle = verification.ten_fold_accuracy(
    scores, same, fold, convention="oracle", allow_oracle=True
  )
  honest = verification.ten_fold_accuracy(
    scores, same, fold, convention="exact"
  )
  assert oracle.mean > max(honest.mean, 0.5)
  threshold = verification.best_threshold(scores, same)
  assert (oracle.thresholds == threshold).all()
  assert oracle.mean == verification.accuracy_at(scores, same, threshold)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"right": np.zeros((3, 2))}, r"left has shape \(4, 2\), right \(3, 2\)"),
    ({"left": np.full((4, 2), np.nan)}, "left .* not finite, in row 0"),
    ({"left": np.zeros(4)}, r"left has shape \(4,\)"),
    ({"same": [1, 1, 1, 1]}, "4 same and 0 different"),
    ({"fold": [0, 0, 0, 0]}, "all pairs are in fold 0"),
    ({"left": np.ones((4, 2)), "right": np.ones((4, 2))}, "zero vector"),
  ],
)
def test_bad_features_are_refused(change, message):
  rng = np.random.default_rng(0)
  arguments = {
    "left": rng.normal(size=(4, 2)),
    "right": rng.normal(size=(4, 2)),
    "same": [1, 0, 1, 0],
    "fold": [0, 0, 1, 1],
  } | change
  with pytest.raises(ValueError, match=message):
    verification.centred_accuracy(**arguments)


def test_sphereface_refuses_scores_that_are_no_cosines():
  with pytest.raises(ValueError, match="normalise"):
    verification.ten_fold_accuracy(
      [3, 0.1] * 2, [1, 0] * 2, [0, 0, 1, 1], convention="sphereface"
    )


@pytest.mark.parametrize("convention", ["facenet", "sphereface", "exact"])
def test_it_is_told_which_pairs_are_right(convention):
  rng = np.random.default_rng(4)
  same = rng.random(200) < 0.5
  # Distances on the very grid, which is where strictness shows.
  scores = 1 - rng.integers(0, 400, 200) * 0.01 / 2
  scores = np.where(rng.random(200) < 0.5, scores, 0.7 * same - 0.2)
  fold = rng.integers(0, 5, 200)
  found = verification.ten_fold_accuracy(
    scores, same, fold, convention=convention
  )
  for k in range(5):
    assert found.right[fold == k].mean() == found.accuracies[k]
  left, other, same, fold = features(2)
  found = verification.centred_accuracy(
    left, other, same, fold, convention=convention
  )
  for k in range(4):
    assert found.right[fold == k].mean() == found.accuracies[k]
