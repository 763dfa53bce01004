"""Intervals of comparisons that share people: double sums, coverage, draws."""

import itertools
import statistics

import numpy as np
import pytest

from facejax.metrics import intervals, people_intervals

near = pytest.approx
normal = statistics.NormalDist()


def everybody(people, images):
  """Every pair of the images of some people: who and who, and the indices."""
  person = np.repeat(np.arange(people), images)
  first, second = np.triu_indices(len(person), 1)
  return person[first], person[second], first, second


def slow_sum(residuals, first, second):
  """The double sum over comparisons that share a person, term by term."""
  people = [{a, b} for a, b in zip(first, second, strict=True)]
  return sum(
    residuals[e] * residuals[f]
    for e, f in itertools.product(range(len(people)), repeat=2)
    if people[e] & people[f]
  )


@pytest.mark.parametrize("seed", range(4))
def test_variance_is_the_double_sum(seed):
  rng = np.random.default_rng(seed)
  first, second = rng.integers(0, 9, (2, 80))
  # Whoever is hard is hard in every comparison.
  hard = rng.random(9)
  values = rng.random(80) < (hard[first] + hard[second]) / 2
  weights = rng.random(80)
  weights /= weights.sum()
  who = people_intervals.compared(first, second)
  for given, used in ((None, np.full(80, 1 / 80)), (weights, weights)):
    residuals = used * (values - used @ values)
    couples = {}
    for key, residual in zip(
      map(frozenset, zip(first, second, strict=True)), residuals, strict=True
    ):
      couples[key] = couples.get(key, 0) + residual
    expected = max(
      slow_sum(residuals, first, second),
      sum(total**2 for total in couples.values()),
      (residuals**2).sum(),
    )
    found = people_intervals.variance(values, who, weights=given)
    assert found == near(expected, rel=1e-9)


def test_names_are_as_good_as_numbers():
  rng = np.random.default_rng(0)
  first, second = rng.integers(0, 6, (2, 50))
  values = rng.random(50) < 0.3
  names = np.array(["eve", "ada", "bob", "dan", "cid", "fay"])
  numbered = people_intervals.compared(first, second)
  named = people_intervals.compared(names[first], names[second])
  swapped = people_intervals.compared(second, first)
  variances = [
    people_intervals.variance(values, who) for who in (numbered, named, swapped)
  ]
  assert variances == near([variances[0]] * 3)
  mine = first != second
  part = named.of(mine)
  assert len(part) == mine.sum() and part.people <= 6
  assert (part.first != part.second).all()


def test_strangers_met_once_are_wilsons():
  values = np.arange(100) % 7 == 0
  alone = people_intervals.compared(np.arange(100), np.arange(100))
  met = people_intervals.compared(np.arange(100), np.arange(100) + 100)
  plain = intervals.wilson(int(values.sum()), 100)
  for who in (alone, met):
    assert people_intervals.wilson(values, who) == near(plain)


def test_copies_of_comparisons_tell_nothing_new():
  values = np.arange(60) % 4 == 0
  once = people_intervals.compared(np.arange(60), np.arange(60))
  thrice = people_intervals.compared(*[np.repeat(np.arange(60), 3)] * 2)
  assert people_intervals.wilson(np.repeat(values, 3), thrice) == near(
    people_intervals.wilson(values, once)
  )


def test_without_an_error_the_comparisons_count():
  who = people_intervals.compared([0] * 30, [0] * 30)
  for right in (0, 30):
    values = np.arange(30) < right
    assert people_intervals.wilson(values, who, level=0.9) == near(
      intervals.wilson(right, 30, level=0.9)
    )


def test_one_person_with_errors_tells_of_one_trial():
  who = people_intervals.compared([0] * 30, [0] * 30)
  low, high = people_intervals.wilson(np.arange(30) < 10, who)
  assert 0 < low < 1 / 3 < high < 1


def test_unequal_weights_tell_less():
  who = people_intervals.compared(np.arange(40), np.arange(40))
  values = np.arange(40) % 2 == 0
  weights = np.where(np.arange(40) < 20, 3.0, 1.0)
  weights /= weights.sum()
  even = people_intervals.wilson(values, who)
  uneven = people_intervals.wilson(values, who, weights=weights)
  assert uneven.high - uneven.low > even.high - even.low


def traits(rng, first, second, rate, spread):
  """Errors, likelier for some people: their rate is known exactly."""
  hard = rng.normal(size=max(first.max(), second.max()) + 1)
  alike = (first == second).all()
  shared = hard[first] if alike else hard[first] + hard[second]
  scale = np.sqrt(1 + (1 if alike else 2) * spread**2)
  bar = normal.inv_cdf(rate) * scale
  return rng.normal(size=len(first)) + spread * shared < bar


@pytest.mark.parametrize(
  ("kind", "rate", "least"),
  # Impostors: all pairs of 100 people; genuine ones: 12 pairs of each of 100.
  [("impostor", 0.1, 0.8), ("genuine", 0.1, 0.88), ("sparse", 0.1, 0.88)],
)
def test_coverage_of_people_who_are_shared(kind, rate, least):
  """95 % of the intervals hold the truth; fewer do that know no people."""
  rng = np.random.default_rng(0)
  if kind == "genuine":
    first = second = np.repeat(np.arange(100), 12)
  else:
    first, second = np.triu_indices(100, 1)
  if kind == "sparse":  # some of the pairs, as lists have them
    first, second = np.triu_indices(300, 1)
    some = rng.choice(len(first), 1500, replace=False)
    first, second = first[some], second[some]
  who = people_intervals.compared(first, second)
  held = np.zeros(2)
  for _ in range(1000):
    errors = traits(rng, first, second, rate, 0.5)
    knowing = people_intervals.wilson(errors, who)
    naive = intervals.wilson(int(errors.sum()), len(errors))
    held += [ends.low <= rate <= ends.high for ends in (knowing, naive)]
  assert 930 <= held[0] <= 970, held
  assert held[1] < 1000 * least, held


def test_the_published_package_says_the_same():
  cimat = pytest.importorskip("cimat", reason="the authors' own package")
  rng = np.random.default_rng(3)
  first, second, *_ = everybody(14, 4)
  hard = rng.normal(size=14)
  same = first == second
  scores = rng.normal(2.0 * same) + hard[first] + hard[second]
  table = {int(k): {} for k in range(14)}
  for a, b, score in zip(first.tolist(), second.tolist(), scores, strict=True):
    for one, other in {(a, b), (b, a)}:
      table[one].setdefault(other, []).append(float(score))
  theirs = cimat.UncertaintyEstimator(scores=table)
  for threshold in (0.5, 1.5):
    fnmr, fmr = theirs.compute_variance(threshold=threshold)
    ends = theirs.get_binerror_ci(threshold=threshold)
    who = people_intervals.compared(first, second)
    for kind, errors, spread, interval in (
      (same, scores < threshold, fnmr, ends[0]),
      (~same, scores > threshold, fmr, ends[1]),
    ):
      mine = who.of(kind)
      assert people_intervals.variance(errors[kind], mine) == near(spread)
      assert people_intervals.wilson(errors[kind], mine) == near(interval)


def test_bad_input_is_refused():
  who = people_intervals.compared([0, 1], [0, 1])
  for call, message in (
    (lambda: people_intervals.compared([], []), "one or more"),
    (lambda: people_intervals.compared([0], [0, 1]), r"second \(2,\)"),
    (lambda: people_intervals.variance([1], who), "of 2 comparisons"),
    (lambda: people_intervals.wilson([1, 0], who, weights=[1, 1]), "sum to 2"),
    (lambda: people_intervals.wilson([1, 0], who, level=95), "level is 95"),
  ):
    with pytest.raises(ValueError, match=message):
      call()
