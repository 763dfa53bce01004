"""Search of galleries, open sets and distractors against slow twins."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from facejax.metrics import distractors, gallery, identification

near = pytest.approx


def scores_of(seed, probes=30, entries=12, people=8):
  """Scores of few values; some people have several entries or none."""
  rng = np.random.default_rng(seed)
  scores = rng.integers(-3, 4, (probes, entries)) / 4
  return (
    scores,
    rng.integers(0, people + 4, probes),
    rng.integers(0, people, entries),
  )


def slow_search(scores, probe_ids, gallery_ids):
  for row, mine in zip(scores, probe_ids, strict=True):
    best = {p: max(row[gallery_ids == p]) for p in set(gallery_ids)}
    own = best.get(mine, np.nan)
    beaten = sum(s >= own for p, s in best.items() if p != mine)
    yield (1 + beaten if mine in best else 0), own, max(row)


@pytest.mark.parametrize("seed", range(6))
def test_search_matches_a_slow_twin(seed):
  scores, probe_ids, gallery_ids = scores_of(seed)
  found = gallery.search_scores(scores, probe_ids, gallery_ids)
  ranks, mates, best = zip(
    *slow_search(scores, probe_ids, gallery_ids), strict=True
  )
  assert found.ranks.tolist() == list(ranks)
  np.testing.assert_array_equal(found.mates, mates)
  np.testing.assert_array_equal(found.best, best)
  assert found.mated.tolist() == np.isin(probe_ids, gallery_ids).tolist()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_search_of_embeddings_is_that_of_their_cosines(dtype, monkeypatch):
  rng = np.random.default_rng(0)
  probes = rng.normal(size=(40, 5)).astype(dtype)
  entries = rng.normal(size=(15, 5)).astype(dtype)
  ids = [f"person {i}" for i in rng.integers(0, 9, 40)]
  entry_ids = [f"person {i}" for i in rng.integers(0, 7, 15)]
  units = [
    x / np.linalg.norm(x, axis=1, keepdims=True) for x in (probes, entries)
  ]
  expected = gallery.search_scores(units[0] @ units[1].T, ids, entry_ids)
  for cells in (1 << 24, 50, 1):  # one block, some rows, a row at a time
    monkeypatch.setattr(gallery, "_CELLS", cells)
    found = gallery.search(probes, ids, entries, entry_ids)
    assert found.ranks.tolist() == expected.ranks.tolist()
    np.testing.assert_allclose(found.mates, expected.mates, atol=1e-6)
    np.testing.assert_allclose(found.best, expected.best, atol=1e-6)
  halves = [
    gallery.search(probes[part], ids[part], entries, entry_ids)
    for part in (slice(0, 11), slice(11, None))
  ]
  assert (halves[0] + halves[1]).ranks.tolist() == expected.ranks.tolist()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0, 0.05, 0.2, 1 / 3, 0.8, 1]))
def test_open_set_rates_are_the_best_of_all_thresholds(seed, fpir):
  found = gallery.search_scores(*scores_of(seed))
  mated, strangers = found.mated, found.best[~found.mated]
  assume(mated.any() and not mated.all())
  for rank in (1, 3):
    result = identification.tpir_at_fpir(found, fpir, rank=rank)
    tried = [
      np.mean((found.ranks[mated] <= rank) & (found.mates[mated] >= t))
      for t in [-np.inf, *found.best, *found.mates[mated], np.inf]
      if np.mean(strangers >= t) <= fpir
    ]
    assert result.tpir.value == max(tried)
    assert result.fpir.value <= fpir
    assert result.fpir.value == np.mean(strangers >= result.threshold)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_match_characteristic_rises_to_one(seed):
  found = gallery.search_scores(*scores_of(seed))
  assume(found.mated.any())
  curve = identification.cumulative_match(found, 8)
  assert (np.diff(curve) >= 0).all() and curve[-1] == 1
  rates = [identification.rank_k(found, k).value for k in range(1, 9)]
  assert curve.tolist() == near(rates)
  assert identification.cumulative_match(found, 2).tolist() == near(rates[:2])


def test_galleries_are_averaged_not_pooled():
  # Gallery A holds three mates and finds them all, B one and misses it.
  first = gallery.search_scores(
    [[0.9, 0, 0], [0, 0.9, 0], [0, 0, 0.9], [0.5, 0, 0]], [0, 1, 2, 9], range(3)
  )
  second = gallery.search_scores(
    [[0.6], [0.4], [0.3], [0.5]], [0, 1, 2, 9], [9]
  )
  mean, interval = identification.tpir_of_galleries([first, second], 0.0)
  assert mean == 0.5
  assert 0 < interval.low < 0.5 < interval.high < 1


def test_a_tie_counts_against_the_mate():
  found = gallery.search_scores([[0.5, 0.5, 0.5]], [1], [0, 1, 2])
  assert found.ranks.tolist() == [3]
  strangers = gallery.search_scores([[0.5], [0.5]], [0, 7], [0])
  result = identification.tpir_at_fpir(strangers, 0.0)
  assert (result.tpir.value, result.fpir.value) == (0, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tie_is_not_lost_to_rounding(dtype):
  r = np.random.default_rng(0)
  for _ in range(30):
    n = int(r.integers(4, 40))
    people = r.normal(size=(n, 512)).astype(dtype)
    people[1] = people[n - 1] = people[0]
    probes = people[:1] + 0.5 * r.normal(size=(int(r.integers(1, 40)), 512))
    ids = np.zeros(len(probes), int)
    found = gallery.search(probes.astype(dtype), ids, people, np.arange(n))
    assert (found.ranks >= 3).all()
    twice = np.concatenate([people[:1], people[:1]])
    strangers = distractors.compare(twice, people[1:], keep=1)
    result = distractors.megaface(twice, [0, 0], strangers, far=0.0)
    assert result.rank_one.value == 0


def slow_megaface(probes, ids, others, far):
  def units(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)

  cosines = units(probes) @ units(others).T
  mates = units(probes) @ units(probes).T
  pairs = [
    (i, j)
    for i in range(len(ids))
    for j in range(len(ids))
    if i != j and ids[i] == ids[j]
  ]
  won = [mates[i, j] > cosines[i].max() for i, j in pairs]
  tars: list[np.floating] = [np.float64(0)]
  for t in cosines.ravel():
    if np.mean(cosines >= t) <= far:
      tars.append(np.mean([mates[i, j] >= t for i, j in pairs]))
  barred = np.sort(cosines.ravel())[::-1][int(far * cosines.size)]
  tars.append(np.mean([mates[i, j] > barred for i, j in pairs]))
  return np.mean(won), max(tars), len(pairs)


@pytest.mark.parametrize("far", [0, 0.01, 0.2])
def test_megaface_matches_a_slow_twin_however_it_is_split(far, monkeypatch):
  rng = np.random.default_rng(3)
  ids = rng.integers(0, 6, 20)
  probes = rng.normal(size=(20, 4)) + 2 * rng.normal(size=(6, 4))[ids]
  others = rng.normal(size=(50, 4))
  rank_one, tar, count = slow_megaface(probes, ids, others, far)
  monkeypatch.setattr(distractors, "_CELLS", 90)  # four distractors a block
  whole = distractors.compare(probes, others, keep=201)
  parts = [
    distractors.compare(probes, others[part], keep=201)
    for part in (slice(0, 7), slice(7, 8), slice(8, None))
  ]
  crowd = distractors.Crowd(probes, keep=201).another()
  for part in (slice(0, 11), slice(11, 12), slice(12, None)):
    crowd.add(others[part])
  streamed = crowd.strangers()
  assert streamed.pairs == whole.pairs == 1000
  for strangers in (whole, parts[2] + parts[0] + parts[1], streamed):
    np.testing.assert_array_equal(strangers.best, whole.best)
    np.testing.assert_array_equal(strangers.tail, whole.tail)
    result = distractors.megaface(probes, ids, strangers, far=far)
    assert result.rank_one.value == rank_one
    assert result.rank_one.trials == count
    assert result.tar.value == near(tar)
    assert result.far.value == int(far * 1000) / 1000


def test_all_distractors_may_pass():
  probes, ids = np.eye(2)[[0, 0]], ["a", "a"]
  strangers = distractors.compare(probes, [[-1, 0.1]], keep=2)
  result = distractors.megaface(probes, ids, strangers, far=1)
  assert (result.tar.value, result.far.value) == (1, 1)
  assert result.threshold == -np.inf


@pytest.mark.parametrize(
  "call, message",
  [
    (
      lambda: gallery.search([[1, 0]], [1], [[1]], [1]),
      "2 dimensions, the gallery 1",
    ),
    (lambda: gallery.search([[0, 0]], [1], [[1, 0]], [1]), "probes .* zero"),
    (lambda: gallery.search([[1, np.inf]], [1], [[1, 0]], [1]), "not finite"),
    (lambda: gallery.search_scores([[1]], [1, 2], [1]), "probe_ids has shape"),
    (
      lambda: gallery.search_scores([[1]], [1.0], [1]),
      "probe_ids holds floats",
    ),
    (lambda: gallery.search_scores([], [], []), r"shape \(0,\)"),
    (lambda: gallery.search_scores([[np.nan]], [1], [1]), "scores .* row 0"),
    (lambda: distractors.trials([[1, 0]], [1]), "nobody has two probes"),
    (lambda: distractors.compare([[1, 0]], [[1]], keep=1), r"\[rows, 2\]"),
    (lambda: distractors.compare([[1]], [[1]], keep=0), "keep is 0"),
    (lambda: distractors.compare([[1]], [[0]], keep=1), "from row 0 .* zero"),
    (
      lambda: distractors.Crowd([[1]], keep=1).strangers(),
      "there are no distractors",
    ),
    (
      lambda: distractors.megaface(
        np.eye(2),
        [0, 0],
        distractors.compare(np.eye(2), np.eye(2), keep=1),
        far=0.5,
      ),
      "keep=3 or more",
    ),
    (
      lambda: distractors.megaface(
        np.eye(2), [0, 0], distractors.compare(np.eye(3), np.eye(3), keep=1)
      ),
      "of 3 probes, not of these 2",
    ),
  ],
)
def test_bad_input_is_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_figures_that_need_both_kinds_of_probe_say_so():
  mated = gallery.search_scores([[0.5]], [1], [1])
  stranger = gallery.search_scores([[0.5]], [2], [1])
  with pytest.raises(ValueError, match="every probe is mated"):
    identification.tpir_at_fpir(mated, 0.1)
  for call in (
    lambda: identification.rank_k(stranger),
    lambda: identification.cumulative_match(stranger, 3),
    lambda: identification.tpir_at_fpir(stranger, 0.1),
  ):
    with pytest.raises(ValueError, match="no probe is mated"):
      call()
  with pytest.raises(ValueError, match="fpir is 2"):
    identification.tpir_at_fpir(mated + stranger, 2)
  with pytest.raises(ValueError, match="rank 0"):
    identification.rank_k(mated, 0)
  with pytest.raises(ValueError, match="rank 0"):
    identification.cumulative_match(mated, 0)


def test_closed_set_wants_one_entry_of_every_probe():
  scores = np.eye(2)
  for probe_ids, gallery_ids in (([0, 5], [0, 1]), ([0, 0], [0, 0])):
    with pytest.raises(ValueError, match="exactly one entry"):
      identification.closed_set_tpir(scores, probe_ids, gallery_ids, 0.5)
  with pytest.raises(ValueError, match="asks for score 0 of 2"):
    identification.closed_set_tpir(scores, [0, 1], [0, 1], 0)


def test_probes_of_one_person_widen_the_interval_of_tpir():
  rng = np.random.default_rng(7)
  people = np.repeat(np.arange(40), 10)
  # Whoever is hard to find is hard in each probe.
  scores = rng.normal(size=(400, 40)) / 4
  own = rng.normal(1, 0.5, 40)[people] + rng.normal(size=400) / 10
  scores[np.arange(400), people] = own
  found = [
    gallery.search_scores(scores[:, half], people, np.arange(40)[half])
    for half in (slice(0, 20), slice(20, 40))
  ]
  plain = identification.tpir_of_galleries(found, 0.05)
  knowing = identification.tpir_of_galleries(found, 0.05, people=people)
  assert knowing[0] == plain[0]
  assert knowing[1].low < plain[1].low and plain[1].high < knowing[1].high
  alone = identification.tpir_of_galleries(found, 0.05, people=np.arange(400))
  assert alone[1] == pytest.approx(plain[1])
