"""The figures that the steps of a run may be ranked by."""

import dataclasses

import numpy as np
import pytest

from facejax.data.pairs import pairs as pair_sets
from facejax.data.synthetic import faces
from facejax.evaluation import best_by, verification
from facejax.runs import scores


def pairs(name, count=400):
  people = faces.SyntheticFaces(
    num_identities=20, images_per_identity=10, image_size=(16, 16)
  )
  drawn = pair_sets.random_pairs(people, num_pairs=count)
  return dataclasses.replace(drawn, name=name)


LFW, CFP, DEV = pairs("lfw"), pairs("cfp_fp", count=40), pairs("dev")


def test_the_mean_is_of_the_accuracies_that_are_reported():
  alone = best_by.ranking("mean", [LFW], DEV)
  assert alone == scores.Ranking(
    "lfw/accuracy", ("lfw/accuracy",), older="accuracy"
  )
  both = best_by.ranking("mean", [LFW, CFP], DEV)
  assert both.by == ("lfw/accuracy", "cfp_fp/accuracy")
  assert both.name == "mean accuracy of lfw, cfp_fp"
  assert best_by.ranking("mean", []).of({"accuracy": 1}) is None


@pytest.mark.parametrize(
  ("name", "lower"),
  [
    ("cfp_fp/equal_error_rate", True),
    ("lfw/tar_at_far_1e-2", False),
    ("dev/area_under_curve", False),
    ("lfw/accuracy_at_given_threshold", False),
  ],
)
def test_a_figure_knows_whether_less_is_better(name, lower):
  ranking = best_by.ranking(name, [LFW, CFP], DEV)
  assert ranking == scores.Ranking(name, (name,), lower=lower)


@pytest.mark.parametrize(
  "name",
  [
    "accuracy",
    "lfw/acuracy",
    "lfw/threshold",
    "lfw/accuracy_std",
    # No threshold is given to the set that it is chosen on.
    "dev/accuracy_at_given_threshold",
    # Too few pairs for that rate.
    "cfp_fp/tar_at_far_1e-2",
  ],
)
def test_what_there_is_not_is_refused_with_what_there_is(name):
  with pytest.raises(ValueError, match=r"choose mean, or one of lfw/accuracy,"):
    best_by.ranking(name, [LFW, CFP], DEV)


def test_without_pairs_there_is_no_figure():
  with pytest.raises(ValueError, match="nothing is verified"):
    best_by.ranking("lfw/accuracy", [])


def test_every_figure_is_measured():
  scored = verification.scored(
    CFP, np.random.default_rng(0).normal(size=(len(used(CFP)), 8)), threshold=0
  )
  named = verification.figures(CFP, given=True)
  assert set(named) < set(scored.metrics)
  assert {"accuracy", "val_at_far_1e-1", "accuracy_at_given_threshold"} < set(
    named
  )
  assert set(verification.LOWER_IS_BETTER) <= set(named)


def used(pair_set):
  return verification.used_images(pair_set)
