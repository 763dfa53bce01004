"""Rates by group against counts by hand."""

import itertools
import math

import numpy as np
import pytest

from facejax.metrics import group_rates, people_bootstrap, people_intervals


def everybody(people=12, groups=3, seed=0, chance=(0.1, 0.3)):
  """All pairs of people, two genuine ones of each, decided at random."""
  rng = np.random.default_rng(seed)
  first, second = np.array(
    [
      *itertools.combinations(range(people), 2),
      *[(p, p) for p in range(people)] * 2,
    ]
  ).T
  same = first == second
  wrong = rng.random(len(same)) < np.where(same, chance[1], chance[0])
  who = people_intervals.compared(first, second)
  group = np.arange(people) % groups
  return group_rates.Decided(same ^ wrong, same, who, group, groups)


def test_counts_are_those_by_hand():
  found = everybody()
  told = group_rates.table(found)
  matches, impostors = np.zeros((2, 3, 3), int)
  missed, genuine = np.zeros((2, 3), int)
  for k in range(len(found.same)):
    a, b = found.group[[found.who.first[k], found.who.second[k]]]
    if found.same[k]:
      genuine[a] += 1
      missed[a] += not found.accepted[k]
      continue
    for one, other in {(a, b), (b, a)}:
      impostors[one, other] += 1
      matches[one, other] += found.accepted[k]
  np.testing.assert_array_equal(told.false_matches, matches)
  np.testing.assert_array_equal(told.impostors, impostors)
  np.testing.assert_array_equal(told.false_non_matches, missed)
  np.testing.assert_array_equal(told.genuine, genuine)
  np.testing.assert_allclose(told.matrix, matches / impostors)
  np.testing.assert_allclose(told.fmr, np.diagonal(matches / impostors))
  np.testing.assert_allclose(told.fnmr, missed / genuine)


def test_people_drawn_twice_count_so():
  """As if the comparisons were listed as often."""
  found = everybody()
  often = next(people_bootstrap.multiplicities(found.who, seed=3))
  told = group_rates.table(found, often)
  again = np.repeat(np.arange(len(often)), often)
  listed = group_rates.Decided(
    found.accepted[again],
    found.same[again],
    people_intervals.Compared(
      found.who.first[again], found.who.second[again], found.who.people
    ),
    found.group,
    found.groups,
  )
  expected = group_rates.table(listed)
  np.testing.assert_array_equal(told.false_matches, expected.false_matches)
  np.testing.assert_array_equal(told.genuine, expected.genuine)


def test_measures():
  rates = [0.01, 0.02, 0.04]
  assert group_rates.worst_over_best(rates) == pytest.approx(4)
  assert group_rates.worst_over_best(rates, worst=1, best=2) == 0.5
  assert group_rates.worst_over_mean(rates) == pytest.approx(2)
  # Σ |x_i - x_j| = 2 (0.01 + 0.03 + 0.02), n = 3.
  gini = 3 / 2 * 0.12 / (2 * 9 * 0.07 / 3)
  assert group_rates.gini(rates) == pytest.approx(gini)
  assert group_rates.garbe(rates, [0.1] * 3) == pytest.approx(gini / 2)
  assert group_rates.inequity(rates, [0.1, 0.1, 0.9]) == pytest.approx(6)


def test_groups_without_an_error():
  assert group_rates.worst_over_best([0.1, 0.0]) == math.inf
  assert group_rates.worst_over_mean([0.1, 0.0]) == math.inf
  assert math.isnan(group_rates.worst_over_best([0.0, 0.0]))
  assert group_rates.gini([0.0, 0.0]) == 0
  assert group_rates.gini([0.0, 0.0, 0.3]) == pytest.approx(1)


def ratio(found, worst, best):
  """The interval of the FMR of one group over that of another."""
  again = group_rates.resampled(
    group_rates.table(found),
    group_rates.drawn(found, samples=300),
    lambda told: group_rates.worst_over_best(told.fmr, worst=worst, best=best),
  )
  assert again is not None
  return again.interval(0)


def test_groups_that_do_not_matter_look_like_chance():
  """Two made-up groups: the interval of their ratio covers 1."""
  found = everybody(people=60, groups=2, chance=(0.05, 0.2))
  told = group_rates.table(found)
  worst, best = int(np.argmax(told.fmr)), int(np.argmin(told.fmr))
  low, high = ratio(found, worst, best)
  assert low < 1 < high
  dealt = [
    group_rates.worst_over_best(o.fmr)
    for o in group_rates.dealt(found, samples=300)
  ]
  assert group_rates.worst_over_best(told.fmr) < np.quantile(dealt, 0.95)


def test_a_group_that_is_treated_worse_is_found():
  found = everybody(people=60, groups=2, chance=(0.05, 0.2))
  within = (found.group[found.who.first] == 1) & (
    found.group[found.who.second] == 1
  )
  rng = np.random.default_rng(5)
  worse = within & ~found.same & (rng.random(len(within)) < 0.2)
  found = group_rates.Decided(
    found.accepted | worse, found.same, found.who, found.group, found.groups
  )
  told = group_rates.table(found)
  low, _ = ratio(found, 1, 0)
  assert low > 1.5
  dealt = [
    group_rates.worst_over_best(o.fmr)
    for o in group_rates.dealt(found, samples=300)
  ]
  assert group_rates.worst_over_best(told.fmr) > np.quantile(dealt, 0.95)


def test_shapes_are_checked():
  found = everybody()
  with pytest.raises(ValueError, match="give one each"):
    group_rates.Decided(
      found.accepted[1:], found.same, found.who, found.group, found.groups
    )
  with pytest.raises(ValueError, match="of 12 people"):
    group_rates.Decided(
      found.accepted, found.same, found.who, found.group[1:], found.groups
    )
