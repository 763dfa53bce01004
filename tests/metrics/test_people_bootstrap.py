"""A bootstrap of people: draws written out, and how wide its intervals are."""

import itertools

import numpy as np
import pytest

from facejax.metrics import (
  counts,
  curves,
  people_bootstrap,
  people_intervals,
)

near = pytest.approx


def first_of(draws, count):
  return np.array(list(itertools.islice(draws, count)))


def everybody(people, images):
  """Every pair of the images of some people: who and who, and the indices."""
  person = np.repeat(np.arange(people), images)
  first, second = np.triu_indices(len(person), 1)
  return person[first], person[second], first, second


def test_each_comparison_counts_the_product_of_its_two_people():
  who = people_intervals.compared([0, 0, 1, 2, 2], [0, 1, 2, 2, 0])
  drawn = first_of(people_bootstrap.multiplicities(who), 400)
  a, c = drawn[:, 0], drawn[:, 3]
  b = 3 - a - c  # as many people as there are
  assert (b >= 0).all()
  np.testing.assert_array_equal(drawn[:, 1], a * b)
  np.testing.assert_array_equal(drawn[:, 2], b * c)
  np.testing.assert_array_equal(drawn[:, 4], c * a)
  assert a.mean() == near(1, abs=0.15)
  again = first_of(people_bootstrap.multiplicities(who), 400)
  np.testing.assert_array_equal(drawn, again)


def test_drawn_people_are_counted_as_repeated_pairs():
  """The figures of a draw are those of its pairs written out."""
  first, second, *_ = everybody(12, 3)
  rng = np.random.default_rng(1)
  same = first == second
  scores = rng.normal(same, 1).round(1)  # with ties
  who = people_intervals.compared(first, second)

  def tar(accepted):
    return curves.at_far(accepted, 0.1).tar.value

  found = people_bootstrap.bootstrap(
    scores, same, who, [curves.area, curves.equal_error_rate, tar], samples=5
  )
  assert found.people.shape == found.couples.shape == (3, 5)

  def expected(often):
    tally = counts.count(np.repeat(scores, often), np.repeat(same, often))
    return curves.area(tally), curves.equal_error_rate(tally), tar(tally)

  assert found.values == near(expected(1))
  for values, draws in (
    (found.people, people_bootstrap.multiplicities),
    (found.couples, people_bootstrap.couples),
  ):
    for k, often in enumerate(first_of(draws(who), 5)):
      assert values[:, k] == near(expected(often))


def test_couples_are_drawn_whole():
  who = people_intervals.compared([0, 1, 0, 2, 2, 1], [1, 0, 2, 0, 2, 2])
  drawn = first_of(people_bootstrap.couples(who), 300)
  np.testing.assert_array_equal(drawn[:, 0], drawn[:, 1])
  np.testing.assert_array_equal(drawn[:, 2], drawn[:, 3])
  assert (drawn[:, 4] == 1).all()
  assert (drawn[:, 0] + drawn[:, 2] + drawn[:, 5] == 3).all()


@pytest.mark.parametrize("sparse", [False, True])
def test_the_bootstrap_spreads_as_the_double_sum_says(sparse):
  """Where everybody is met, and where hardly anybody is met twice."""
  rng = np.random.default_rng(2)
  first, second, *_ = everybody(80, 2)
  if sparse:
    first, second = np.triu_indices(900, 1)
    some = rng.choice(len(first), 1500, replace=False)
    first, second = first[some], second[some]
    first, second = np.r_[first, :900], np.r_[second, :900]
  same = first == second
  who = people_intervals.compared(first, second)
  hard = rng.normal(size=who.people)
  scores = rng.normal(same, 1) + 0.5 * (hard[first] + hard[second])

  def far(accepted):
    # At a given threshold, 1.
    passed = np.searchsorted(-accepted.thresholds, -1.0, side="right")
    return accepted.different[passed - 1] / accepted.different[-1]

  drawn = people_bootstrap.bootstrap(scores, same, who, [far], samples=600)
  errors = scores[~same] >= 1
  expected = people_intervals.variance(errors, who.of(~same)) ** 0.5
  (found,) = drawn.variance() ** 0.5
  assert found == near(expected, rel=0.15)
  low, high = drawn.interval(0)
  assert low < drawn.values[0] == errors.mean() < high
  assert high - low == near(2 * 1.96 * found, rel=0.15)
  if sparse:  # what the product of two numbers adds
    assert drawn.people.std() > 1.3 * expected
  else:
    naive = np.sqrt(errors.mean() * (1 - errors.mean()) / len(errors))
    assert found > 3 * naive


def test_nets_on_the_same_draws_are_subtracted_draw_by_draw():
  first, second, *_ = everybody(30, 3)
  rng = np.random.default_rng(4)
  same, who = first == second, people_intervals.compared(first, second)
  common = rng.normal(2.0 * same)
  nets = [common + rng.normal(size=len(same)) / 10 for _ in range(2)]
  one, other = (
    people_bootstrap.bootstrap(net, same, who, [curves.area], samples=100)
    for net in nets
  )
  apart = one - other
  assert apart.values == near(one.values - other.values)
  assert apart.variance() < one.variance() / 10
  both = people_bootstrap.mean([one, other])
  assert both.values == near((one.values + other.values) / 2)
  none = one - one
  assert none.variance() == 0 and none.interval(0) == (0, 0)


def test_two_people_are_enough_to_draw():
  who = people_intervals.compared([0, 0], [0, 1])
  drawn = people_bootstrap.bootstrap(
    [0.9, 0.1], [True, False], who, [curves.area], samples=20
  )
  assert (drawn.people == 1).all() and drawn.interval(0) == (1, 1)


def test_bad_input_is_refused():
  who = people_intervals.compared([0, 0, 1], [0, 1, 1])
  call = people_bootstrap.bootstrap
  with pytest.raises(ValueError, match="of 3 comparisons"):
    call([0.5, 0.1], [True, False], who, [curves.area])
  with pytest.raises(ValueError, match="samples is 0"):
    call([1, 0, 1], [True, False, True], who, [curves.area], samples=0)
