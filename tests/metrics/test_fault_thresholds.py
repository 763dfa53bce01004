"""Thresholds by made faults keep what they promise, on known mixtures."""

import numpy as np
import pytest

from facejax.metrics import fault_thresholds


def mixture(seed, *, right=4500, faults=500, apart=4.0):
  rng = np.random.default_rng(seed)
  scores = np.concatenate(
    [rng.normal(0, 1, right), rng.normal(apart, 1, faults)]
  )
  return scores, np.arange(right + faults) >= right, rng.normal(apart, 1, 3000)


@pytest.mark.parametrize("precision", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("seed", range(5))
def test_precision_is_what_was_asked_for(seed, precision):
  scores, truth, made = mixture(seed)
  found = fault_thresholds.choose(scores, made, precision=precision)
  use = scores >= found.score
  # Of the least of many quotients: rather too sure than not sure enough.
  assert truth[use].mean() > precision - 0.03
  assert abs(use[truth].mean() - found.recall) < 0.06
  assert 0.08 < found.share < 0.11 and found.recall > 0.5
  assert found.precision >= precision


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_found_where_nothing_is_wrong(seed):
  scores, _, made = mixture(seed, faults=0, apart=6.0)
  found = fault_thresholds.choose(scores, made)
  assert found.score == np.inf and found.recall == 0
  assert found.told()["score"] is None and found.share < 0.01


def test_a_given_threshold_is_taken():
  scores, _, made = mixture(0)
  found = fault_thresholds.choose(scores, made, given=3.5)
  assert found.score == 3.5 and np.isnan(found.precision)
  assert abs(found.recall - (made >= 3.5).mean()) < 1e-9
  none = fault_thresholds.choose(np.empty(0), np.empty(0), given=3.5)
  assert none.score == 3.5
  assert fault_thresholds.choose(np.empty(0), made).score == np.inf


def test_equal_scores_stand_together():
  scores = np.repeat([0.0, 1.0], [90, 30])
  found = fault_thresholds.choose(scores, np.ones(50))
  assert found.score == 1.0 and found.recall == 1.0
