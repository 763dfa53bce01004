"""Faults that were made in embeddings of known people are found."""

import dataclasses

import jax
import numpy as np
import pytest

from facejax.evaluation.audits import (
  decisions,
  duplicates,
  embedded_set,
  judge,
  prototypes,
  same_person,
  wrong_labels,
)
from facejax.metrics import two_covariance
from facejax.runtime import mesh as mesh_lib

PEOPLE, EACH, DIM = 90, 12, 24
SPLIT, JOINED, WRONG, NOBODY = 12, 10, 60, 12


@dataclasses.dataclass
class Faulty:
  """Embeddings, labels with faults, and what the faults are."""

  vectors: np.ndarray
  labels: np.ndarray
  wrong: np.ndarray
  nobody: np.ndarray
  truth: np.ndarray
  split: dict[int, int]
  joined: list[int]

  def images(self, mesh=None):
    return embedded_set.EmbeddedSet(
      self.vectors, self.labels, int(self.labels.max()) + 1, mesh
    )


@pytest.fixture(scope="module")
def faulty():
  rng = np.random.default_rng(0)
  truth = np.repeat(np.arange(PEOPLE), EACH)
  vectors = rng.normal(size=(PEOPLE, DIM))[truth]
  vectors += 0.35 * rng.normal(size=vectors.shape)
  labels = truth.copy()
  split = {p: PEOPLE + p for p in range(SPLIT)}
  half = (truth < SPLIT) & (np.arange(len(truth)) % 2 == 1)
  labels[half] += PEOPLE
  # The last people bear the names of those before them.
  joined = list(range(PEOPLE - 2 * JOINED, PEOPLE - JOINED))
  labels[truth >= PEOPLE - JOINED] -= JOINED
  plain = np.flatnonzero((truth >= SPLIT) & (truth < joined[0]))
  some = rng.permutation(plain)
  wrong, nobody = np.zeros((2, len(truth)), bool)
  wrong[some[:WRONG]] = True
  nobody[some[WRONG : WRONG + NOBODY]] = True
  labels[wrong] = SPLIT + (labels[wrong] - SPLIT + 7) % (joined[0] - SPLIT)
  vectors[nobody] = rng.normal(size=(NOBODY, DIM))
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  _, labels = np.unique(labels, return_inverse=True)
  numbers = {p: int(labels[2 * 6 * p]) for p in split}
  other = {numbers[p]: int(labels[EACH * p + 1]) for p in split}
  return Faulty(
    vectors.astype(np.float32),
    labels.astype(np.int32),
    wrong,
    nobody,
    truth,
    other,
    joined,
  )


@pytest.fixture(scope="module")
def judgement(faulty):
  return judge.judged(faulty.images())


def test_faults_are_found(faulty, judgement):
  groups = judgement.groups
  moved = np.flatnonzero(groups != np.arange(len(groups)))
  assert {(int(groups[b]), int(b)) for b in moved} == set(faulty.split.items())
  suspects = judgement.suspects
  assert suspects[faulty.wrong].mean() > 0.8
  assert faulty.wrong[suspects].mean() > 0.9
  flagged = judgement.outliers | suspects
  assert flagged[faulty.nobody].mean() > 0.8
  assert (faulty.nobody | faulty.wrong)[flagged].mean() > 0.9
  joined = {int(faulty.labels[EACH * p]) for p in faulty.joined}
  right = [cut for cut in judgement.two() if cut.person in joined]
  assert len(right) >= 0.8 * max(JOINED, len(judgement.two()))
  for cut in right:
    assert len(set(faulty.truth[cut.others])) == 1


def test_lists_put_the_set_right(faulty, judgement):
  images = faulty.images()
  copy = duplicates.Duplicates(
    np.array([0, 0]), np.array([400, 2]), np.zeros(2, int), np.ones(2)
  )
  found = decisions.decided(images, judgement, copy, second_people=True)
  less = decisions.decided(images, judgement, copy).exclude
  assert set(found.exclude) > set(less)
  assert "second person" not in less.values()
  # The second pair is of one person.
  assert found.copies == [(0, 400)]
  assert "copy" in (found.exclude.get(0), found.exclude.get(400))
  assert {frozenset(row[:2]) for row in found.merge} == {
    frozenset(pair) for pair in faulty.split.items()
  }
  labels = judgement.groups[images.labels].copy()
  for image, person, margin in found.relabel:
    assert image not in found.exclude and margin > 0
    labels[image] = judgement.groups[person]
  kept = np.ones(len(images), bool)
  kept[list(found.exclude)] = False
  before = impure(faulty.truth, images.labels)
  assert before > 0.15
  assert impure(faulty.truth[kept], labels[kept]) < before / 5
  assert kept.mean() > 0.85


def impure(truth, labels):
  """The share of images that are not of the first person of their name."""
  most = [np.bincount(truth[labels == p]).max() for p in np.unique(labels)]
  return 1 - sum(most) / len(labels)


def test_nothing_is_found_in_a_clean_set():
  rng = np.random.default_rng(1)
  truth = np.repeat(np.arange(60), 8).astype(np.int32)
  vectors = rng.normal(size=(60, DIM))[truth]
  vectors += 0.4 * rng.normal(size=vectors.shape)
  vectors = (vectors.T / np.linalg.norm(vectors, axis=1)).T.astype(np.float32)
  found = judge.judged(embedded_set.EmbeddedSet(vectors, truth, 60))
  assert not found.suspects.any() and not found.outliers.any()
  assert (found.groups == np.arange(60)).all() and not found.two()


def test_margins_are_those_of_brute_force(faulty):
  images = faulty.images()
  weights = np.where(np.arange(len(images)) % 9, 1.0, embedded_set.LEAST)
  found = wrong_labels.margins(images, weights, seed=3)
  fold = np.random.default_rng(3).permutation(len(images)) % 2
  for half in (0, 1):
    space = images.space(np.where(fold == half, 1e-9, weights))
    units = space.unit(images.vectors)
    for k in np.flatnonzero(fold == half)[::23]:
      cosines = []
      for person in range(images.people):
        mine = images.labels == person
        mine[k] = False
        centre = weights[mine] @ units[mine]
        cosines.append(units[k] @ centre / np.linalg.norm(centre))
      own = cosines[images.labels[k]]
      cosines[images.labels[k]] = -2
      order = np.argsort(cosines)[::-1]
      expected = own, cosines[order[0]], cosines[order[1]]
      np.testing.assert_allclose(
        [found.own[k], found.other[k], found.second[k]], expected, atol=1e-5
      )
      assert found.who[k] == order[0]


def test_pairs_are_those_of_brute_force(faulty):
  images = faulty.images()
  known = same_person.people(images, np.ones(len(images)))
  found = same_person.pairs(known, mesh=None)
  count = len(known.numbers)
  one, other = (grid.ravel() for grid in np.mgrid[:count, :count])
  ratio = two_covariance.log_likelihood_ratio(
    known.model,
    (known.means[one], known.counts[one]),
    (known.means[other], known.counts[other]),
  ).reshape(count, count)
  np.fill_diagonal(ratio, -np.inf)
  best = ratio.argmax(axis=1)
  expected = {(a, b) for a, b in enumerate(best) if best[b] == a and a < b}
  assert set(zip(found.first, found.second, strict=True)) == expected
  assert (np.diff(found.scores) <= 0).all()
  np.testing.assert_allclose(
    found.scores, ratio[found.first, found.second], rtol=1e-9
  )


def test_one_device_finds_what_eight_find(faulty, judgement):
  one = judge.judged(faulty.images(mesh_lib.make_mesh(devices=1)))
  assert jax.device_count() == 8
  np.testing.assert_array_equal(one.groups, judgement.groups)
  np.testing.assert_array_equal(one.suspects, judgement.suspects)
  np.testing.assert_array_equal(one.outliers, judgement.outliers)
  np.testing.assert_allclose(
    one.margins.margin, judgement.margins.margin, atol=1e-6
  )


def test_blocks_change_nothing(faulty, judgement, monkeypatch):
  monkeypatch.setattr(embedded_set, "_BLOCK", 100)
  monkeypatch.setattr(wrong_labels, "_QUERIES", 64)
  monkeypatch.setattr(same_person, "_BLOCK", 16)
  found = judge.judged(faulty.images())
  np.testing.assert_array_equal(found.groups, judgement.groups)
  np.testing.assert_array_equal(found.suspects, judgement.suspects)


def test_given_thresholds_are_taken(faulty):
  options = judge.AuditOptions(margin=3.0, same=1e6, apart=-1.0, outlier=-1.0)
  found = judge.judged(faulty.images(), options)
  assert not found.suspects.any() and not found.two()
  assert (found.groups == np.arange(len(found.groups))).all()
  assert found.thresholds["outliers"].score == 1.0
  assert found.told()["thresholds"]["same_person"]["score"] == 1e6


def test_one_person_is_refused():
  one = embedded_set.EmbeddedSet(
    np.eye(4, dtype=np.float32), np.zeros(4, np.int32), 1
  )
  with pytest.raises(ValueError, match="fewer than two people"):
    judge.judged(one)


def test_near_prototypes_stand_out():
  rng = np.random.default_rng(4)
  rows = rng.normal(size=(40, DIM))
  rows[7] = rows[30] + 0.1 * rng.normal(size=DIM)
  units = embedded_set.units(rows)
  first, second, cosines = prototypes.pairs(units, np.arange(40), mesh=None)
  use = cosines >= prototypes.outlying(cosines)
  assert [(first[k], second[k]) for k in np.flatnonzero(use)] == [(7, 30)]
  products = units @ units.T
  np.fill_diagonal(products, -1)
  np.testing.assert_allclose(cosines[0], products.max(), atol=1e-6)
  # Rows of one person are no pair.
  people = np.arange(40)
  people[30] = 7
  first, second, _ = prototypes.pairs(units, people, mesh=None)
  assert (first != second).all()


def test_second_subcentres_are_told():
  rng = np.random.default_rng(5)
  rows = rng.normal(size=(3, 2, DIM)).astype(np.float32)
  # Person 4: three and two images; person 1: one stray; person 0 has no row.
  which = np.array([0, 0, 0, 1, 1, 0, 0, 0, 1, 0])
  labels = np.array([4, 4, 4, 4, 4, 1, 1, 1, 1, 0], np.int32)
  people = np.array([1, 2, 4])
  index = np.searchsorted(people, labels) % 3
  vectors = embedded_set.units(
    rows[index, which] + 0.1 * rng.normal(size=(10, DIM))
  )
  images = embedded_set.EmbeddedSet(vectors, labels, 5)
  ((person, count, cosine),) = prototypes.second_subcentres(
    rows, people, images
  )
  units = embedded_set.units(rows[2])
  assert (person, count) == (4, 2)
  assert np.isclose(cosine, units[0] @ units[1], atol=1e-6)
