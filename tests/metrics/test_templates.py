"""Templates and videos against loops over their images."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facejax.metrics import templates, video


def images(seed, count=60, dim=4, dtype=np.float64):
  """Features with template, medium, mirror image and detector score."""
  rng = np.random.default_rng(seed)
  x = (rng.normal(size=(2, count, dim)) + 1).astype(dtype)
  return x[0], x[1], rng.integers(0, 9, (2, count)), rng.uniform(0.1, 1, count)


def slow_pool(x, template, media):
  """The loop of the public code."""
  for name in np.unique(template):
    mine, total = template == name, 0
    for medium in np.unique(media[mine]):
      total = total + x[mine & (media == medium)].mean(axis=0)
    yield total / np.linalg.norm(total)


@pytest.mark.parametrize("block", [1, 7, 1 << 14])
@pytest.mark.parametrize("norms", [True, False])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_pool_matches_the_published_loop(block, norms, dtype, monkeypatch):
  monkeypatch.setattr(templates, "_IMAGES", block)
  x, mirror, (template, media), sure = images(0, dtype=dtype)
  pooled = templates.pool(
    x,
    template * 100 - 3,
    media,
    mirrored=mirror,
    keep_norms=norms,
    detector_scores=sure,
  )
  y = x.astype(np.float64) + mirror
  y = y if norms else y / np.linalg.norm(y, axis=1, keepdims=True)
  expected = list(slow_pool(y * sure[:, None], template, media))
  assert pooled.ids.tolist() == (np.unique(template) * 100 - 3).tolist()
  single = dtype != np.float64
  assert pooled.features.dtype == (np.float32 if single else np.float64)
  np.testing.assert_allclose(
    pooled.features, expected, atol=1e-6 if single else 1e-14
  )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_pool_ignores_order_scale_and_repeats_of_a_medium(seed, scale):
  x, _, (template, media), _ = images(seed, count=25)
  pooled = templates.pool(x, template, media).features
  shuffle = np.random.default_rng(seed).permutation(25)
  again = templates.pool(scale * x[shuffle], template[shuffle], media[shuffle])
  np.testing.assert_allclose(again.features, pooled, atol=1e-12)
  # Every frame of a film twice: the mean of the medium stays.
  twice = templates.pool(*(np.r_[part, part] for part in (x, template, media)))
  np.testing.assert_allclose(twice.features, pooled, atol=1e-12)


def test_pair_scores_are_inner_products_in_blocks(monkeypatch):
  monkeypatch.setattr(templates, "_PAIRS", 8)
  rng = np.random.default_rng(0)
  x = rng.normal(size=(6, 3)).astype(np.float32)
  left, right = rng.integers(0, 6, (2, 50))
  scores = templates.pair_scores(x, left, right)
  assert scores.dtype == np.float32
  np.testing.assert_allclose(scores, (x @ x.T)[left, right], rtol=1e-5)
  assert templates.pair_scores(x, [], []).shape == (0,)


def test_a_million_template_pairs_take_a_second_or_so():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2_000, 64)).astype(np.float32)
  left, right = rng.integers(0, 2_000, (2, 1_000_000))
  start = time.process_time()
  scores = templates.pair_scores(x, left, right)
  assert time.process_time() - start < 10
  assert scores[-1] == pytest.approx(x[left[-1]] @ x[right[-1]], rel=1e-4)


def test_rows_are_found_by_id():
  pooled = templates.pool(np.eye(3), ["b", "c", "a"], [0, 0, 0])
  assert pooled.rows(["a", "c", "a"]).tolist() == [0, 2, 0]
  with pytest.raises(ValueError, match="2 of 3 ids .* the first is d"):
    pooled.rows(["a", "d", "0"])


@pytest.mark.parametrize("frames", [None, 1, 3, 1000])
@pytest.mark.parametrize("rule", ["mean_feature", "frame_pairs"])
def test_videos_match_loops_over_frames(rule, frames):
  rng = np.random.default_rng(0)
  film = rng.integers(0, 5, 40)  # frames of five films, interleaved
  x = rng.normal(size=(40, 4)) + 0.5
  pooled = video.pool(x, film, rule=rule, frames=frames)
  left, right = np.triu_indices(5)
  scores = video.scores(pooled, left, right)
  for a, b, score in zip(left, right, scores, strict=True):
    u, v = x[film == a][:frames], x[film == b][:frames]
    if rule == "mean_feature":
      u, v = u.mean(axis=0, keepdims=True), v.mean(axis=0, keepdims=True)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    assert score == pytest.approx((u @ v.T).mean())
    distance = ((u[:, None] - v) ** 2).sum(axis=-1).mean()
    assert 2 - 2 * score == pytest.approx(distance)


def test_means_of_frames_do_not_depend_on_how_they_come():
  rng = np.random.default_rng(1)
  film = rng.integers(0, 5, 40)
  x = rng.normal(size=(40, 4)).astype(np.float32) + np.float32(0.5)
  means = video.FrameMeans(5)
  for start, stop in ((0, 1), (1, 20), (20, 40)):
    means.add(x[start:stop], film[start:stop])
  expected = [x[film == k].mean(axis=0, dtype=np.float64) for k in range(5)]
  np.testing.assert_allclose(means.values(), expected, rtol=1e-12)
  # Of features of length 1 they are the vectors of pairs of frames.
  units = video.FrameMeans(5)
  units.add(x / np.linalg.norm(x, axis=1, keepdims=True), film)
  pooled = video.pool(x, film, rule="frame_pairs")
  np.testing.assert_allclose(pooled.features, units.values(), rtol=1e-5)
  # Their directions are those of mean features.
  pooled = video.pool(x, film).features
  found = means.values()
  found /= np.linalg.norm(found, axis=1, keepdims=True)
  np.testing.assert_allclose(pooled, found, rtol=1e-5)


ONE = {"features": [[1, 0]], "template": [0], "media": [0]}


@pytest.mark.parametrize(
  "change, message",
  [
    ({"features": [[np.nan, 0]]}, "features .* not finite, in row 0"),
    ({"features": [1, 0]}, r"features has shape \(2,\)"),
    ({"template": [0, 1]}, r"template has shape \(2,\)"),
    ({"media": [0.5]}, "media holds floats"),
    ({"mirrored": [[1, 0, 0]]}, r"mirrored \(1, 3\)"),
    ({"detector_scores": [-1]}, "detector_scores"),
    ({"detector_scores": [np.nan]}, "detector_scores"),
    ({"features": [[0, 0]], "keep_norms": False}, "zero vector"),
    ({"mirrored": [[-1, 0]]}, "images of template 0 cancel"),
    ({"detector_scores": [0]}, "images of template 0 cancel"),
  ],
)
def test_bad_templates_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    templates.pool(**(ONE | change))


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: templates.fuse_flip([[1]], [[1, 2]]), r"mirrored \(1, 2\)"),
    (lambda: templates.fuse_flip([[1]], [[1]], rule="mean"), "'concat'"),  # pyright: ignore
    (lambda: templates.pair_scores([[1]], [0, 0], [0]), "left has shape"),
    (lambda: templates.pair_scores([[1]], [0], [1]), "there are 1, from 0"),
    (lambda: templates.pair_scores([[1]], [-1], [0]), "rows -1"),
    (lambda: video.pool([[1]], [0], rule="max"), "'frame_pairs'"),  # pyright: ignore
    (lambda: video.pool([[1]], [0], frames=0), "frames is 0"),
    (lambda: video.pool([[0]], [0], rule="frame_pairs"), "zero vector"),
    (lambda: video.pool([[1], [-1]], [0, 0]), "template 0 cancel"),
    (lambda: video.FrameMeans(2).add([[1]], [2]), "videos 2 … 2; there are 2"),
    (lambda: video.FrameMeans(2).values(), "2 of 2 videos have no frames"),
    (lambda: video.scores(video.pool([[1]], [0]), [0], [4]), "first is 4"),
  ],
)
def test_bad_input_is_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call()
