"""Which step of a run is best, by whatever figure."""

import json
import math

import pytest

from facejax.runs import scores

MEAN = scores.Ranking("mean", ("a/accuracy", "b/accuracy"))


def kept(folder, values, *, ranking=None):
  """Scores of a run, each added by a start of its own."""
  for step, value in values.items():
    found = scores.Scores(folder, ranking or scores.Ranking())
    found.add(step, {"accuracy": value})
  return scores.Scores(folder, ranking or scores.Ranking())


def test_the_newest_of_equals_is_best_and_brought_nothing_better(tmp_path):
  found = kept(tmp_path, {2: 0.5, 4: 0.75, 6: 0.7, 8: 0.75, 10: 0.1})
  assert found.best(10) == scores.Best(8, 0.75, 5, 3)
  # As it was then: a start that goes on from there decides as before.
  assert found.best(6) == scores.Best(4, 0.75, 3, 1)
  assert found.best(5) == scores.Best(4, 0.75, 2, 0)
  assert found.best(1) is None


def test_less_may_be_better(tmp_path):
  lower = scores.Ranking("accuracy", ("accuracy",), lower=True)
  found = kept(tmp_path, {2: 0.5, 4: 0.25, 6: 0.3}, ranking=lower)
  assert found.best(9) == scores.Best(4, 0.25, 3, 1)
  assert lower.rank({"accuracy": 0.5}) == -0.5


def test_a_mean_is_of_all_its_parts():
  assert MEAN.of({"a/accuracy": 0.5, "b/accuracy": 1.0}) == 0.75
  for other in (None, math.nan):
    assert MEAN.of({"a/accuracy": 0.5, "b/accuracy": other}) is None
  assert MEAN.of({"a/accuracy": 0.5}) is MEAN.rank({}) is None
  assert scores.Ranking("none", ()).of({"accuracy": 1.0}) is None


def test_scores_of_older_runs_are_those_of_their_only_set():
  ranking = scores.Ranking("lfw", ("lfw/accuracy",), older="accuracy")
  assert ranking.of({"accuracy": 0.5}) == 0.5
  assert ranking.of({"accuracy": 0.5, "lfw/accuracy": 0.75}) == 0.75


def test_what_is_not_finite_or_not_known_counts_for_nothing(tmp_path):
  found = kept(tmp_path, {2: 0.5, 4: math.nan})
  assert found.best(4) == scores.Best(2, 0.5, 1, 0)
  assert json.loads((tmp_path / "scores.json").read_text())["4"] == {
    "accuracy": None
  }
  assert found.of(6) is None and found.of(4) == {"accuracy": None}


def test_a_run_that_went_back_forgets_what_came_later(tmp_path):
  found = kept(tmp_path, {2: 0.5, 4: 0.9, 6: 0.8})
  found.add(4, {"accuracy": 0.6})
  assert found.best(99) == scores.Best(4, 0.6, 2, 0)


@pytest.mark.parametrize("text", ["{", "[1]", '{"x": {}}', '{"2": 7}'])
def test_a_damaged_file_counts_for_nothing(tmp_path, text):
  (tmp_path / "scores.json").write_text(text)
  found = scores.Scores(tmp_path, scores.Ranking())
  assert found.best(9) is None and found.of(2) is None
  found.add(2, {"accuracy": 0.5})
  assert found.best(9) == scores.Best(2, 0.5, 1, 0)
