"""Groups of people by a file: what is counted, what is refused, what is drawn."""

import dataclasses
import itertools

import numpy as np
import pytest

from facejax.data.pairs import pairs as pair_sets
from facejax.evaluation import groups, people_table, verification
from facejax.report import captions, heat_maps
from facejax.runs import results

PEOPLE = [f"person_{k}" for k in range(24)]


class Named:
  """Two images of each person, of which only names are asked."""

  class_names = ("",)
  labels = np.zeros(2 * len(PEOPLE), int)

  def name(self, index):
    return f"{PEOPLE[index // 2]}/{index % 2}.jpg"


def compared(seed=0):
  """All pairs of the images, and scores of them."""
  first, second = np.array([*itertools.combinations(range(48), 2)]).T
  same = first // 2 == second // 2
  fold = np.arange(len(same)) % 2
  # Two images of a person are one pair: enough of them only many times.
  first, second, same = (
    np.concatenate([one, np.tile(one[same], 9)])
    for one in (first, second, same)
  )
  fold = np.arange(len(same)) % 2
  pairs = pair_sets.PairSet("made", Named(), first, second, same, fold)
  rng = np.random.default_rng(seed)
  scores = np.tanh(rng.normal(size=len(same)) / 2 + same)
  return pairs, verification.Verification("made", scores, same, fold, {}, "")


def table(tmp_path, text):
  path = tmp_path / "people.csv"
  path.write_text(text)
  return path


def by_halves(tmp_path, *, drop=()):
  rows = [
    f"{name},{'north' if k % 2 else 'south'},{'old' if k < 12 else 'young'}"
    for k, name in enumerate(PEOPLE)
    if name not in drop
  ]
  return table(tmp_path, "\n".join(["name,region,age", *rows, ""]))


def test_figures_are_those_by_hand(tmp_path):
  pairs, found = compared()
  asked = people_table.asked(by_halves(tmp_path), ["region"])
  told, drawn, notes = groups.by_columns(
    found, pairs, asked.people, ("region",), threshold=0.4, samples=100
  )
  assert not notes and drawn["names"] == ["north", "south"]
  told = {one.key: one for one in told}
  for which, region in enumerate(["south", "north"]):
    mine = (pairs.first // 2 % 2 == which) & (pairs.second // 2 % 2 == which)
    impostors = mine & ~pairs.same
    fmr = np.mean(found.scores[impostors] >= 0.4)
    assert told[f"fmr_region_{region}"].value == pytest.approx(fmr)
    assert f"of {impostors.sum():,}" in told[f"fmr_region_{region}"].convention
    fnmr = np.mean(found.scores[mine & pairs.same] < 0.4)
    assert told[f"fnmr_region_{region}"].value == pytest.approx(fnmr)
  across = (pairs.first // 2 % 2 != pairs.second // 2 % 2) & ~pairs.same
  assert drawn["fmr"][0, 1] == np.mean(found.scores[across] >= 0.4)
  rates = [told[f"fmr_region_{r}"].value for r in ("south", "north")]
  ratio = told["fmr_worst_over_best_region"]
  assert ratio.value == pytest.approx(max(rates) / min(rates))
  # The groups are made up.
  assert ratio.low < 1 < ratio.high
  assert "dealt to people by chance" in ratio.convention
  assert 0 <= told["garbe_region"].value <= 1


def test_columns_are_crossed(tmp_path):
  pairs, found = compared()
  asked = people_table.asked(by_halves(tmp_path), ["region , age", "age"])
  assert asked.groupings == [("region", "age"), ("age",)]
  result = groups.add(
    results.Result("made", "verification", "", []),
    found,
    pairs,
    asked,
    threshold=0.4,
    samples=20,
  )
  keys = {one.key for one in result.quantities}
  assert {"fmr_region_age_north, old", "fnmr_age_young"} <= keys
  shown = result.curves["groups"]
  assert [len(one["names"]) for one in shown["groupings"]] == [4, 2]
  plain = results.plain(shown)
  drawn = heat_maps.groups(plain)
  assert len(drawn.axes) == 2
  texts = {text.get_text() for text in drawn.axes[1].texts}
  assert f"{100 * plain['groupings'][1]['fmr'][0][0]:.3g}" in texts
  assert "0.400" in captions.caption("groups", plain)
  # Each column by itself where none is asked for.
  assert people_table.asked(by_halves(tmp_path), ()).groupings == [
    ("region",),
    ("age",),
  ]


def test_without_a_threshold_it_is_that_of_all_pairs(tmp_path):
  pairs, found = compared()
  people = people_table.read(by_halves(tmp_path))
  told, drawn, _ = groups.by_columns(found, pairs, people, ("age",), samples=10)
  impostors = found.scores[~pairs.same]
  # Of 1,104 impostor pairs FMR 1e-1 has 110 errors, 1e-2 no 30.
  assert np.mean(impostors >= drawn["threshold"]) <= 0.1
  assert "FMR 1e-1 of all pairs" in told[0].convention


def test_small_groups_and_unknown_people_are_named(tmp_path):
  pairs, found = compared()
  path = by_halves(tmp_path, drop=PEOPLE[:2])
  lines = path.read_text().replace("person_23,north", "person_23,west")
  people = people_table.read(table(tmp_path, lines))
  _told, drawn, notes = groups.by_columns(
    found, pairs, people, ("region",), threshold=0.4, samples=10
  )
  assert drawn["names"] == ["north", "south"]
  assert "'west' of region is too small: 10 genuine, 0 impostor" in notes[0]
  assert "2 of 24 people have no region" in notes[1]
  mine = ~np.isin(pairs.first // 2, [0, 1, 23])
  mine &= ~np.isin(pairs.second // 2, [0, 1, 23])
  assert (
    drawn["impostors"].sum() - np.triu(drawn["impostors"], 1).sum()
    == (mine & ~pairs.same).sum()
  )


def test_no_error_in_a_group_has_no_interval(tmp_path):
  pairs, found = compared()
  people = people_table.read(by_halves(tmp_path))
  best = found.scores[~pairs.same].max()
  told, *_ = groups.by_columns(
    found, pairs, people, ("age",), threshold=float(best), samples=20
  )
  ratio = next(one for one in told if one.key == "fmr_worst_over_best_age")
  assert ratio.low is None and "a group has no error" in ratio.convention
  assert ratio.text() == "-"


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ("", ":1: the header is ''"),
    ("region,age\nx,y\n", "expected name and one or more columns"),
    ("name\nada\n", "expected name and one or more columns"),
    ("name,age,age\nada,1,2\n", "expected name"),
    ("name,age\nada,old,x\n", ":2: 3 fields; the header has 2"),
    ("name,age\nada,old\n\nada,young\n", ":4: 'ada' has a row already"),
  ],
)
def test_a_malformed_table_is_named(tmp_path, text, said):
  with pytest.raises(ValueError, match=said):
    people_table.read(table(tmp_path, text))


def test_unknown_columns_are_named(tmp_path):
  with pytest.raises(ValueError, match="'sex': .* has the columns region, age"):
    people_table.asked(by_halves(tmp_path), ["region,sex"])


def test_one_group_is_refused(tmp_path):
  pairs, found = compared()
  text = "".join(f"{name},all\n" for name in PEOPLE)
  people = people_table.read(table(tmp_path, f"name,kind\n{text}"))
  with pytest.raises(ValueError, match="kind: 1 groups have 30 genuine and 30"):
    groups.by_columns(found, pairs, people, ("kind",), threshold=0.4)


def test_packs_do_not_know_their_people(tmp_path):
  pairs, found = compared()

  class Unnamed(Named):
    def name(self, index):
      return f"pack/{index}"

  people = people_table.read(by_halves(tmp_path))
  unnamed = dataclasses.replace(pairs, source=Unnamed())
  with pytest.raises(
    ValueError, match="made: whom its pairs show is not known"
  ):
    groups.by_columns(found, unnamed, people, ("age",), threshold=0.4)
