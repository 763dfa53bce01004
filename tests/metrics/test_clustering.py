"""Clustering scores against loops over pairs and images, and scikit-learn."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facejax.metrics import clustering

near = pytest.approx
LABELS = st.lists(
  st.tuples(st.integers(-2, 4), st.integers(0, 5)), min_size=1, max_size=30
)
FIGURES = [
  clustering.pairwise,
  clustering.bcubed,
  clustering.normalized_mutual_information,
  clustering.adjusted_rand_index,
  clustering.purity,
]


def slow_pairwise(people, clusters):
  i, j = np.triu_indices(len(people), 1)
  same, together = people[i] == people[j], clusters[i] == clusters[j]
  both = np.sum(same & together)
  return (
    both / together.sum() if together.any() else 1,
    both / same.sum() if same.any() else 1,
  )


def slow_bcubed(people, clusters):
  same = people[:, None] == people
  together = clusters[:, None] == clusters
  both = (same & together).sum(axis=1)
  return np.mean(both / together.sum(axis=1)), np.mean(both / same.sum(axis=1))


def f_of(precision, recall):
  total = precision + recall
  return 2 * precision * recall / total if total else 0


@settings(max_examples=80, deadline=None)
@given(LABELS)
def test_scores_match_loops(labels):
  people, clusters = np.array(labels).T
  table = clustering.contingency(people, clusters)
  for figure, slow in (
    (clustering.pairwise, slow_pairwise),
    (clustering.bcubed, slow_bcubed),
  ):
    precision, recall = slow(people, clusters)
    expected = precision, recall, f_of(precision, recall)
    assert figure(table) == near(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(LABELS)
def test_scikit_learn_agrees(labels):
  metrics = pytest.importorskip("sklearn.metrics")
  people, clusters = np.array(labels).T
  table = clustering.contingency(people, clusters)
  information = metrics.mutual_info_score(people, clusters)
  assert clustering.mutual_information(table) == near(information, abs=1e-12)
  score = metrics.adjusted_rand_score(people, clusters)
  assert clustering.adjusted_rand_index(table) == near(score, abs=1e-12)
  for mean in ("arithmetic", "geometric", "max", "min"):
    score = metrics.normalized_mutual_info_score(
      people, clusters, average_method=mean
    )
    ours = clustering.normalized_mutual_information(table, mean=mean)
    assert ours == near(score, abs=1e-9), mean


@settings(max_examples=60, deadline=None)
@given(LABELS, st.integers(1, 29))
def test_shards_add_up_and_names_do_not_matter(labels, cut):
  people, clusters = np.array(labels).T
  table = clustering.contingency(people, clusters)
  cut = min(cut, len(people))
  merged = clustering.contingency(people[:cut], clusters[:cut])
  if cut < len(people):
    merged += clustering.contingency(people[cut:], clusters[cut:])
  renamed = clustering.contingency(
    [f"person {p}" for p in people[::-1]], 9 - 2 * clusters[::-1]
  )
  for figure in FIGURES:
    assert figure(merged) == figure(table)
    assert figure(renamed) == near(figure(table), abs=1e-12)
  swapped = clustering.contingency(clusters, people)
  precision, recall, f = clustering.pairwise(table)
  assert clustering.pairwise(swapped) == (recall, precision, f)
  index = clustering.adjusted_rand_index(table)
  assert clustering.adjusted_rand_index(swapped) == index


def test_perfect_and_trivial_clusters():
  people = np.array([0, 0, 1, 1, 2])
  perfect = clustering.contingency(people, people + 5)
  one = clustering.contingency(people, [0] * 5)
  alone = clustering.contingency(people, range(5))
  for figure in FIGURES:
    assert figure(perfect) == near((1, 1, 1) if figure in FIGURES[:2] else 1)
  assert clustering.pairwise(one)[:2] == near((0.2, 1))
  assert clustering.pairwise(alone) == (1, 0, 0)
  for table in (one, alone):
    assert clustering.adjusted_rand_index(table) == 0
  assert clustering.normalized_mutual_information(one) == 0
  assert clustering.purity(alone) == 1


def test_chance_has_no_adjusted_rand_index_at_any_size():
  rng = np.random.default_rng(0)
  people, clusters = rng.integers(0, 500, (2, 2_000_000))
  start = time.process_time()
  table = clustering.contingency(people, clusters)
  assert clustering.adjusted_rand_index(table) == near(0, abs=1e-5)
  assert clustering.bcubed(table).f == near(1 / 500, rel=0.2)
  assert time.process_time() - start < 20
  # A million people of two images each: as many cells as people, no table.
  people = np.arange(2_000_000) // 2
  table = clustering.contingency(people, people % 999_983)
  assert len(table.counts) == 1_000_000
  assert clustering.pairwise(table).recall == 1


@pytest.mark.parametrize("rule", ["pairwise", "bcubed"])
def test_interval_of_f_covers_what_many_people_give(rule):
  def drawn(people, seed):
    """Of each person's four images one strays into the next cluster or not."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), 4)
    strays = (np.arange(4 * people) % 4 == 0) & (rng.random(4 * people) < 0.4)
    return clustering.contingency(person, person + strays)

  figure = getattr(clustering, rule)
  truth, covered = figure(drawn(50_000, 0)).f, []
  for seed in range(1, 41):
    table = drawn(150, seed)
    low, high = clustering.f_interval(
      table, rule=rule, samples=200, level=0.9, seed=seed
    )
    assert low < figure(table).f < high < low + 0.1
    covered.append(low <= truth <= high)
  assert np.mean(covered) >= 0.75
  certain = clustering.contingency([0, 0, 1], [0, 0, 1])
  assert clustering.f_interval(certain, rule=rule, samples=9) == (1, 1)


def test_noise_becomes_clusters_of_one():
  clusters = np.array([-1, 3, -1, 3, 0])
  assert clustering.singletons(clusters).tolist() == [4, 3, 5, 3, 0]
  assert clusters.tolist() == [-1, 3, -1, 3, 0]
  assert clustering.singletons([-1, -1]).tolist() == [0, 1]
  assert clustering.singletons([9, 9], noise=9).tolist() == [10, 11]


@pytest.mark.parametrize(
  "people, clusters, message",
  [
    ([], [], r"people has shape \(0,\).*at least one"),
    ([1, 2], [1], r"clusters has shape \(1,\)"),
    ([1.5], [1], "people holds floats"),
    ([1], [np.nan], "clusters holds floats"),
    ([[1]], [[1]], "people has shape"),
  ],
)
def test_bad_labels_are_refused(people, clusters, message):
  with pytest.raises(ValueError, match=message):
    clustering.contingency(people, clusters)


def test_unknown_options_are_refused():
  table = clustering.contingency([0], [0])
  with pytest.raises(ValueError, match="'harmonic'; use .*'geometric'"):
    clustering.normalized_mutual_information(table, mean="harmonic")  # pyright: ignore
  with pytest.raises(ValueError, match="'v'; use .*bcubed"):
    clustering.f_interval(table, rule="v")  # pyright: ignore
