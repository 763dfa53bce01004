"""Tests of a difference: known values, false findings, and what is found."""

import math

import numpy as np
import pytest
from scipy import stats

from facejax.metrics import paired, people_intervals

near = pytest.approx


def test_mcnemar_is_an_exact_sign_test():
  rng = np.random.default_rng(0)
  for _ in range(20):
    first, second = rng.random((2, 60)) < 0.8
    found = paired.mcnemar(first, second)
    total = found.first + found.second
    assert found.first == sum(first & ~second)
    # Of all ways to split that many pairs, those as unequal or more.
    as_unequal = [
      math.comb(total, k)
      for k in range(total + 1)
      if abs(2 * k - total) >= abs(found.first - found.second)
    ]
    assert found.p_value == near(sum(as_unequal) / 2**total)
  assert paired.mcnemar([1, 0], [1, 0]) == (0, 0, 1.0)


def test_several_runs_alone_are_welchs_test():
  first, second = [0.91, 0.93, 0.92], [0.90, 0.89, 0.91, 0.90]
  found = paired.difference(first, second, variance=0.0, people=1000)
  theirs = stats.ttest_ind(first, second, equal_var=False)
  assert found.p_value == near(theirs.pvalue)
  assert found.freedom == near(theirs.df)
  ends = theirs.confidence_interval(0.95)
  assert found.interval == near((ends.low, ends.high))


def test_one_run_each_is_a_test_over_people():
  found = paired.difference([0.5], [0.4], variance=0.05**2, people=51)
  theirs = stats.t(50)
  assert found.error == near(0.05) and found.freedom == near(50)
  assert found.p_value == near(2 * theirs.sf(2))
  assert found.interval.low == near(0.1 - 0.05 * theirs.ppf(0.975))


def test_runs_of_one_side_stand_for_both():
  found = paired.difference([0.9, 0.92, 0.94], [0.9], variance=0.0, people=1000)
  assert found.error == near(0.02 * math.sqrt(1 / 3 + 1))
  assert found.freedom == near(2)


def test_no_difference_at_all():
  same = paired.difference([0.5], [0.5], variance=0.0, people=9)
  assert same.p_value == 1 and same.interval == (0, 0)
  apart = paired.difference([0.5], [0.4], variance=0.0, people=9)
  assert apart.p_value == 0


def test_holm_is_the_step_down():
  rng = np.random.default_rng(1)
  for _ in range(20):
    values = rng.random(5) ** 3
    found = paired.holm(values.tolist())
    order = np.argsort(values)
    highest = 0.0
    for rank, k in enumerate(order):
      highest = max(highest, min(1, values[k] * (5 - rank)))
      assert found[k] == near(highest)
  assert paired.holm([]) == []


def answers(rng, who, gap):
  """Two nets' right answers; people are hard for both, and for each apart."""
  hard = rng.normal(size=who.people)
  out = []
  for better in (gap, 0.0):
    own = hard + rng.normal(size=who.people)
    margin = 2 + better + 0.5 * (own[who.first] + own[who.second])
    out.append(rng.normal(size=len(who)) < margin)
  return out


def test_false_findings_are_as_rare_as_promised_and_real_ones_made():
  first, second = np.triu_indices(60, 1)
  who = people_intervals.compared(first, second)
  rng = np.random.default_rng(2)
  found = {gap: np.zeros(2) for gap in (0.0, 1.0)}
  for gap, count in found.items():
    for _ in range(300):
      a, b = answers(rng, who, gap)
      spread = people_intervals.variance(a.astype(float) - b, who)
      knowing = paired.difference(
        [a.mean()], [b.mean()], variance=spread, people=60
      )
      count += [knowing.p_value < 0.05, paired.mcnemar(a, b).p_value < 0.05]
  assert 3 <= found[0.0][0] <= 27, found  # 15 expected
  assert found[0.0][1] > 60, found  # McNemar's takes pairs as independent
  assert found[1.0][0] > 250, found


def test_runs_that_differ_by_chance_differ_in_nothing():
  """Three seeds a side, whose own errors are shared by all people."""
  rng, found = np.random.default_rng(3), 0
  for _ in range(2000):
    seeds = rng.normal(0.9, 0.01, (2, 3))
    shared = rng.normal(0, 0.002)
    seeds[0] += shared
    one = paired.difference(*seeds.tolist(), variance=0.002**2, people=500)
    found += one.p_value < 0.05
  assert 50 < found < 125  # 100 expected


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: paired.mcnemar([1, 0], [1]), r"second \(1,\)"),
    (
      lambda: paired.difference([], [1.0], variance=1.0, people=3),
      "one run or more",
    ),
    (
      lambda: paired.difference([1], [1], variance=1.0, people=3, level=95),
      "level is 95",
    ),
  ],
)
def test_bad_input_is_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call()
