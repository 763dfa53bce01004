"""Diagnostics and error against reject, checked by loops over images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facejax.metrics import diagnostics, quality

near = pytest.approx


def people_of(seed, images=40, people=6, dim=5, dtype=np.float64):
  rng = np.random.default_rng(seed)
  person = rng.integers(0, people, images)
  x = rng.normal(size=(people, dim))[person] + 0.4 * rng.normal(
    size=(images, dim)
  )
  return x.astype(dtype), person


def angle(a, b):
  cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
  return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def test_fisher_score_matches_a_loop():
  x, person = people_of(0)
  mean = x.mean(axis=0)
  within = between = 0.0
  for name in np.unique(person):
    mine = x[person == name]
    centre = mine.mean(axis=0)
    within += sum(1 - np.cos(np.radians(angle(f, centre))) for f in mine)
    between += len(mine) * (1 - np.cos(np.radians(angle(centre, mean))))
  result = diagnostics.angular_fisher_score(x, person)
  assert result == near((within, between, within / between))


@pytest.mark.parametrize("cells", [1, 30, 1 << 24])
def test_class_angles_match_a_loop(cells, monkeypatch):
  monkeypatch.setattr(diagnostics, "_CELLS", cells)
  x, person = people_of(1)
  w = np.random.default_rng(2).normal(size=(9, 5))
  u = x / np.linalg.norm(x, axis=1, keepdims=True)
  names = np.unique(person)
  centres = {p: u[person == p].mean(axis=0) for p in names}

  def nearest(vectors):
    return np.mean(
      [
        min(angle(a, b) for j, b in enumerate(vectors) if j != i)
        for i, a in enumerate(vectors)
      ]
    )

  result = diagnostics.class_angles(x, person, prototypes=w)
  assert result.intra == near(
    np.mean([angle(f, centres[p]) for f, p in zip(x, person, strict=True)])
  )
  assert result.inter == near(nearest(list(centres.values())))
  to_centre = [angle(w[p], centres[p]) for p in names]
  assert result.prototype_to_centre == near(np.mean(to_centre))
  assert result.prototype_inter == near(nearest(list(w)))
  without = diagnostics.class_angles(x, person.astype(str))
  assert without[:2] == near(result[:2]) and np.isnan(without[2:]).all()


@pytest.mark.parametrize("cells", [1, 100, 1 << 24])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_open_set_criterion_matches_a_loop(cells, dtype, monkeypatch):
  monkeypatch.setattr(diagnostics, "_CELLS", cells)
  for seed in range(4):
    x, person = people_of(seed, dtype=dtype)
    angles = {
      (i, j): angle(x[i].astype(float), x[j].astype(float))
      for i in range(40)
      for j in range(i + 1, 40)
    }
    intra = {p: a for p, a in angles.items() if person[p[0]] == person[p[1]]}
    inter = {p: a for p, a in angles.items() if p not in intra}
    worst = diagnostics.open_set_criterion(x, person)
    assert worst.largest_intra == near(max(intra.values()), abs=1e-3)
    assert worst.smallest_inter == near(min(inter.values()), abs=1e-3)
    assert worst.intra_pair == max(intra, key=intra.__getitem__)
    assert worst.inter_pair == min(inter, key=inter.__getitem__)
    assert worst.margin == worst.smallest_inter - worst.largest_intra


def test_the_criterion_holds_of_well_parted_people():
  x = [[1, 0.01], [1, -0.01], [0.01, 1], [-0.01, 1]]
  assert diagnostics.open_set_criterion(x, [0, 0, 1, 1]).margin > 85
  assert diagnostics.open_set_criterion(x, [0, 1, 0, 1]).margin < -85


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_angles_ignore_length_and_rotation(seed, scale):
  x, person = people_of(seed)
  turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(5, 5)))[0]
  turned = scale * x @ turn
  for figure in (diagnostics.class_angles, diagnostics.open_set_criterion):
    ours, expected = figure(turned, person), figure(x, person)
    np.testing.assert_allclose(ours[0], expected[0], rtol=1e-9)
    np.testing.assert_allclose(ours[1], expected[1], rtol=1e-9)


@pytest.mark.parametrize(
  "figure",
  [
    diagnostics.angular_fisher_score,
    diagnostics.class_angles,
    diagnostics.open_set_criterion,
  ],
)
@pytest.mark.parametrize(
  "x, people, message",
  [
    (np.eye(3), [0, 0, 0], "one person|1 people"),
    (np.eye(3), [0, 1], r"people has shape \(2,\)"),
    (np.full((2, 2), np.nan), [0, 1], "not finite"),
    (np.zeros((2, 2)), [0, 1], "zero vector"),
    (np.zeros((0, 2)), [], r"shape \(0, 2\)"),
  ],
)
def test_bad_features_are_refused(figure, x, people, message):
  with pytest.raises(ValueError, match=message):
    figure(x, people)


def test_what_has_no_answer_is_refused():
  with pytest.raises(ValueError, match="3 images of 3 people"):
    diagnostics.open_set_criterion(np.eye(3), [0, 1, 2])
  with pytest.raises(ValueError, match="the mean feature .* zero"):
    diagnostics.angular_fisher_score([[1, 0], [-1, 0]], [0, 1])
  with pytest.raises(ValueError, match="one direction"):
    diagnostics.angular_fisher_score([[1, 0], [2, 0]], [0, 1])
  for people, w in (([0, 3], np.eye(2)), ([0, 1], np.eye(3))):
    with pytest.raises(ValueError, match="need a row each"):
      diagnostics.class_angles(np.eye(2), people, prototypes=w)


def slow_reject(scores, same, worth, share, far):
  """False rejects after dropping what lies below the quality at a share."""
  order = np.sort(worth)
  keep = worth >= order[int(round(share * 1000) * len(worth) // 1000)]
  tried = np.r_[-np.inf, scores, np.nextafter(scores, np.inf)]
  good = [t for t in tried if np.mean(scores[~same] >= t) <= far]
  most = max(np.mean(scores[same] >= t) for t in good)
  bar = min(t for t in good if np.mean(scores[same] >= t) == most)
  return 1 - keep.mean(), np.mean(scores[keep & same] < bar)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("far", [0, 0.01, 0.1])
def test_error_versus_reject_matches_a_loop(seed, far):
  rng = np.random.default_rng(seed)
  same = rng.random(300) < 0.5
  worth = rng.integers(0, 40, 300) / 4  # ties
  scores = rng.normal(same * worth / 4, 0.5).round(1)
  curve = quality.error_versus_reject(scores, same, worth, far=far)
  expected = [
    slow_reject(scores, same, worth, share, far)
    for share in np.arange(0, 1, 0.05)
  ]
  rejected, frr = np.array(sorted(set(expected))).T
  np.testing.assert_allclose(curve.rejected, rejected[: len(curve.rejected)])
  np.testing.assert_allclose(curve.frr, frr[: len(curve.frr)])
  assert (curve.thresholds == curve.thresholds[0]).all()
  assert curve.far[0] <= far


def test_a_quality_that_knows_lowers_the_error_and_noise_does_not():
  rng = np.random.default_rng(0)
  same, worth = rng.random(20_000) < 0.5, rng.uniform(0, 1, 20_000)
  scores = rng.normal(same * (0.2 + 2 * worth), 0.3)
  for threshold in ("fixed", "refit"):
    knows = quality.error_versus_reject(
      scores, same, worth, far=0.01, threshold=threshold
    )
    assert (np.diff(knows.frr) < 0.005).all()
    assert knows.frr[0] > 0.2 and knows.frr[-1] < 0.01
    blind = quality.error_versus_reject(
      scores, same, rng.permutation(worth), far=0.01, threshold=threshold
    )
    early = blind.frr[blind.rejected < 0.8]
    assert np.ptp(early) < 0.05
  assert (knows.far <= 0.01).all()  # "refit" keeps the target everywhere
  assert len(knows.rejected) == 20


def test_equal_quality_leaves_one_point():
  curve = quality.error_versus_reject([0.9, 0.1], [1, 0], [5, 5], far=0)
  assert curve.rejected.tolist() == [0] and curve.frr.tolist() == [0]


def test_quality_of_pairs_is_that_of_the_worse():
  assert quality.of_pairs([1, 5], [3, 2]).tolist() == [1, 2]


@pytest.mark.parametrize(
  "change, message",
  [
    ({"quality": [1]}, "quality must be finite"),
    ({"quality": [1, np.nan]}, "quality must be finite"),
    ({"same": [1, 1]}, "2 same and 0 different"),
    ({"scores": [1, np.nan]}, "not finite"),
    ({"far": 2}, "far is 2"),
    ({"step": 0}, "step is 0"),
    ({"threshold": "best"}, '"fixed" or "refit"'),
  ],
)
def test_bad_options_of_reject_are_refused(change, message):
  arguments = {"scores": [1, 0], "same": [1, 0], "quality": [1, 2]} | change
  with pytest.raises(ValueError, match=message):
    quality.error_versus_reject(**arguments)
