"""Thresholds that are kept, ratios and transfer: against brute force."""

import argparse
import math

import numpy as np
import pytest

from facejax.data.pairs import pairs as pair_sets
from facejax.evaluation import (
  calibrated,
  error_rates,
  kept,
  pair_people,
  transfer,
  verification,
)
from facejax.metrics import calibration
from facejax.metrics import verification as metrics
from facejax.runs import card

near = pytest.approx
PEOPLE, IMAGES = 40, 4


class Faces:
  """Numbers in place of images, of people or of nobody known."""

  num_classes = PEOPLE
  class_names = tuple(f"p{k}" for k in range(PEOPLE))

  def __init__(self, known=True):
    self.labels = np.repeat(np.arange(PEOPLE), IMAGES).astype(np.int32)
    if not known:
      self.labels = np.full_like(self.labels, -1)

  def name(self, index):
    return str(index)


def verified(
  seed=0, known=True, threshold=None, gap=2.0, name="mine", hard=0.5
):
  """All pairs of the images, some of whose people are hard, in five folds."""
  rng = np.random.default_rng(seed)
  person = np.repeat(np.arange(PEOPLE), IMAGES)
  first, second = np.triu_indices(len(person), 1)
  same = person[first] == person[second]
  pairs = pair_sets.PairSet(
    name, Faces(known), first, second, same, np.arange(len(same)) % 5
  )
  of_people = hard * rng.normal(size=PEOPLE)
  # Who is hard is like strangers, and unlike himself.
  noise = of_people[person[first]] + of_people[person[second]]
  noise *= np.where(same, -1, 1)
  scores = np.tanh((gap * same + rng.normal(size=len(same)) + noise) / 4)
  return verification.of_scores(pairs, scores, threshold), pairs


@pytest.mark.parametrize("known", [True, False])
def test_a_threshold_at_an_fmr(known):
  found, pairs = verified(known=known)
  strangers = found.scores[~pairs.same]
  one = kept.of_pairs(
    found, pairs, keep=kept.Keep(0.01), step=3, data={"a": "b"}
  )
  passed = strangers >= one.cosine
  assert one.strangers == len(strangers) and one.pairs == "mine"
  assert one.false_matches == passed.mean() <= 0.01
  # The next lower cosine of a stranger would be one too many.
  lower = strangers[strangers < one.cosine].max()
  assert np.mean(strangers >= lower) > 0.01
  right = (found.scores >= one.cosine) == pairs.same
  assert one.accuracy == right.mean()
  who = pair_people.known(pairs)
  assert (who is None) != known
  ends, how = error_rates.ends(passed, who and who.of(~pairs.same))
  assert (one.low, one.high) == ends and how in one.protocol
  assert one.step == 3 and one.data == {"a": "b"}


def test_the_threshold_of_the_best_accuracy():
  found, pairs = verified()
  one = kept.of_pairs(found, pairs, data={})
  assert one.cosine == found.metrics["threshold"]
  assert one.accuracy == found.metrics["accuracy"]
  assert "best accuracy" in one.protocol
  found, pairs = verified(threshold=0.25)
  one = kept.of_pairs(found, pairs, data={})
  assert one.cosine == 0.25 and "other pairs" in one.protocol
  assert one.accuracy == found.metrics["accuracy_at_given_threshold"]


def test_the_table_is_what_strangers_reach():
  found, pairs = verified()
  strangers = np.sort(found.scores[~pairs.same])[::-1]
  one = kept.of_pairs(found, pairs, data={})
  rates = [row.rate for row in one.rates]
  assert rates == sorted(rates, reverse=True) and rates[0] == near(
    0.5, abs=1e-3
  )
  assert [row.cosine for row in one.rates] == sorted(
    row.cosine for row in one.rates
  )
  for row in one.rates:
    assert row.rate == np.mean(strangers >= row.cosine)
    assert row.low < row.rate < row.high
    assert np.sum(strangers >= row.cosine) >= 30  # the rule of 30
  assert one.rates[-1].rate == 30 / len(strangers)
  # Between rows of the table the rate is close to the true one.
  for cosine in np.linspace(one.rates[0].cosine, one.rates[-1].cosine, 30)[
    1:-1
  ]:
    told, true = one.as_high(cosine), np.mean(strangers >= cosine)
    assert told.bound == "about" and 0.8 < told.rate / true < 1.25


def test_few_strangers_have_a_short_table():
  found, pairs = verified()
  few = np.r_[np.flatnonzero(pairs.same), np.flatnonzero(~pairs.same)[:50]]
  pairs = pair_sets.PairSet(
    "few", pairs.source, pairs.first[few], pairs.second[few], pairs.same[few],
    pairs.fold[few],
  )  # fmt: skip
  found = verification.of_scores(pairs, found.scores[few])
  assert kept.of_pairs(found, pairs, data={}).rates == ()
  with pytest.raises(ValueError, match="50 impostor pairs are too few"):
    kept.check(kept.Keep(1e-3), pairs)
  with pytest.raises(ValueError, match="or more pairs"):
    kept.check(kept.Keep(0.4), pairs)
  kept.check(kept.Keep(), pairs)


def test_ratios_are_kept_with_their_cost():
  found, pairs = verified()
  line = kept.of_pairs(found, pairs, data={}).ratio
  fit = calibration.logistic(found.scores, pairs.same)
  assert line(0.3) == near(fit(0.3) / math.log(10))
  llrs = calibration.cross_fitted(found.scores, pairs.same, pairs.fold)
  assert line.cllr == calibration.cllr(llrs, pairs.same)
  strangers = int((~pairs.same).sum())
  assert line(1e3) == near(math.log10(strangers))
  assert line(-1e3) == near(-math.log10(pairs.same.sum()))
  found, pairs = verified(gap=100.0)
  assert kept.of_pairs(found, pairs, data={}).ratio is None


def test_it_is_written_into_the_card(tmp_path):
  card.write(tmp_path, card.Card("iresnet18", 512, (112, 112)))
  found, pairs = verified()
  one = kept.of_pairs(found, pairs, keep=kept.Keep(0.1), step=3, data={})
  kept.write(str(tmp_path), one)
  assert card.read(tmp_path).threshold == one


@pytest.mark.parametrize("known", [True, False])
def test_cost_of_ratios(known):
  found, pairs = verified(known=known)
  mine, who = np.ones(len(pairs), bool), pair_people.known(pairs)
  (cost, least), curves = calibrated.figures(found, mine, who, samples=50)
  llrs = calibration.cross_fitted(found.scores, pairs.same, pairs.fold)
  assert cost.value == near(calibration.cllr(llrs, pairs.same))
  assert least.value == near(calibration.min_cllr(llrs, pairs.same))
  for one in (cost, least):
    assert 0 < one.low < one.value < one.high < 1
    assert ("people" in one.convention) == known
    assert one.unit == "" and "bits" in one.convention
  assert least.value < cost.value
  assert sum(curves["reliability"]["pairs"]) == len(pairs)
  # One fold, with the line of the others.
  mine = pairs.fold == 2
  (fold_cost, _), _ = calibrated.figures(
    found, mine, who and who.of(mine), samples=20
  )
  assert fold_cost.value == near(calibration.cllr(llrs[mine], pairs.same[mine]))


def test_people_widen_the_interval_of_the_cost():
  widths = []
  for known in (True, False):
    found, pairs = verified(known=known, hard=1.5)
    who, mine = pair_people.known(pairs), np.ones(len(pairs), bool)
    (cost, _), _ = calibrated.figures(found, mine, who, samples=100)
    widths.append(cost.high - cost.low)
  assert widths[0] > 1.2 * widths[1]


def test_scores_without_overlap_have_no_ratios():
  found, pairs = verified(gap=100.0)
  told, curves = calibrated.figures(
    found, np.ones(len(pairs), bool), None, samples=5
  )
  assert [one.text() for one in told] == ["-", "-"] and curves == {}
  assert all("do not overlap" in one.convention for one in told)


def test_thresholds_are_transferred():
  there, _ = verified(seed=1, name="there")
  found, pairs = verified(seed=2, gap=1.5)
  told = transfer.quantities(there, found, pairs)
  assert [one.key for one in told] == [
    "transferred_fmr_at_1e-2", "transferred_fnmr_at_1e-2",
    "transferred_fmr_at_1e-3",
  ]  # fmt: skip
  strangers = np.sort(there.scores[~there.same])[::-1]
  allowed = int(0.01 * len(strangers))
  bar = np.nextafter(strangers[allowed], 2)
  false = found.scores[~pairs.same] >= bar
  missed = found.scores[pairs.same] < bar
  assert told[0].value == false.mean() and told[1].value == missed.mean()
  who = pair_people.known(pairs)
  for one, values, kind in zip(
    told[:2], (false, missed), (~pairs.same, pairs.same), strict=True
  ):
    assert (one.low, one.high) == error_rates.ends(values, who.of(kind))[0]
    assert f"cosine {bar:.4f}" in one.convention and "there" in one.label
  assert "30 are the least" in told[2].convention and told[2].text() == "-"
  # On the very pairs that set it, the rate is what was asked for.
  same = transfer.quantities(there, *verified(seed=1))
  assert 0.99 * 0.01 < same[0].value <= 0.01
  fold = transfer.quantities(there, found, pairs, fold=3)
  mine = pairs.fold == 3
  assert fold[1].value == np.mean(found.scores[mine & pairs.same] < bar)


def test_what_is_judged_must_resolve_the_rate_too():
  there, _ = verified(seed=1)
  found, pairs = verified(seed=2)
  few = np.r_[np.flatnonzero(pairs.same), np.flatnonzero(~pairs.same)[:500]]
  pairs = pair_sets.PairSet(
    "few", pairs.source, pairs.first[few], pairs.second[few], pairs.same[few],
    pairs.fold[few],
  )  # fmt: skip
  found = verification.of_scores(pairs, found.scores[few])
  fmr, fnmr, *_ = transfer.quantities(there, found, pairs)
  assert fmr.text() == "-" and "500 impostor pairs" in fmr.convention
  assert fnmr.text() != "-"


def flags(*words):
  parser = argparse.ArgumentParser()
  kept.add_flags(parser)
  parser.add_argument("--threshold", type=float)
  return parser.parse_args(words)


def test_flags():
  assert kept.of_flags(flags(), takes=False) is None
  assert kept.of_flags(flags("--keep-threshold"), takes=True) == (None,)
  asked = flags("--keep-threshold", "--fmr", "1e-3")
  assert kept.of_flags(asked, takes=True) == (0.001,)
  with pytest.raises(ValueError, match="leave out --fold"):
    kept.of_flags(asked, takes=False)
  with pytest.raises(ValueError, match="needs --keep-threshold"):
    kept.of_flags(flags("--fmr", "1e-3"), takes=True)
  both = flags("--keep-threshold", "--fmr", "0.1", "--threshold", "0.3")
  with pytest.raises(ValueError, match="give one of them"):
    kept.of_flags(both, takes=True)


def test_accuracy_at_the_kept_cosine_is_that_of_the_metrics():
  found, pairs = verified()
  one = kept.of_pairs(found, pairs, keep=kept.Keep(0.1), data={})
  assert one.accuracy == metrics.accuracy_at(
    found.scores, pairs.same, one.cosine
  )
