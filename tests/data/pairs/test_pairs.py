import dataclasses

import numpy as np
import pytest
from PIL import Image

from facejax.data import images, subsets
from facejax.data.pairs import lfw, pairs
from facejax.data.stores import folder

PEOPLE = ("Ann", "Bob", "Cyd")


@dataclasses.dataclass
class Labelled:
  """A source of which only the labels are ever read."""

  labels: np.ndarray

  def __len__(self):
    return len(self.labels)


def labelled(*counts):
  return Labelled(np.repeat(np.arange(len(counts)), counts).astype(np.int32))


def write(path, text):
  path.write_text(text)
  return path


@pytest.fixture
def faces(tmp_path):
  root = tmp_path / "faces"
  for k, person in enumerate(PEOPLE):
    (root / person).mkdir(parents=True)
    for n in (1, 2, 3):
      value = np.full((6, 6, 3), 20 * k + n, np.uint8)
      suffix = "png" if n < 3 else "PGM"
      Image.fromarray(value if n < 3 else value[..., 0]).save(
        root / person / f"{person}_{n:04d}.{suffix}",
        format="PNG" if n < 3 else "PPM",
      )
  return root


VIEW_2 = "2\t1\nAnn\t1\t2\nAnn\t1\tBob\t3\nCyd\t2\t3\nBob\t2\tCyd\t1\n"


def test_folds_follow_the_file(tmp_path):
  read = lfw.read_lfw_pairs(write(tmp_path / "pairs.txt", VIEW_2))
  assert read == [
    lfw.LfwPair(2, ("Ann", 1), ("Ann", 2), 0),
    lfw.LfwPair(3, ("Ann", 1), ("Bob", 3), 0),
    lfw.LfwPair(4, ("Cyd", 2), ("Cyd", 3), 1),
    lfw.LfwPair(5, ("Bob", 2), ("Cyd", 1), 1),
  ]
  assert [pair.same for pair in read] == [True, False, True, False]


@pytest.mark.parametrize("header", ["30", "1\t30"])
def test_one_fold_is_split_into_ten_balanced_ones(tmp_path, header):
  same = [f"Ann\t1\t{n}" for n in range(2, 32)]
  different = [f"Ann\t{n}\tBob\t{n}" for n in range(1, 31)]
  text = "\r\n".join([header, *same, *different, ""])
  read = lfw.read_lfw_pairs(write(tmp_path / "dev.txt", text))
  folds = np.array([pair.fold for pair in read])
  assert (np.bincount(folds[:30]) == 3).all()
  assert (np.bincount(folds[30:]) == 3).all()
  assert (np.diff(folds[:30]) >= 0).all()


def test_spaces_separate_where_there_are_no_tabs(tmp_path):
  spaced = VIEW_2.replace("\t", " ")
  assert lfw.read_lfw_pairs(
    write(tmp_path / "a.txt", spaced)
  ) == lfw.read_lfw_pairs(write(tmp_path / "b.txt", VIEW_2))


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "is empty"),
    ("Ann\t1\t2\n", "line 1: expected a header"),
    ("1\nAnn\t1\t2\n", "line 2: the header announces 2 pairs, the file has 1"),
    ("1\nAnn\t1\t2\nAnn\t1\t3\n", "line 3: expected the impostor pair"),
    ("1\nAnn\t1\tx\nAnn\t1\tBob\t3\n", "line 2: expected the genuine pair"),
    ("1\nAnn\t1\t-2\nAnn\t1\tBob\t3\n", "line 2: expected the genuine pair"),
    ("1\nAnn\t1\t1\nAnn\t1\tBob\t3\n", "line 2: .* repeats itself"),
    ("1\nAnn\t1\t2\nAnn\t1\tAnn\t3\n", "line 3: .* repeats itself"),
    ("1\n../Ann\t1\t2\nAnn\t1\tBob\t3\n", "line 2: '../Ann' is no name"),
    ("1\n..\t1\t2\nAnn\t1\tBob\t3\n", r"line 2: '\.\.' is no name"),
    ("1\nAnn\t1\t2\nAnn\t1\tB\\b\t3\n", "line 3: .* is no name"),
  ],
)
def test_malformed_pairs_name_the_line(tmp_path, text, message):
  with pytest.raises(ValueError, match=message):
    lfw.read_lfw_pairs(write(tmp_path / "pairs.txt", text))


def test_people_in_one_set_and_in_several(tmp_path):
  one = write(tmp_path / "dev.txt", "2\nAnn\t3\nBob\t1\n")
  assert lfw.read_lfw_people(one) == [["Ann", "Bob"]]
  several = write(tmp_path / "people.txt", "2\n1\nAnn\t3\n2\nBob\t1\nCyd\t1\n")
  assert lfw.read_lfw_people(several) == [["Ann"], ["Bob", "Cyd"]]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("Ann\t3\n", "line 1: expected a count"),
    ("3\nAnn\t3\nBob\t1\n", "line 1: the set has 2 people, not 3"),
    ("1\nAnn\t3\nBob\t1\n", "line 3: more people"),
    ("2\nAnn\t3\nBob\n", "line 3: expected 'NAME<tab>COUNT'"),
    ("2\n1\nAnn\t3\nBob\t1\n", "line 4: expected the count of a set"),
  ],
)
def test_malformed_people_name_the_line(tmp_path, text, message):
  with pytest.raises(ValueError, match=message):
    lfw.read_lfw_people(write(tmp_path / "people.txt", text))


@pytest.mark.parametrize(
  ("text", "names"),
  [
    ("# chosen\nAnn\n\nBob Ross\nAnn\n", ["Ann", "Bob Ross"]),
    ("Ann\t3\nBob\t1\n", ["Ann", "Bob"]),
    ("0000045\n0000099\n17\n", ["0000045", "0000099", "17"]),
    ("2\nAnn\t3\nBob\t1\n", ["Ann", "Bob"]),
    ("2\n1\nAnn\t3\n1\nBob\t1\n", ["Ann", "Bob"]),
  ],
)
def test_identities_from_any_list(tmp_path, text, names):
  assert lfw.read_identities(write(tmp_path / "list.txt", text)) == names


def test_identity_lists_that_are_missing_or_empty(tmp_path):
  with pytest.raises(FileNotFoundError, match="there is no file"):
    lfw.read_identities(tmp_path / "nowhere.txt")
  with pytest.raises(ValueError, match="lists no identity"):
    lfw.read_identities(write(tmp_path / "list.txt", "# nobody\n"))


def test_pairs_find_their_images(tmp_path, faces):
  file = write(tmp_path / "view2.txt", VIEW_2)
  found = pairs.open_pairs(file, root=faces, image_size=(6, 6))
  assert (found.name, len(found), len(found.source)) == ("view2", 4, 7)
  values = [
    [int(found.source[i][0, 0, 0]) for i in side]
    for side in (found.first, found.second)
  ]
  assert values == [[1, 1, 42, 22], [2, 23, 43, 41]]
  assert found.same.tolist() == [True, False, True, False]
  assert found.fold.tolist() == [0, 0, 1, 1]
  labels = found.source.labels
  assert (found.same == (labels[found.first] == labels[found.second])).all()
  assert found.first.dtype == found.fold.dtype == np.int32


def test_missing_and_damaged_images_stop(tmp_path, faces):
  file = write(tmp_path / "pairs.txt", VIEW_2)
  (faces / "Bob" / "Bob_0002.png").write_bytes(b"\x89PNG\r\n\x1a\n")
  with pytest.raises(images.BadImageError, match=r"Bob_0002\.png"):
    pairs.open_pairs(file, root=faces, image_size=(6, 6))
  (faces / "Bob" / "Bob_0002.png").unlink()
  with pytest.raises(FileNotFoundError, match=r"line 5: .*Bob_0002\.jpg"):
    pairs.open_pairs(file, root=faces, image_size=(6, 6))
  with pytest.raises(FileNotFoundError, match="no image folder"):
    pairs.open_pairs(file, root=faces / "nowhere", image_size=(6, 6))


def assert_sound(drawn, num_pairs):
  labels = drawn.source.labels
  a, b = labels[drawn.first], labels[drawn.second]
  np.testing.assert_array_equal(drawn.same, a == b)
  assert (len(drawn), drawn.same.sum()) == (num_pairs, num_pairs // 2)
  assert (drawn.first != drawn.second).all()
  pair = np.sort(np.stack([drawn.first, drawn.second]), axis=0)
  assert len(np.unique(pair, axis=1).T) == num_pairs
  for k in np.unique(drawn.fold):
    assert 2 * drawn.same[drawn.fold == k].sum() == (drawn.fold == k).sum()


def people_of(drawn, fold):
  labels, mask = drawn.source.labels, drawn.fold == fold
  return {*labels[drawn.first[mask]], *labels[drawn.second[mask]]}


def test_random_pairs_keep_each_person_in_one_fold():
  source = labelled(*[5] * 30, *[1] * 20)
  drawn = pairs.random_pairs(source, num_pairs=204, folds=10)
  assert_sound(drawn, 204)
  assert sorted(np.bincount(drawn.fold)) == [20] * 8 + [22] * 2
  everyone = [people_of(drawn, k) for k in range(10)]
  assert sum(map(len, everyone)) == len(set.union(*everyone))


def test_random_pairs_are_spread_over_the_people():
  drawn = pairs.random_pairs(labelled(200, *[3] * 30), num_pairs=60, folds=1)
  labels = drawn.source.labels[drawn.first[drawn.same]]
  assert np.bincount(labels).max() == 1


def test_random_pairs_share_people_only_where_they_must():
  drawn = pairs.random_pairs(labelled(6, 6), num_pairs=60, folds=10)
  assert_sound(drawn, 60)
  assert (np.bincount(drawn.fold) == 6).all()


def test_random_pairs_depend_on_the_seed_alone():
  source = labelled(*[4] * 20)
  draw = [pairs.random_pairs(source, num_pairs=80, seed=s) for s in (1, 1, 2)]
  np.testing.assert_array_equal(draw[0].second, draw[1].second)
  assert (draw[0].second != draw[2].second).any()


@pytest.mark.parametrize(
  ("counts", "num_pairs", "message"),
  [
    ((6, 6), 62, "30 genuine and 36 impostor .* at most 60 pairs"),
    ((9,), 20, "36 genuine and 0 impostor"),
    ((5, 5), 21, "must be even and at least 20"),
    ((5, 5), 18, "must be even and at least 20"),
  ],
)
def test_random_pairs_that_cannot_be(counts, num_pairs, message):
  with pytest.raises(ValueError, match=message):
    pairs.random_pairs(labelled(*counts), num_pairs=num_pairs)


def test_lfw_people_and_their_images(data_folder):
  protocol = data_folder / "lfw_protocol"
  sets = lfw.read_lfw_people(protocol / "people.txt")
  assert (len(sets), sum(map(len, sets))) == (10, 5749)
  train = lfw.read_identities(protocol / "peopleDevTrain.txt")
  test = lfw.read_identities(protocol / "peopleDevTest.txt")
  assert (len(train), len(test)) == (4038, 1711)
  assert not {*train} & {*test}
  for min_images, people, count in ((1, 4038, 9525), (2, 1184, 6671)):
    files = folder.ImageFolder(data_folder / "lfw_112", identities=train)
    source = subsets.Subset(files, min_images=min_images)
    assert (source.num_classes, len(source)) == (people, count)


@pytest.mark.parametrize(
  ("name", "size", "fold"),
  [
    ("pairsDevTrain", 2200, 220),
    ("pairsDevTest", 1000, 100),
    ("pairs", 6000, 600),
  ],
)
def test_lfw_pairs_resolve_to_files(data_folder, name, size, fold):
  found = pairs.open_pairs(
    data_folder / "lfw_protocol" / f"{name}.txt",
    root=data_folder / "lfw_112",
    image_size=(112, 112),
  )
  assert (len(found), found.same.sum()) == (size, size // 2)
  assert (np.bincount(found.fold) == fold).all()
  assert (np.bincount(found.fold[found.same]) == fold // 2).all()


@pytest.mark.parametrize(
  ("counts", "at_most", "expected"),
  [
    # Folds apart at no cost, and at that of some pairs.
    ([5] * 20, 2000, (400, 10)),
    ([9] * 5 + [8] * 15, 2000, (1120, 10)),
    # One person a fold makes no impostor pair: people lie in several.
    ([20] * 10, 2000, (2000, 10)),
    # Few genuine pairs in most folds: apart, most pairs would be lost.
    ([30] + [2] * 30, 2000, (930, 10)),
    ([5] * 20, 61, (60, 10)),
    ([2] * 3, 2000, (6, 3)),
    ([2, 2], 2000, (4, 2)),
  ],
)
def test_as_many_pairs_as_fit(counts, at_most, expected):
  source = labelled(*counts)
  num_pairs, folds = pairs.fitting(source.labels, at_most=at_most)
  assert (num_pairs, folds) == expected
  found = pairs.random_pairs(source, num_pairs=num_pairs, folds=folds)
  assert len(found) == num_pairs and 2 * found.same.sum() == num_pairs


def test_too_few_pairs_are_told():
  for counts in ([1] * 9, [2], [2, 1, 1]):
    with pytest.raises(ValueError, match="two of each are the least"):
      pairs.fitting(labelled(*counts).labels, at_most=2000)
