"""facejax.data.sampling: what every batch and every cycle holds."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facejax.data import pipeline, sampling


@st.composite
def cases(draw):
  """Labels in any order, with P, K and N that they can meet, and a seed."""
  images = draw(st.integers(2, 7))
  large = draw(st.lists(st.integers(images, 4 * images), max_size=7))
  small = draw(st.lists(st.integers(1, images - 1), max_size=12))
  shared = sum(size for size in small if size > 1) // (2 * images)
  if not large and not shared:
    large = [images]
  counts = [*large, *small]
  identities = draw(st.integers(1, len(large) + shared))
  spare = sum(counts) - sum(sorted(large, reverse=True)[:identities])
  spare -= sum(size for size in small if size > 1)
  negatives = draw(st.integers(0, max(0, min(5, spare))))
  labels = draw(
    st.permutations(np.repeat(np.arange(len(counts)), counts).tolist())
  )
  options = {"identities": identities, "images": images, "negatives": negatives}
  seed = draw(st.integers(0, 2**32 - 1))
  return np.array(labels, np.int32), {**options, "seed": seed}


@settings(deadline=None, max_examples=60)
@given(cases(), st.integers(0, 10**7))
def test_every_batch_has_its_size_and_no_image_twice(case, start):
  labels, options = case
  sampler = sampling.Sampler(labels, **options)
  for step in range(start, start + 12):
    batch = sampler.batch(step)
    assert batch.dtype == np.int64
    assert batch.shape == (sampler.batch_size,)
    assert len(np.unique(batch)) == sampler.batch_size
    assert batch.min() >= 0 and batch.max() < len(labels)


@settings(deadline=None, max_examples=60)
@given(cases(), st.integers(0, 10**6))
def test_identities_have_k_images_or_all_of_fewer_places(case, start):
  labels, options = case
  images, identities = options["images"], options["identities"]
  counts = np.bincount(labels)
  sampler = sampling.Sampler(labels, **(options | {"negatives": 0}))
  for step in range(start, start + 6):
    held = np.bincount(labels[sampler.batch(step)], minlength=len(counts))
    large = held[counts >= images]
    assert set(large) <= {0, images}
    # What large identities leave, small ones fill; single images never do.
    assert held[counts < images].sum() == images * (
      identities - np.count_nonzero(large)
    )
    assert not held[counts == 1].any()


@settings(deadline=None, max_examples=60)
@given(cases())
def test_random_negatives_are_of_other_identities(case):
  labels, options = case
  sampler = sampling.Sampler(labels, **options)
  without = sampling.Sampler(labels, **(options | {"negatives": 0}))
  for step in range(8):
    positives = without.batch(step)
    negatives = np.setdiff1d(sampler.batch(step), positives)
    assert len(negatives) == options["negatives"]
    assert not np.isin(labels[negatives], labels[positives]).any()


@settings(deadline=None, max_examples=60)
@given(cases(), st.integers(0, 50))
def test_a_cycle_visits_every_place_before_any_again(case, cycle):
  labels, options = case
  options["negatives"] = 0
  sampler = sampling.Sampler(labels, **options)
  places = sampler.num_places
  begin, end = cycle * places, (cycle + 1) * places
  counts = np.bincount(labels)
  large = np.flatnonzero(counts >= options["images"])
  # Batches that lie within the cycle hold no identity twice.
  first = -(-begin // options["identities"])
  last = end // options["identities"]
  seen = np.zeros(len(counts), int)
  for step in range(first, last):
    seen[np.unique(labels[sampler.batch(step)])] += 1
  assert (seen[large] <= 1).all()
  # All its batches, the two at its ends among them, hold every identity.
  held = [
    labels[sampler.batch(step)]
    for step in range(begin // options["identities"], last + 1)
  ]
  assert np.isin(large, np.concatenate(held)).all()


@settings(deadline=None, max_examples=40)
@given(cases())
def test_every_image_is_seen_before_any_of_its_identity_again(case):
  labels, options = case
  options["negatives"] = 0
  sampler = sampling.Sampler(labels, **options)
  images = options["images"]
  counts = np.bincount(labels)
  seen = np.zeros(len(labels), int)
  steps = 3 * sampler.num_places * counts.max() // options["identities"]
  for step in range(min(steps, 400)):
    seen[sampler.batch(step)] += 1
    for identity in np.flatnonzero(counts >= images):
      mine = seen[labels == identity]
      assert mine.max() - mine.min() <= 1


def test_images_of_shared_places_are_seen_equally_often():
  # 10 identities of 3 images, in places of 8: 30 images in one place.
  labels = np.repeat(np.arange(10), 3)
  sampler = sampling.Sampler(labels, identities=1, images=8, seed=3)
  assert sampler.num_places == 1
  seen = np.zeros(30, int)
  for step in range(60):
    seen[sampler.batch(step)] += 1
    assert seen.max() - seen.min() <= 1
    # Whole identities but for the first and the last, and what waits.
    held = np.bincount(labels[sampler.batch(step)])
    assert np.count_nonzero(held == 3) >= 1


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**6))
def test_windows_differ_within_and_cover_every_lap(size, count, lap):
  count = min(size, count)

  def shuffled(lap):
    return np.random.default_rng([5, lap]).permutation(size)

  first, last = lap * size // count, -(-(lap + 1) * size // count)
  turns = [
    sampling.window(size, count, turn, shuffled) for turn in range(first, last)
  ]
  for turn in turns:
    assert len(np.unique(turn)) == count
  begin = lap * size - first * count
  items = np.concatenate(turns)[begin : begin + size]
  np.testing.assert_array_equal(np.sort(items), np.arange(size))


@pytest.mark.parametrize("size", [5, 31])  # a circle, and laps in a row
def test_laps_are_shuffled_anew(size):
  labels = np.zeros(size, np.int32)
  sampler = sampling.Sampler(labels, identities=1, images=3, seed=0)
  per_lap = size  # turns after which a lap and a turn end together, at most
  laps = {
    tuple(
      np.concatenate([np.sort(sampler.batch(s)) for s in range(b, b + per_lap)])
    )
    for b in range(0, 4 * per_lap, per_lap)
  }
  assert len(laps) == 4


@settings(deadline=None, max_examples=30)
@given(cases(), st.integers(0, 10**7))
def test_a_batch_depends_on_seed_and_step_alone(case, step):
  labels, options = case
  one = sampling.Sampler(labels, **options)
  one.batch(step + 1)
  two = pickle.loads(pickle.dumps(sampling.Sampler(labels, **options)))
  np.testing.assert_array_equal(one.batch(step), two.batch(step))


def test_seeds_and_steps_give_other_batches():
  labels = np.repeat(np.arange(20), 20)
  options = {"identities": 3, "images": 4, "negatives": 5}
  batches = {
    tuple(np.sort(sampling.Sampler(labels, seed=seed, **options).batch(step)))
    for seed in range(5)
    for step in range(5)
  }
  assert len(batches) == 25


def test_p_times_k_of_an_even_set():
  labels = np.tile(np.arange(50), 12)
  sampler = sampling.Sampler(labels, identities=8, images=5, seed=1)
  for step in range(30):
    held = np.bincount(labels[sampler.batch(step)], minlength=50)
    assert np.count_nonzero(held) == 8
    assert set(held) == {0, 5}


def test_single_images_are_drawn_as_negatives_only():
  labels = np.r_[np.repeat(np.arange(4), 6), np.arange(4, 30)]
  sampler = sampling.Sampler(
    labels, identities=4, images=3, negatives=6, seed=0
  )
  seen = np.zeros(30, int)
  for step in range(60):
    held = np.bincount(labels[sampler.batch(step)], minlength=30)
    assert (held[:4] == 3).all()
    assert held[4:].sum() == 6 and held[4:].max() == 1
    seen += held
  assert (seen[4:] > 0).all()


class Source:
  """Images that show their index."""

  def __init__(self, labels):
    self.labels = labels.astype(np.int32)
    self.num_classes = int(labels.max()) + 1
    self.class_names = [f"person {k}" for k in range(self.num_classes)]

  def __len__(self):
    return len(self.labels)

  def name(self, index):
    return f"image {index}"

  def __getitem__(self, index):
    return np.full((2, 2, 3), index, np.uint8)


LABELS = np.r_[np.repeat(np.arange(6), 9), np.arange(6, 20)]
OPTIONS = {"identities": 3, "images": 4, "negatives": 4, "seed": 11}


def noise(image, rng):
  return image + rng.integers(0, 5, image.shape, np.uint8)


def take(count, **options):
  sampler = sampling.Sampler(LABELS, **OPTIONS)
  stream = pipeline.batches(
    Source(LABELS),
    **{"batch_size": 16, "seed": 1, "sampler": sampler} | options,
  )
  taken = list(itertools.islice(stream, count))
  stream.close()
  return taken


def assert_same(actual, expected):
  for a, b in zip(actual, expected, strict=True):
    for key in b:
      np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_pipeline_streams_the_batches_of_the_sampler():
  sampler = sampling.Sampler(LABELS, **OPTIONS)
  for step, batch in enumerate(take(9)):
    records = sampler.batch(step)
    np.testing.assert_array_equal(batch["record_id"], records)
    np.testing.assert_array_equal(batch["label"], LABELS[records])
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], records)


@pytest.mark.parametrize("start", [1, 5])
def test_pipeline_resumes_at_any_step(start):
  whole = take(8, augment=noise)
  assert_same(take(8 - start, augment=noise, start_step=start), whole[start:])


@pytest.mark.parametrize("count", [2, 4])
def test_any_number_of_processes_reads_the_same_batch(count):
  whole = take(5, augment=noise)
  shares = [
    take(5, augment=noise, places=range(index, 16, count))
    for index in range(count)
  ]
  for step, batch in enumerate(whole):
    for key, value in batch.items():
      parts = np.stack([share[step][key] for share in shares], axis=1)
      np.testing.assert_array_equal(parts.reshape(value.shape), value)


@pytest.mark.parametrize("options", [{"threads": 3}, {"workers": 2}])
def test_threads_and_workers_read_the_same_batch(options):
  assert_same(take(4, augment=noise, **options), take(4, augment=noise))


def test_pipeline_refuses_a_sampler_of_something_else():
  with pytest.raises(ValueError, match="batch_size=12, but .* hold 16 images"):
    take(1, batch_size=12)
  other = sampling.Sampler(LABELS[:-1], **OPTIONS)
  with pytest.raises(ValueError, match="for 67 images, the source has 68"):
    take(1, sampler=other)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"identities": 0}, "identities=0 must be at least 1"),
    ({"images": 1}, "images=1 must be at least 2: one image has no positive"),
    ({"negatives": -1}, "negatives=-1 must be at least 0"),
    ({"seed": 2**32}, "seed=4294967296 must lie in"),
    (
      {"identities": 7},
      "identities=7 with images=4 needs 7 places of 4 images, but there are 6:"
      " 6 identities have 4 images or more, 0 with fewer",
    ),
    ({"images": 10}, "there are 2: 0 identities have 10 .* 6 with fewer, but"),
    ({"negatives": 42}, "of 68 images only 41 may be left: 6 identities"),
  ],
)
def test_what_cannot_be_met_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    sampling.Sampler(LABELS, **OPTIONS | options)


@pytest.mark.parametrize("labels", [[], [[0, 0]], [0.0, 1.0], [-1, 0]])
def test_labels_must_be_ints_from_zero(labels):
  with pytest.raises(ValueError, match="labels"):
    sampling.Sampler(np.array(labels), identities=1, images=2, seed=0)


def test_identities_too_few_for_one_shared_place_are_left_to_negatives():
  labels = np.r_[np.zeros(5), [1, 1], [2, 2]].astype(np.int32)
  sampler = sampling.Sampler(
    labels, identities=1, images=5, negatives=2, seed=0
  )
  assert sampler.num_places == 1
  for step in range(5):
    held = np.bincount(labels[sampler.batch(step)], minlength=3)
    assert held[0] == 5 and held[1:].sum() == 2


def test_a_million_images_are_sorted_at_once():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 50_000, 1_000_000, np.int32)
  sampler = sampling.Sampler(
    labels, identities=45, images=18, negatives=90, seed=0
  )
  batch = sampler.batch(10**9)
  held = np.bincount(labels[batch])
  assert len(np.unique(batch)) == 900
  assert np.count_nonzero(held == 18) > 10
