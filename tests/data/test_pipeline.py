import itertools
import logging
import multiprocessing
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from facejax.data import images, order, pipeline
from facejax.data.augment import augment as augment_lib


class Tiny:
  """Images that show their index; those in `bad` cannot be read."""

  def __init__(self, size, bad=(), num_classes=5):
    self.labels = np.arange(size, dtype=np.int32) % num_classes
    self.num_classes = num_classes
    self.class_names = [f"person {k}" for k in range(num_classes)]
    self.bad = frozenset(bad)

  def __len__(self):
    return len(self.labels)

  def name(self, index):
    return f"image {index}"

  def __getitem__(self, index):
    if index in self.bad:
      raise images.BadImageError(f"image {index} is damaged")
    return np.full((4, 3, 3), index % 251, np.uint8)


def noise(image, rng):
  return image + rng.integers(0, 5, image.shape, np.uint8)


def take(count, source, **options):
  options = {"batch_size": 4, "seed": 7, "augment": noise, **options}
  stream = pipeline.batches(source, **options)
  taken = list(itertools.islice(stream, count))
  stream.close()
  return taken


def assert_same(actual, expected):
  assert len(actual) == len(expected)
  for a, b in zip(actual, expected, strict=True):
    assert a.keys() == b.keys()
    for key in a:
      np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_batches_have_the_promised_types_and_labels():
  source = Tiny(10)
  for batch in take(6, source, augment=None):
    assert {k: (v.dtype, v.shape) for k, v in batch.items()} == {
      "image": (np.uint8, (4, 4, 3, 3)),
      "label": (np.int32, (4,)),
      "record_id": (np.int64, (4,)),
      "replaced": (np.bool_, (4,)),
    }
    np.testing.assert_array_equal(
      batch["image"][:, 0, 0, 0], batch["record_id"]
    )
    np.testing.assert_array_equal(batch["label"], batch["record_id"] % 5)
    assert not batch["replaced"].any()


@pytest.mark.parametrize("size", [10, order.SMALL + 4])
def test_every_epoch_holds_every_record_in_a_new_order(size):
  batch_size = size // 2
  taken = take(6, Tiny(size), batch_size=batch_size, augment=None)
  records = np.concatenate([batch["record_id"] for batch in taken])
  epochs = records.reshape(3, size)
  np.testing.assert_array_equal(np.sort(epochs), [np.arange(size)] * 3)
  assert (epochs[0] != epochs[1]).any()
  assert (epochs[1] != epochs[2]).any()
  other = take(2, Tiny(size), batch_size=batch_size, augment=None, seed=8)
  assert (np.concatenate([b["record_id"] for b in other]) != epochs[0]).any()


@pytest.mark.parametrize("size", [10, order.SMALL])
def test_replay_from_every_start(size):
  source = Tiny(size, bad=[3])
  reference = take(12, source)
  for start in range(12):
    assert_same(take(12 - start, source, start_step=start), reference[start:])


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_threads_do_not_change_the_stream(threads):
  assert_same(take(8, Tiny(10), threads=threads), take(8, Tiny(10), threads=0))


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_same_global_batch(count):
  whole = take(6, Tiny(10, bad=[3]))
  shares = [
    take(6, Tiny(10, bad=[3]), places=range(index, 4, count))
    for index in range(count)
  ]
  for step, batch in enumerate(whole):
    for key, value in batch.items():
      parts = np.stack([share[step][key] for share in shares], axis=1)
      np.testing.assert_array_equal(parts.reshape(value.shape), value)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_the_stream(workers):
  augment = augment_lib.Augment(shift=1, erase=0.5)
  options = {"augment": augment, "start_step": 3}
  expected = take(6, Tiny(10, bad=[3]), **options)
  assert_same(take(6, Tiny(10, bad=[3]), workers=workers, **options), expected)


def test_a_worker_that_is_killed_is_told():
  batches = pipeline.batches(Tiny(10), batch_size=4, seed=0, workers=1)
  next(batches)
  for child in multiprocessing.active_children():
    child.kill()
  with pytest.raises(pipeline.ReaderLostError, match="exit code -9"):
    # What it had read before is still there.
    list(itertools.islice(batches, 10))


def test_augmentation_differs_between_epochs():
  source = Tiny(4)
  first, second = take(2, source)
  by_record = [b["image"][np.argsort(b["record_id"])] for b in (first, second)]
  assert (by_record[0] != by_record[1]).any()


def test_batch_may_be_larger_than_the_source():
  (batch,) = take(1, Tiny(3), batch_size=8, augment=None)
  assert np.bincount(batch["record_id"]).min() >= 2


def test_bad_record_is_replaced_by_the_same_identity_and_named_once(caplog):
  source = Tiny(15, bad=[8])
  with caplog.at_level(logging.WARNING, "facejax.data"):
    taken = take(15, source, batch_size=5, augment=None)
  joined = {k: np.concatenate([b[k] for b in taken]) for k in taken[0]}
  bad = joined["record_id"] == 8
  assert bad.sum() == 5
  np.testing.assert_array_equal(joined["replaced"], bad)
  assert (joined["image"][bad] == 13).all()
  assert (joined["label"][bad] == 3).all()
  assert caplog.messages == ["replaced by image 13: image 8 is damaged"]


def test_bad_identity_is_replaced_by_the_next_record_and_its_label():
  taken = take(4, Tiny(10, bad=[3, 8]), batch_size=5, augment=None)
  joined = {k: np.concatenate([b[k] for b in taken]) for k in taken[0]}
  for record, substitute in ((3, 4), (8, 9)):
    bad = joined["record_id"] == record
    assert (joined["image"][bad] == substitute).all()
    assert (joined["label"][bad] == 4).all()


def test_a_source_that_cannot_be_read_at_all_stops():
  with pytest.raises(images.BadImageError, match="nor can any of"):
    take(1, Tiny(6, bad=range(6)))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
    ({"places": []}, r"must be some of \[0, 4\)"),
    ({"places": [0, 4]}, r"must be some of \[0, 4\)"),
    ({"places": [-1]}, r"must be some of \[0, 4\)"),
    ({"seed": -1}, "seed=-1 must lie in"),
    ({"start_step": -1}, "start_step=-1"),
  ],
)
def test_arguments_are_checked_before_the_first_batch(options, message):
  with pytest.raises(ValueError, match=message):
    pipeline.batches(Tiny(10), **{"batch_size": 4, "seed": 0, **options})


def test_an_empty_source_is_refused():
  with pytest.raises(ValueError, match="the source is empty"):
    pipeline.batches(Tiny(0), batch_size=4, seed=0)


def test_iterators_left_open_end_quietly(tmp_path):
  script = """
    import numpy as np
    from facejax.data import pipeline

    class Source:
      num_classes, class_names = 2, ["a", "b"]
      labels = np.array([0, 1], np.int32)
      def __len__(self): return 2
      def __getitem__(self, index): return np.zeros((8, 8, 3), np.uint8)
      def name(self, index): return str(index)

    stream = pipeline.batches(Source(), batch_size=64, seed=0, threads=2)
    next(stream)
    other = pipeline.batches(Source(), batch_size=64, seed=0)
    next(other)
    other.close()
    other.close()
    assert next(other, None) is None
  """
  done = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(script)],
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert (done.returncode, done.stderr) == (0, "")


def test_steps_per_epoch():
  assert pipeline.steps_per_epoch(9525, 128) == 74
  assert pipeline.steps_per_epoch(5, 128) == 1
