"""facejax.compare: what differs is found, what does not is not."""

import json
import shutil

import numpy as np
import pytest

from facejax import compare
from facejax.data.pairs import pairs as pair_sets
from facejax.evaluation import comparing
from facejax.metrics import counts as counts_lib
from facejax.metrics import curves, paired, people_intervals, verification


def shared(people=80, images=3, folds=10, seed=0):
  """Pairs of the images of people; each person lies in one fold."""
  rng = np.random.default_rng(seed)
  labels = np.repeat(np.arange(people), images)

  class Source:
    """Labels are all that is read."""

  Source.labels = labels
  drawn = pair_sets.random_pairs(
    Source(), num_pairs=400, folds=folds, seed=seed
  )
  who = people_intervals.compared(labels[drawn.first], labels[drawn.second])
  return comparing.SharedPairs(drawn.same, drawn.fold, who), rng


def net(pairs, rng, *, noise, hard):
  """Cosines of a net; some people are hard for all nets."""
  trait = hard[pairs.who.first] + hard[pairs.who.second]
  own = rng.normal(size=len(pairs.same)) * noise
  return np.tanh((2 * pairs.same - 1 + 0.2 * trait + own) / 2)


def sides(noises, *, runs=1, seed=0):
  pairs, rng = shared(seed=seed)
  hard = rng.normal(size=pairs.who.people)
  made = [
    [
      comparing.NetScores(
        f"{noise}-{k}", net(pairs, rng, noise=noise, hard=hard)
      )
      for k in range(runs)
    ]
    for noise in noises
  ]
  return made, pairs


def test_a_real_difference_is_found():
  made, pairs = sides((0.5, 1.5))
  rows = comparing.compare(*made, pairs, samples=200)
  assert [row.better for row in rows] == ["A"] * len(rows)
  assert {row.key for row in rows} == {
    "accuracy", "equal_error_rate", "area_under_curve",
  }  # fmt: skip
  swapped = comparing.compare(*made[::-1], pairs, samples=200)
  for row, other in zip(rows, swapped, strict=True):
    assert other.better == "B"
    assert other.found.value == pytest.approx(-row.found.value)
    assert other.p_value == pytest.approx(row.p_value, rel=1e-6, abs=1e-12)


def test_several_runs_a_side_find_it_as_well():
  made, pairs = sides((0.5, 1.5), runs=3)
  rows = comparing.compare(*made, pairs, samples=100)
  assert all(row.better == "A" for row in rows)
  assert len(rows[0].first) == 3 and "McNemar" not in rows[0].convention
  text = " ".join(comparing.notes(*made, pairs))
  assert "whether the recipes differ" in text


def test_equals_do_not_differ():
  """One question in 20 may be answered wrongly; of 40 hardly more than six."""
  found = 0
  for seed in range(40):
    made, pairs = sides((1.0, 1.0), seed=seed)
    (row, *_) = comparing.compare(*made, pairs, samples=20)
    found += row.found.p_value < 0.05
  assert found <= 6


def test_the_figures_are_those_of_each_net():
  made, pairs = sides((0.7, 0.9))
  rows = {row.key: row for row in comparing.compare(*made, pairs, samples=50)}
  for k, side in enumerate(("first", "second")):
    scores = made[k][0].values
    expected = verification.ten_fold_accuracy(scores, pairs.same, pairs.fold)
    assert getattr(rows["accuracy"], side) == [expected.mean]
    tally = counts_lib.count(scores, pairs.same)
    assert getattr(rows["area_under_curve"], side) == [curves.area(tally)]
  right = [
    verification.ten_fold_accuracy(side[0].values, pairs.same, pairs.fold).right
    for side in made
  ]
  row = rows["accuracy"]
  assert row.found.value == pytest.approx(right[0].mean() - right[1].mean())
  exact = paired.mcnemar(*right)
  assert f"A alone is right about {exact.first}" in row.convention
  assert f"p = {exact.p_value:.3g}" in row.convention


def test_people_who_are_not_known_are_said_so():
  made, pairs = sides((0.5, 1.5))
  unknown = pairs._replace(who=None)
  rows = comparing.compare(*made, unknown, samples=50)
  assert rows[0].better == "A"
  assert any("not known" in text for text in comparing.notes(*made, unknown))
  assert any("share one of 80" in t for t in comparing.notes(*made, pairs))


def test_a_net_is_its_own_equal():
  made, pairs = sides((0.8, 0.8))
  rows = comparing.compare(made[0], made[0], pairs, samples=20)
  for row in rows:
    assert row.found.value == 0 and row.p_value == 1 and not row.better


@pytest.fixture
def runs(tiny_run, tmp_path):
  return [
    str(shutil.copytree(tiny_run, tmp_path / name)) for name in ("one", "two")
  ]


@pytest.fixture
def listed(tiny_faces, tmp_path):
  """Each genuine pair of the four people, and as many of two of them."""
  names = sorted(
    str(file.relative_to(tiny_faces)) for file in tiny_faces.rglob("*.png")
  )
  lines = []
  for k in range(12):
    mate = 3 * (k // 3) + (k + 1) % 3
    lines.append(f"{names[k]} {names[mate]} 1")
    lines.append(f"{names[k]} {names[(k + 3 + 4 * (k % 2)) % 12]} 0")
  path = tmp_path / "list.txt"
  path.write_text("\n".join(lines) + "\n")
  return ["--pairs", str(path), "--path", str(tiny_faces)]


def test_the_command_compares(runs, listed, tmp_path, capsys):
  more = ["--devices", "2", "--batch-size", "4", "--samples", "20"]
  assert compare.main([*runs, *listed, *more]) == 0
  out = " ".join(capsys.readouterr().out.split())
  for words in (
    "A against B",
    "Accuracy",
    "McNemar",
    "people",
    "not two recipes",
  ):
    assert words in out, words
  out = str(tmp_path / "found.json")
  several = ["--a", runs[0], "--b", runs[1]]
  assert compare.main([*several, *listed, *more, "--json", out]) == 0
  with open(out) as file:
    found = json.load(file)
  assert found["a"] == runs[:1] and found["b"] == runs[1:]
  first = found["figures"][0]
  assert first["key"] == "accuracy" and first["a"] == first["b"]
  assert first["difference"] == 0 and first["p_value"] == 1


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "give RUN_A RUN_B"),
    (["x"], "1 runs; give two"),
    (["x", "y", "--a", "z"], "not both"),
    (["--a", "x"], "give RUN_A RUN_B"),
    (["x", "x"], "named twice"),
    (["--a", "x", "y", "--b", "z", "y"], "named twice"),
    (["x", "y"], "give --pairs"),
    (["x", "y", "--protocol", "agedb"], "agedb --pairs"),
  ],
)
def test_mistakes_end_in_one_message(capsys, arguments, message):
  assert compare.main(arguments) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and message in error


def test_the_help_teaches(capsys):
  with pytest.raises(SystemExit):
    compare.main(["--help"])
  text = capsys.readouterr().out
  for words in ("Examples:", "--a runs/cosface-0", "seeds", "Holm"):
    assert words in text
