"""Confidence intervals: known values, coverage and edges."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facejax.metrics import intervals

near = pytest.approx


@pytest.mark.parametrize(
  "successes, trials, low, high",
  [
    # Newcombe 1998, two-sided intervals for the single proportion, Table I.
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
  ],
)
def test_wilson_matches_published_values(successes, trials, low, high):
  interval = intervals.wilson(successes, trials)
  assert interval == near((low, high), abs=5e-5)


@given(st.integers(0, 500), st.integers(1, 500), st.floats(0.01, 0.999))
def test_wilson_solves_its_equation(successes, trials, level):
  successes = min(successes, trials)
  low, high = intervals.wilson(successes, trials, level=level)
  p = successes / trials
  assert 0 <= low <= p <= high <= 1
  mirrored = intervals.wilson(trials - successes, trials, level=level)
  assert mirrored == near((1 - high, 1 - low), abs=1e-12)
  # (end - p)² = z² end (1 - end) / n, with z of this very level.
  spread = [abs(end - p) for end in (low, high) if 0 < end < 1]
  variance = [e * (1 - e) / trials for e in (low, high) if 0 < e < 1]
  for distance, var in zip(spread, variance, strict=True):
    share = math.erf(distance / math.sqrt(2 * var))
    assert share == near(level, abs=1e-6)


def test_wilson_covers_what_is_true():
  # The chance of each count, exactly: coverage swings about 95 % with the rate.
  ends = np.array([intervals.wilson(k, 200) for k in range(201)])
  coverage = []
  for truth in np.linspace(0.01, 0.99, 197):
    chance = [
      math.comb(200, k) * truth**k * (1 - truth) ** (200 - k)
      for k in range(201)
    ]
    covered = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    coverage.append(np.dot(chance, covered))
  assert 0.945 < np.mean(coverage) < 0.955
  assert min(coverage) > 0.9


def test_rates_add_their_counts():
  total = intervals.Rate(3, 4) + intervals.Rate(1, 6)
  assert (total.successes, total.trials, total.value) == (4, 10, 0.4)
  assert total.interval(level=0.9) == intervals.wilson(4, 10, level=0.9)


def test_average_of_one_and_of_equal_rates():
  one = intervals.Rate(90, 100)
  assert intervals.average([one]) == (0.9, near(one.interval()))
  mean, interval = intervals.average([one] * 4)
  low, high = one.interval()
  assert mean == near(0.9)
  assert interval == near((0.9 - (0.9 - low) / 2, 0.9 + (high - 0.9) / 2))


def test_bootstrap_of_a_mean_is_its_standard_error():
  x = np.random.default_rng(0).normal(5, 2, 400)
  low, high = intervals.bootstrap(lambda i: x[i].mean(), 400, samples=4000)
  error = x.std() / 20
  assert (low, high) == near(
    (x.mean() - 1.96 * error, x.mean() + 1.96 * error), abs=0.02
  )


def test_strata_keep_their_sizes_and_groups_stay_whole():
  labels, seen = np.array(["b", "a", "b", "b", "a"]), set()

  def statistic(index):
    assert np.sum(labels[index] == "a") == 2
    seen.update(index.tolist())
    return 0.0

  intervals.bootstrap(statistic, 5, strata=labels, samples=50)
  assert seen == set(range(5))

  def whole(index):
    for mine in ([1, 4], [0, 2, 3]):
      assert len({np.sum(index == i) for i in mine}) == 1
    return len(index)

  ends = intervals.bootstrap(whole, 5, groups=labels, samples=200)
  assert ends == (4, 6)


def test_groups_widen_the_interval_of_repeated_data():
  x = np.repeat(np.random.default_rng(0).normal(size=30), 20)
  alone = intervals.bootstrap(lambda i: x[i].mean(), 600, samples=300)
  whole = intervals.bootstrap(
    lambda i: x[i].mean(), 600, groups=np.arange(600) // 20, samples=300
  )
  assert whole.high - whole.low > 3 * (alone.high - alone.low)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: intervals.wilson(1, 0), "1 successes of 0 trials"),
    (lambda: intervals.wilson(3, 2), "3 successes of 2"),
    (lambda: intervals.wilson(1, 2, level=95), "level is 95"),
    (lambda: intervals.Rate(0, 0), "at least one trial"),
    (lambda: intervals.Rate(-1, 2), "-1 of 2 trials"),
    (lambda: intervals.average([]), "no rates"),
    (lambda: intervals.bootstrap(len, 0), "size 0"),
    (lambda: intervals.bootstrap(len, 2, strata=[0]), r"strata .* \(2,\)"),
    (
      lambda: intervals.bootstrap(len, 1, strata=[0], groups=[0]),
      "exclude each other",
    ),
  ],
)
def test_bad_input_is_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call()
