import pickle

import numpy as np
import pytest

from facejax.data import subsets


class Letters:
  """People a, b, c with 3, 1 and 2 images of one byte each."""

  num_classes = 3
  labels = np.array([0, 0, 0, 1, 2, 2], np.int32)

  def __init__(self, class_names=("a", "b", "c")):
    self.class_names = class_names

  def __len__(self):
    return len(self.labels)

  def encoded(self, index):
    return b"%d" % index

  def name(self, index):
    return f"{self.class_names[self.labels[index]]}/{index}"


def content(files):
  assert files.labels.dtype == np.int32
  assert set(files.labels) == set(range(files.num_classes))
  for k, label in enumerate(files.labels):
    assert files.name(k).startswith(files.class_names[label] + "/")
  return [int(files.encoded(k)) for k in range(len(files))]


@pytest.mark.parametrize(
  ("options", "names", "images"),
  [
    ({}, ["a", "b", "c"], [0, 1, 2, 3, 4, 5]),
    ({"only": ["c", "a"]}, ["a", "c"], [0, 1, 2, 4, 5]),
    ({"without": ["a", "zoe"]}, ["b", "c"], [3, 4, 5]),
    ({"min_images": 2}, ["a", "c"], [0, 1, 2, 4, 5]),
    ({"only": ["b", "c"], "min_images": 2}, ["c"], [4, 5]),
    ({"without_images": [1, 3]}, ["a", "c"], [0, 2, 4, 5]),
    ({"without_images": [5], "min_images": 2}, ["a"], [0, 1, 2]),
  ],
)
def test_subset_keeps_the_order_and_renumbers(options, names, images):
  subset = subsets.Subset(Letters(), **options)
  assert subset.class_names == names
  assert content(subset) == images
  assert content(pickle.loads(pickle.dumps(subset))) == images
  for index in (-1, len(images)):
    with pytest.raises(IndexError):
      subset.encoded(index)


def test_subset_explains_what_is_missing():
  with pytest.raises(ValueError, match=r"1 of 2 listed.*'bb' \(is it 'b'\?\)"):
    subsets.Subset(Letters(), only=["a", "bb"])
  with pytest.raises(ValueError, match="none has 4 or more"):
    subsets.Subset(Letters(), min_images=4)


@pytest.mark.parametrize(
  ("by_name", "names", "labels"),
  [
    (
      False,
      ["a", "b", "c", "b", "d", "e"],
      [0, 0, 0, 1, 2, 2, 3, 3, 3, 4, 5, 5],
    ),
    (True, ["a", "b", "c", "d", "e"], [0, 0, 0, 1, 2, 2, 1, 1, 1, 3, 4, 4]),
  ],
)
def test_joined_renumbers_the_people(by_name, names, labels):
  parts = [Letters(), Letters(("b", "d", "e"))]
  joined = subsets.Joined(parts, by_name=by_name)
  assert joined.class_names == names
  assert joined.labels.tolist() == labels
  assert content(joined) == 2 * [0, 1, 2, 3, 4, 5]
  for index in (-1, 12):
    with pytest.raises(IndexError):
      joined.encoded(index)
  with pytest.raises(ValueError, match="nothing to join"):
    subsets.Joined([])


def test_parts_and_unions_nest():
  half = subsets.Subset(Letters(), only=["c"])
  joined = subsets.Joined([half, Letters(("x", "y", "z"))])
  assert content(subsets.Subset(joined, min_images=2)) == [4, 5, 0, 1, 2, 4, 5]
