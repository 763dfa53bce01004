"""Who is held out of a set, and the pairs of these people."""

import numpy as np
import pytest

from facejax.data import held_out, images, subsets

SHARE = 0.3


class People:
  """So many images a person, of one pixel: the number of the image.

  The second image of a person whose name ends in x cannot be read.
  """

  def __init__(self, names, counts):
    self.class_names = list(names)
    self.num_classes = len(self.class_names)
    self.labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)

  def __len__(self):
    return len(self.labels)

  def name(self, index):
    place = index - int(np.searchsorted(self.labels, self.labels[index]))
    return f"{self.class_names[self.labels[index]]}/{place}"

  def encoded(self, index):
    return self.name(index).encode()


class Pixels:
  """Them as a source."""

  def __init__(self, files):
    self.files = files
    self.labels = files.labels

  def __getitem__(self, index):
    name = self.files.encoded(index).decode()
    if name.endswith("x/1"):
      raise images.BadImageError(f"{name!r} cannot be read")
    return np.zeros((1, 1, 3), np.uint8)


def named(count, images_each=4, ending=""):
  return People([f"p{k}{ending}" for k in range(count)], [images_each] * count)


def test_it_is_a_share_of_those_with_two_images_or_more():
  files = People([f"p{k}" for k in range(40)], [1, 2, 5, 3] * 10)
  chosen = held_out.people(files, share=SHARE, seed=0)
  assert len(chosen) == len(set(chosen)) == round(SHARE * 30)
  assert not any(int(name[1:]) % 4 == 0 for name in chosen)
  assert set(held_out.able(files)) > set(chosen)
  assert held_out.people(files, share=0.0, seed=0) == []


def test_neither_order_nor_newcomers_choose_others():
  names = [f"p{k}" for k in range(50)]
  chosen = held_out.people(People(names, [3] * 50), share=SHARE, seed=5)
  turned = People(names[::-1], [3] * 50)
  assert held_out.people(turned, share=SHARE, seed=5) == chosen
  more = People(["new", *names], [3] * 51)
  others = held_out.people(more, share=SHARE, seed=5)
  assert len(set(others) ^ set(chosen)) <= 2
  assert held_out.people(turned, share=SHARE, seed=6) != chosen


def test_the_lots_are_drawn_once_and_for_all():
  # Runs go on with other versions, too: these names may never change.
  assert held_out.people(named(10), share=SHARE, seed=0) == ["p7", "p5", "p8"]


def test_pairs_are_drawn_by_the_seed_and_half_of_them_genuine():
  files = named(30)
  first, again, other = (
    held_out.pairs(files, Pixels, at_most=60, seed=seed) for seed in (1, 1, 2)
  )
  assert first.name == "held_out"
  for name in ("first", "second", "same", "fold"):
    np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
  assert not np.array_equal(first.first, other.first)
  assert len(first) == 60 and first.same.sum() == 30
  both = files.labels[[first.first, first.second]]
  np.testing.assert_array_equal(both[0] == both[1], first.same)
  assert np.bincount(first.fold).tolist() == [6] * 10
  folds_of = [set(first.fold[(both == k).any(axis=0)]) for k in range(30)]
  assert max(map(len, folds_of)) == 1


def test_others_take_the_place_of_images_that_cannot_be_read(caplog):
  files = named(20, ending="x")
  found = held_out.pairs(files, Pixels, at_most=2000, seed=0)
  assert isinstance(found.source.files, subsets.Subset)
  # Of four images of each person three are left: three pairs each.
  assert (len(found), found.same.sum()) == (120, 60)
  assert "cannot be read: 20 images, such as p0x/1, p1x/1, p2x/1" in caplog.text
  with pytest.raises(images.BadImageError, match="p.*x/1"):
    held_out.pairs(files, Pixels, at_most=2000, seed=0, skip=False)
  with pytest.raises(ValueError, match="0 genuine and 1 impostor pairs"):
    held_out.pairs(named(2, 2, "x"), Pixels, at_most=2000, seed=0)
