"""Generated faces: the same everywhere, different where they should be."""

import concurrent.futures
import itertools
import pickle
import subprocess
import sys
import zlib

import numpy as np
import pytest

from facejax.data.pairs import pairs
from facejax.data.synthetic import faces as synthetic
from facejax.data.synthetic import traits
from facejax.metrics import verification


def faces(**options) -> synthetic.SyntheticFaces:
  options = {"num_identities": 6, "images_per_identity": 4} | options
  return synthetic.SyntheticFaces(**options)


def digest(source: synthetic.SyntheticFaces) -> list[int]:
  return [zlib.crc32(source[i].tobytes()) for i in range(len(source))]


def correlation(a: np.ndarray, b: np.ndarray) -> float:
  return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def grey_rows(source: synthetic.SyntheticFaces) -> np.ndarray:
  return np.stack([source[i].mean(2).ravel() for i in range(len(source))])


@pytest.fixture(scope="module")
def people() -> np.ndarray:
  """Grey rows of 40 people, float [40, 10, pixels]."""
  source = faces(
    num_identities=40,
    images_per_identity=10,
    first_identity=10**6,
    image_size=(24, 24),
  )
  return grey_rows(source).reshape(40, 10, -1)


class TestSource:
  @pytest.mark.parametrize("size", [(64, 64), (112, 96), (33, 80), (16, 16)])
  def test_images_are_uint8_rgb_of_the_asked_size(self, size):
    image = faces(image_size=size)[7]
    assert image.shape == (*size, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert np.ptp(image) > 50

  def test_labels_and_names(self):
    source = faces(num_identities=3, images_per_identity=2, first_identity=7)
    assert len(source) == 6
    assert source.num_classes == 3
    assert source.labels.dtype == np.int32
    assert source.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert list(source.class_names) == ["000007", "000008", "000009"]
    assert source.class_names[1:] == ["000008", "000009"]
    assert source.name(5) == "synthetic/000009/0001"

  def test_millions_of_people_cost_their_labels_only(self):
    source = faces(num_identities=3_000_000, images_per_identity=1)
    assert source.labels.nbytes == 12_000_000
    assert source.class_names[-1] == "2999999"
    assert len(pickle.dumps(source.class_names)) < 1000
    assert source[2_999_999].shape == (64, 64, 3)

  @pytest.mark.parametrize("index", [-1, 24, 10**9])
  def test_index_out_of_range(self, index):
    with pytest.raises(IndexError, match=str(index)):
      faces()[index]

  def test_numpy_indices(self):
    source = faces()
    assert np.array_equal(source[np.int32(9)], source[9])


class TestSameEverywhere:
  def test_order_of_access_and_copies_change_nothing(self):
    source = faces()
    expected = digest(source)
    backwards = [zlib.crc32(source[i].tobytes()) for i in range(23, -1, -1)]
    assert backwards[::-1] == expected
    assert digest(pickle.loads(pickle.dumps(source))) == expected

  def test_global_random_state_is_neither_used_nor_changed(self):
    np.random.seed(1)  # noqa: NPY002
    first = digest(faces(num_identities=1))
    after = np.random.rand()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert np.random.rand() == after  # noqa: NPY002
    assert digest(faces(num_identities=1)) == first

  def test_threads(self):
    source = faces()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
      images = list(pool.map(source.__getitem__, range(24)))
    assert [zlib.crc32(image.tobytes()) for image in images] == digest(source)

  def test_another_process(self):
    program = (
      "import pickle, sys, zlib\n"
      "source = pickle.load(sys.stdin.buffer)\n"
      "print([zlib.crc32(source[i].tobytes()) for i in range(len(source))])"
    )
    source = faces(num_identities=2)
    output = subprocess.run(
      [sys.executable, "-c", program],
      input=pickle.dumps(source),
      capture_output=True,
      check=True,
    ).stdout
    assert output.decode().strip() == str(digest(source))

  def test_an_image_does_not_depend_on_the_size_of_the_set(self):
    small = faces(num_identities=3, images_per_identity=2)
    large = faces(num_identities=50, images_per_identity=9)
    assert np.array_equal(small[3], large[10])
    shifted = faces(first_identity=1, num_identities=1)
    assert np.array_equal(shifted[0], faces()[4])

  @pytest.mark.parametrize("index", range(0, 24, 5))
  def test_same_scene_at_any_size(self, index):
    small = faces(image_size=(32, 32))[index].astype(float)
    large = faces(image_size=(128, 128))[index].astype(float)
    shrunk = large.reshape(32, 4, 32, 4, 3).mean((1, 3))
    assert correlation(small, shrunk) > 0.97


class TestDifferent:
  def test_every_image_of_every_person_and_seed(self):
    sets = [digest(faces(seed=seed)) for seed in (0, 1, 2**64 - 1)]
    sets.append(digest(faces(first_identity=6)))
    assert len(set(itertools.chain(*sets))) == 4 * 24

  def test_huge_identities_do_not_wrap(self):
    firsts = [0, 2**31, 2**32, 2**32 + 1, 2**63, 2**64 - 1]
    images = [
      digest(faces(num_identities=1, first_identity=first)) for first in firsts
    ]
    assert len(set(itertools.chain(*images))) == 4 * len(firsts)
    last = faces(num_identities=1, first_identity=2**64 - 1)
    assert last.class_names[0] == str(2**64 - 1)

  def test_one_person_keeps_the_traits_and_others_differ(self):
    first, again, other = (
      vars(traits.person(0, identity)) for identity in (5, 5, 6)
    )
    for trait in traits.TRAITS:
      low, high = traits.TRAITS[trait]
      assert first[trait] == again[trait] != other[trait]
      assert low <= first[trait] <= high


class TestHardness:
  def test_pixels_hardly_tell_people_apart(self, people):
    """Two pictures of one person are nearly as far apart as any two."""
    within = np.mean([np.abs(p[:, None] - p[None]).sum() / 90 for p in people])
    between = np.mean(np.abs(people[:-1] - people[1:]).sum(-1))
    assert 0.75 < within / between < 1.0

  def test_whitened_pca_stays_low(self, people):
    rows = people.reshape(400, -1)
    train = grey_rows(
      faces(num_identities=150, images_per_identity=8, image_size=(24, 24))
    )
    mean = train.mean(0)
    variance, basis = np.linalg.eigh(np.cov(train.T).astype(np.float32))
    embeddings = (rows - mean) @ (basis[:, -100:] / variance[-100:] ** 0.5)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    source = faces(num_identities=40, images_per_identity=10)
    test = pairs.random_pairs(source, num_pairs=1600)
    scores = np.sum(embeddings[test.first] * embeddings[test.second], axis=1)
    result = verification.ten_fold_accuracy(scores, test.same, test.fold)
    assert 0.55 < result.mean < 0.75

  def test_mean_pictures_of_a_person_do_tell(self, people):
    """Averaging the nuisance away leaves the person: the signal is there."""
    halves = people[:, :5].mean(1), people[:, 5:].mean(1)
    first, second = (half - half.mean(0) for half in halves)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    nearest = np.argmax(first @ second.T, axis=1)
    assert np.mean(nearest == np.arange(40)) > 0.25


class TestErrors:
  @pytest.mark.parametrize(
    ("options", "message"),
    [
      ({"num_identities": 0}, "num_identities=0 .* 1..2147483647"),
      ({"images_per_identity": -3}, "images_per_identity=-3"),
      ({"images_per_identity": 2.5}, "images_per_identity=2.5 .* integer"),
      ({"first_identity": -1}, "first_identity=-1"),
      ({"first_identity": 2**64 - 5}, f"in 0..{2**64 - 6}"),
      ({"seed": -1}, "seed=-1"),
      ({"seed": 2**64}, "seed="),
      ({"seed": None}, "seed=None"),
      ({"image_size": (64,)}, "height, width"),
      ({"image_size": 64}, "image_size=64 must be .height, width"),
      ({"images_per_identity": 10**9}, "in 1..357913941"),
      ({"image_size": (8, 64)}, "image height=8 .* 16..1024"),
      ({"image_size": (64, 5000)}, "image width=5000"),
    ],
  )
  def test_bad_arguments_name_value_and_range(self, options, message):
    with pytest.raises(ValueError, match=message):
      faces(**options)
