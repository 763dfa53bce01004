"""Rates by the names of ISO/IEC 19795, their intervals, and the rule of 30."""

import collections
import math

import numpy as np
import pytest

from facejax.data.aligning import enrolment
from facejax.evaluation import error_rates, pair_figures
from facejax.metrics import (
  counts,
  curves,
  gallery,
  identification,
  intervals,
  people_intervals,
)

near = pytest.approx


def scored(people=60, images=4, seed=0):
  """All pairs of the images of people, some of whom are hard."""
  rng = np.random.default_rng(seed)
  person = np.repeat(np.arange(people), images)
  first, second = (person[side] for side in np.triu_indices(len(person), 1))
  same = first == second
  hard = rng.normal(size=people)
  noise = rng.normal(size=len(same)) + 0.7 * (hard[first] + hard[second])
  scores = np.tanh((3 * same + noise) / 4)
  return scores, same, people_intervals.compared(first, second)


def rates(scores, same, who, **more):
  tally = counts.count(scores, same)
  found = pair_figures.rates(tally, scores, same, who, samples=60, **more)
  return tally, {quantity.key: quantity for quantity in found}


def test_fnmr_is_what_tar_leaves():
  scores, same, who = scored()
  tally, found = rates(scores, same, who)
  impostors = int((~same).sum())
  assert 1e-3 * impostors < 30 < 1e-2 * impostors
  one = found["fnmr_at_fmr_1e-2"]
  point = curves.at_far(tally, 0.01)
  assert one.value == near(1 - point.tar.value)
  assert one.value == np.mean(scores[same] < point.threshold)
  assert "ISO/IEC 19795" in one.convention
  assert "bootstrap of people, the threshold chosen anew" in one.convention
  tar = found["tar_at_far_1e-2"]
  assert (one.low, one.high) == near((1 - tar.high, 1 - tar.low))
  assert "people" in tar.convention and "rule of 30" not in tar.convention
  assert "rule of 30" in found["tar_at_far_1e-3"].convention


def test_single_precision_loses_no_tie():
  """A genuine pair that scores as the barred impostor does is no match."""
  scores = np.float32([0.8, 0.7, 0.6, 0.7, 0.5, 0.4] * 10)
  same = np.array([True, True, True, False, False, False] * 10)
  _, found = rates(scores, same, None)
  assert found["tar_at_far_1e-1"].value == 1 / 3


def test_too_few_pairs_are_told_instead_of_a_number():
  scores, same, who = scored()
  _, found = rates(scores, same, who)
  impostors = int((~same).sum())
  for name, words in (
    ("1e-3", f"{1e-3 * impostors:.3g} errors are expected, 30 are the least"),
    ("1e-6", f"no FMR below 1 / n = {1 / impostors:.2g}"),
  ):
    one = found[f"fnmr_at_fmr_{name}"]
    assert math.isnan(one.value) and one.text() == "-"
    assert one.low is None and one.interval() == ""
    assert words in one.convention and f"{impostors:,}" in one.convention


def test_thirty_expected_errors_are_enough():
  for trials in (3000, 30_000, 3_000_000):
    rate = 30 / trials
    for told in (rate, float(f"{rate:.0e}")):
      assert error_rates.too_few(told, trials, name="FMR", what="x") is None
    assert error_rates.too_few(rate, trials - 1, name="FMR", what="x")
  assert list(error_rates.resolved(300_000)) == ["1e-2", "1e-3", "1e-4"]


def test_people_widen_every_interval():
  scores, same, who = scored()
  _, knowing = rates(scores, same, who)
  _, naive = rates(scores, same, None)
  assert list(knowing) == list(naive)
  for key, one in naive.items():
    if one.low is None:
      continue
    other = knowing[key]
    assert other.value == one.value
    assert "independent" in one.convention, key
    assert "people" in other.convention, key
    assert "independent" not in other.convention, key
    if key in ("equal_error_rate", "area_under_curve", "tar_at_far_1e-2"):
      assert other.high - other.low > 1.2 * (one.high - one.low), key


def test_a_share_has_its_counts_and_its_interval():
  values = np.arange(40) % 4 == 0
  one = error_rates.of_share("a", "A", values, None, convention="so")
  assert (one.low, one.high) == intervals.wilson(10, 40)
  assert one.convention.startswith("so; ")
  assert one.convention.endswith(" 10 of 40.")
  who = people_intervals.compared(np.arange(40) // 4, np.arange(40) // 4)
  one = error_rates.of_share("a", "A", values, who, convention="so")
  assert (one.low, one.high) == people_intervals.wilson(values, who)


def test_two_people_are_enough():
  who = people_intervals.compared([0, 0, 0, 0], [0, 1, 1, 0])
  scores, same = np.array([0.9, 0.1, 0.3, 0.2]), who.first == who.second
  _, found = rates(scores, same, who)
  assert found["equal_error_rate"].low is not None


def test_failure_to_enrol_is_a_rate(tmp_path):
  assert error_rates.failure_to_enrol("") == []
  assert error_rates.failure_to_enrol(str(tmp_path)) == []
  counts = collections.Counter(
    {"aligned": 90, "already there": 7, "photo without a face": 3}
  )
  # No photo is nobody's failure.
  enrolment.finish(tmp_path, counts + collections.Counter({"no such image": 5}))
  (one,) = error_rates.failure_to_enrol(str(tmp_path))
  assert one.value == 0.03
  assert (one.low, one.high) == intervals.wilson(3, 100)
  assert "3 of 100" in one.convention and "no face was found" in one.convention
  enrolment.begin(tmp_path)
  assert error_rates.failure_to_enrol(str(tmp_path)) == []
  (tmp_path / enrolment.NAME).write_text('{"aligned": "many"}')
  with pytest.raises(ValueError, match="is damaged"):
    error_rates.failure_to_enrol(str(tmp_path))


def test_fnir_is_what_tpir_leaves():
  rng = np.random.default_rng(3)
  people = np.repeat(np.arange(60), 12)
  scores = rng.normal(size=(720, 60)) / 4
  scores[np.arange(720), people] += 1
  found = [
    gallery.search_scores(scores[:, half], people, np.arange(60)[half])
    for half in (slice(0, 30), slice(30, 60))
  ]
  first, second, third, fourth = error_rates.fnir(found, people, also=(0.2,))
  assert first.key == "fnir_at_fpir_0.003" and math.isnan(first.value)
  assert "1.08 errors are expected" in first.convention
  assert second.key == "fnir_at_fpir_0.01" and "rule of 30" in second.convention
  for one, fpir in ((third, 0.1), (fourth, 0.2)):
    value, ends = identification.tpir_of_galleries(found, fpir, people=people)
    assert one.key == f"fnir_at_fpir_{fpir}"
    assert one.value == near(1 - value)
    assert (one.low, one.high) == near((1 - ends.high, 1 - ends.low))
    assert "360 probes of strangers" in one.convention
