"""facejax.evaluation.verification: with embeddings that are known beforehand."""

import dataclasses
import logging
import threading
import types

import numpy as np
import pytest
import rich.console

from facejax.data.pairs import pairs as pair_sets
from facejax.evaluation import pair_rates, verification, while_training
from facejax.metrics import validation
from facejax.runs import net as net_lib
from facejax.runtime import mesh as mesh_lib

_PEOPLE, _IMAGES, _DIM = 12, 3, 8


class _Source:
  """Images whose first pixel is the person and second the running number."""

  num_classes = _PEOPLE
  labels = np.repeat(np.arange(_PEOPLE), _IMAGES).astype(np.int32)
  class_names = tuple(f"person {person}" for person in range(_PEOPLE))

  def __init__(self, odd=None):
    self.odd = odd
    self.reads = []
    self.lock = threading.Lock()

  def __len__(self):
    return len(self.labels)

  def __getitem__(self, index):
    with self.lock:
      self.reads.append(index)
    image = np.zeros((6, 4, 3), np.uint8)
    image[0, 0], image[0, 1] = self.labels[index], index
    return image if index != self.odd else image[1:]

  def name(self, index):
    return f"{self.class_names[self.labels[index]]}, image {index}"


def _pairs(folds=4, **options):
  """Pairs each image of a person with the next, and with the next person's."""
  index = np.arange(_PEOPLE * _IMAGES)
  neighbour = index // _IMAGES * _IMAGES + (index + 1) % _IMAGES
  stranger = (index + _IMAGES) % index.size
  return pair_sets.PairSet(
    name="twelve",
    source=_Source(**options),
    first=np.tile(index, 2).astype(np.int32),
    second=np.r_[neighbour, stranger].astype(np.int32),
    same=np.repeat([True, False], index.size),
    fold=np.tile(index % folds, 2).astype(np.int32),
  )


def _random_embed(images):
  """A fixed random vector of a random length for each image."""
  return np.stack(
    [
      np.random.default_rng(image[0, 1, 0]).normal(size=_DIM)
      for image in images
    ]
  )


def _perfect_embed(images):
  return 7 * np.eye(_PEOPLE, dtype=np.float32)[images[:, 0, 0, 0]]


def test_perfect_embeddings_score_perfectly():
  result = verification.evaluate_pairs(_perfect_embed, _pairs(), batch_size=5)
  assert result.name == "twelve"
  np.testing.assert_array_equal(result.scores, result.same.astype(float))
  metrics = result.metrics
  assert metrics["accuracy"] == metrics["tar_at_far_1e-1"] == 1
  assert metrics["area_under_curve"] == 1
  assert metrics["accuracy_std"] == metrics["equal_error_rate"] == 0
  # The first squared distance on the grid that accepts distance zero is 0.01.
  assert metrics["threshold"] == pytest.approx(0.995)
  assert "mirror image summed" in result.convention
  assert "4 folds" in result.convention


def test_random_embeddings_are_scored_by_cosine():
  pairs = _pairs()
  result = verification.evaluate_pairs(_random_embed, pairs, batch_size=7)
  vectors = _random_embed([pairs.source[i] for i in range(len(pairs.source))])
  for k in range(len(pairs)):
    a, b = vectors[pairs.first[k]], vectors[pairs.second[k]]
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert result.scores[k] == pytest.approx(cosine)
  assert 0.3 < result.metrics["accuracy"] < 0.7


def test_image_and_mirror_image_are_summed_then_normalised():
  # From an independent program; normalising first would give 0.76338.
  even = np.array([2.0, 1.0, 0.0]) + np.array([0.3, 0.2, 0.1])
  odd = np.array([1.0, 2.0, 1.0]) + np.array([0.2, 0.5, 0.4])

  def embed(images):
    return np.where(images[:, 0, 0, :1] % 2, odd, even)

  result = verification.evaluate_pairs(embed, _pairs(), batch_size=36)
  np.testing.assert_allclose(result.scores[result.same], 1)
  np.testing.assert_allclose(result.scores[~result.same], 0.731574243187461)


@pytest.mark.parametrize("batch_size", [1, 5, 36, 50])
def test_each_image_is_embedded_once_in_batches_of_one_shape(batch_size):
  shapes, seen = [], []

  def embed(images):
    shapes.append(images.shape)
    assert images.dtype == np.uint8
    seen.extend(images[:, 0, 1, 0])
    return _random_embed(images)

  pairs = _pairs()
  result = verification.evaluate_pairs(embed, pairs, batch_size=batch_size)
  assert set(shapes) == {(batch_size, 6, 4, 3)}
  padding = -36 % batch_size
  assert seen == [*range(36), *[35] * padding]
  assert sorted(pairs.source.reads) == list(range(36))
  expected = verification.evaluate_pairs(_random_embed, pairs, batch_size=36)
  np.testing.assert_array_equal(result.scores, expected.scores)


def test_embeddings_of_padding_are_dropped():
  calls = []

  def embed(images):
    calls.append(images)
    embeddings = _perfect_embed(images)
    if len(calls) == 4:  # 36 images in tens: four of the last batch are padding
      embeddings[6:] = np.nan
    return embeddings

  result = verification.evaluate_pairs(embed, _pairs(), batch_size=10)
  assert len(calls) == 4
  assert result.metrics["accuracy"] == 1


def test_images_that_no_pair_names_are_not_read():
  pairs = _pairs()
  few = pair_sets.PairSet(
    name="few",
    source=pairs.source,
    first=np.int32([30, 30, 3, 3]),
    second=np.int32([31, 3, 4, 30]),
    same=np.array([True, False, True, False]),
    fold=np.int32([0, 0, 1, 1]),
  )
  verification.evaluate_pairs(_perfect_embed, few, batch_size=3)
  assert sorted(pairs.source.reads) == [3, 4, 30, 31]


def test_only_rates_that_the_impostors_resolve_are_reported():
  metrics = verification.evaluate_pairs(
    _perfect_embed, _pairs(), batch_size=36
  ).metrics
  rates = [key for key in metrics if key.startswith("tar_at_far")]
  assert rates == ["tar_at_far_1e-1"]  # 36 impostor pairs
  assert "given_threshold" not in metrics


def test_validation_rates_are_reported_where_resolved():
  result = verification.evaluate_pairs(_random_embed, _pairs(), batch_size=36)
  expected = validation.validation_at_far(
    result.scores, result.same, result.fold, far=0.1
  )
  rates = {k: v for k, v in result.metrics.items() if k.startswith("val_at")}
  assert rates == {  # 27 impostor pairs outside of each fold
    "val_at_far_1e-1": expected.mean,
    "val_at_far_1e-1_standard_error": expected.standard_error,
    "val_at_far_1e-1_far": expected.far,
  }
  assert "VAL@FAR = mean ± standard error" in result.convention
  (row,) = [s for s in _printed([result]).splitlines() if "VAL@1e-1" in s]
  mean, error = 100 * expected.mean, 100 * expected.standard_error
  assert row.split() == ["VAL@1e-1", f"{mean:.2f}", "±", f"{error:.2f}"]


def test_no_validation_rate_without_both_kinds_in_every_fold():
  pairs = _pairs()
  fold = pairs.fold.copy()
  fold[pairs.same & (fold == 3)] = 0
  result = verification.evaluate_pairs(
    _perfect_embed, dataclasses.replace(pairs, fold=fold), batch_size=36
  )
  assert result.metrics["accuracy"] == 1
  assert not any(key.startswith("val_at") for key in result.metrics)
  assert "VAL@" not in result.convention + _printed([result])


def test_given_threshold_is_applied():
  result = verification.evaluate_pairs(
    _perfect_embed, _pairs(), batch_size=36, threshold=-0.5
  )
  assert result.metrics["given_threshold"] == -0.5
  assert result.metrics["accuracy_at_given_threshold"] == 0.5


def test_items_are_named_after_the_set_or_the_prefix():
  result = verification.evaluate_pairs(_perfect_embed, _pairs(), batch_size=36)
  assert dict(result.items())["twelve/accuracy"] == 1
  assert list(result.items("best")) == [
    (f"best/{key}", value) for key, value in result.metrics.items()
  ]


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_useless_embeddings_name_the_image(value):
  def embed(images):
    embeddings = _perfect_embed(images)
    embeddings[images[:, 0, 0, 0] == 4] = value
    return embeddings

  with pytest.raises(
    ValueError, match=r"twelve: 3 of 36 .* person 4, image 12; .*learning rate"
  ):
    verification.evaluate_pairs(embed, _pairs(), batch_size=5)


@pytest.mark.parametrize(
  "embed, shape",
  [
    (lambda images: np.ones((3, 4)), r"\(3, 4\)"),
    (lambda images: np.ones((len(images), 2, 2)), r"\(5, 2, 2\)"),
    (lambda images: np.ones(len(images)), r"\(5,\)"),
  ],
)
def test_wrong_embedding_shapes_are_refused(embed, shape):
  with pytest.raises(ValueError, match=rf"returned shape {shape} for 5 images"):
    verification.evaluate_pairs(embed, _pairs(), batch_size=5)


def test_bad_sets_are_refused_by_name():
  with pytest.raises(ValueError, match=r"person 6, image 20 is .*\(5, 4, 3\)"):
    verification.evaluate_pairs(_perfect_embed, _pairs(odd=20), batch_size=36)
  with pytest.raises(
    ValueError, match="pair set twelve: all pairs are in fold"
  ):
    verification.evaluate_pairs(_perfect_embed, _pairs(folds=1), batch_size=36)
  none = np.zeros(0, np.int32)
  empty = dataclasses.replace(
    _pairs(), first=none, second=none, same=none.astype(bool), fold=none
  )
  with pytest.raises(ValueError, match="pair set twelve: there are no pairs"):
    verification.evaluate_pairs(_perfect_embed, empty, batch_size=36)
  with pytest.raises(ValueError, match="batch_size is 0"):
    verification.evaluate_pairs(_perfect_embed, _pairs(), batch_size=0)


def test_a_failing_read_is_passed_on():
  pairs = _pairs()
  pairs.second[0] = 99
  with pytest.raises(IndexError):
    verification.evaluate_pairs(_perfect_embed, pairs, batch_size=5)


def _printed(results):
  console = rich.console.Console(width=80, color_system=None)
  with console.capture() as capture:
    console.print(verification.table(results))
  return capture.get()


def test_table_shows_each_set_once_and_the_convention():
  plain = verification.evaluate_pairs(_random_embed, _pairs(), batch_size=36)
  given = verification.evaluate_pairs(
    _perfect_embed, _pairs(), batch_size=36, threshold=0.5
  )
  text = _printed([plain, given])
  rows = [line.split() for line in text.splitlines() if "twelve" in line]
  assert len(rows) == 2
  assert rows[0][-2] == "-"  # no threshold was given
  assert rows[1][1:5] == ["72", "100.00", "±", "0.00"]
  assert rows[1][-3:] == ["0.00", "100.00", "1.0000"]
  assert " 1e-1 " in text
  assert "1e-2" not in text
  assert text.count("mirror image") == 1
  assert "given" not in _printed([plain])


def test_full_rows_fit_eighty_columns():
  result = verification.evaluate_pairs(
    _perfect_embed, _pairs(), batch_size=36, threshold=0.5
  )
  rates = {f"tar_at_far_{far}": 0.99 for far in pair_rates.FAR_TARGETS}
  full = dataclasses.replace(
    result, name="lfw_dev_test", metrics=result.metrics | rates
  )
  (row,) = [s for s in _printed([full]).splitlines() if "lfw_dev_test" in s]
  assert row.replace("±", " ").split() == [
    "lfw_dev_test",
    *("72", "100.00", "0.00", "0.995"),
    *("99.00", "99.00", "99.00"),
    *("0.00", "100.00", "1.0000"),
  ]


def test_table_prints_names_literally():
  result = verification.evaluate_pairs(_perfect_embed, _pairs(), batch_size=36)
  named = dataclasses.replace(result, name="[red]set[/red]")
  assert "[red]set[/red]" in _printed([named])


def _spoilt(**changes):
  return dataclasses.replace(_pairs(), **changes)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"same": np.ones(2 * _PEOPLE * _IMAGES, bool)}, "twelve: there are 72"),
    ({"fold": np.zeros(2 * _PEOPLE * _IMAGES, int)}, "all pairs are in fold 0"),
    ({"fold": np.repeat([0, 1], _PEOPLE * _IMAGES)}, "all of one kind"),
    ({n: np.zeros(0, int) for n in ("same", "first", "second", "fold")}, "no"),
  ],
)
def test_pairs_are_refused_before_anything_is_embedded(changes, message):
  with pytest.raises(ValueError, match=message):
    while_training.check([_pairs()], _spoilt(name="twelve", **changes))


def test_two_sets_of_one_name_are_refused_before_training():
  while_training.check([])
  while_training.check([_pairs(), _spoilt(name="more")], _spoilt(name="others"))
  for sets in (([_pairs()], _pairs()), ([_pairs(), _pairs()], None)):
    with pytest.raises(ValueError, match="reported as 'twelve'"):
      while_training.check(*sets)


def test_a_verification_that_fails_is_told_of_and_ends_nothing(caplog):
  def embed(*_):
    raise RuntimeError("out of memory")

  verifier = while_training.Verifier(
    embed,
    [_pairs()],
    None,
    mesh=mesh_lib.make_mesh(devices=1),
    batch_size=8,
    urgent=lambda: False,
  )
  state = types.SimpleNamespace(step=7, params={}, stats={}, average=None)
  with caplog.at_level(logging.ERROR, "facejax"):
    assert verifier(state) == []
  assert verifier.failed == [7]
  assert "step 7 failed: out of memory" in caplog.text
  verifier.urgent = lambda: True
  assert verifier(state) is None


def test_a_threshold_chosen_on_one_set_is_applied_to_all_others():
  def embed(params, stats, images):
    del params, stats
    return _perfect_embed(np.asarray(images))

  sets = [_pairs(), _spoilt(name="more")]
  found = while_training.verify(
    embed,
    net_lib.Trunk({}, {}),
    sets,
    _spoilt(name="others"),
    mesh=mesh_lib.make_mesh(devices=1),
    batch_size=8,
  )
  assert [one.name for one in found] == ["twelve", "more", "others"]
  given = ["accuracy_at_given_threshold" in one.metrics for one in found]
  assert given == [True, True, False]
  names = [name for one in found for name, _ in one.items()]
  assert len(set(names)) == len(names) and "more/accuracy" in names
