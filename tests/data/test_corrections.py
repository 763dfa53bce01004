"""Lists correct labels and leave images out; bad lines are named."""

import pickle

import numpy as np
import pytest
from helpers import tiny_run

from facejax.data import corrections, formats


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """person0 to person3 with images 0 … 11, three each."""
  return tiny_run.write_faces(tmp_path_factory.mktemp("set") / "people")


def write(path, text):
  path.write_text(text)
  return str(path)


def opened(folder, tmp_path, *, merge="", relabel="", **options):
  renamed = corrections.read(
    write(tmp_path / "merge.csv", merge) if merge else "",
    write(tmp_path / "relabel.csv", relabel) if relabel else "",
  )
  return formats.open_images(folder, renamed=renamed, **options)


def content(files):
  assert files.labels.dtype == np.int32
  assert set(files.labels) == set(range(files.num_classes))
  return [
    f"{files.class_names[label]}={files.name(k).rpartition('/')[2][:-4]}"
    for k, label in enumerate(files.labels)
  ]


CASES = {
  "nothing": ({}, "000111222333"),
  "person": ({"without": ["person1", "zoe"]}, "000...222333"),
  "images": (
    {"without": ["person0/1.png", "person3/9.png", "person0/77.png"]},
    "0.0111222.33",
  ),
  "all images of one": (
    {"without": [f"person2/{k}.png" for k in (6, 7, 8)]},
    "000111...333",
  ),
  "merge": ({"merge": "person,into\nperson3,person1\n"}, "000111222111"),
  "chain": (
    {"merge": "into,person\nperson0,person3\nperson2,person0\n"},
    "222111222222",
  ),
  "relabel": (
    {"relabel": "image,why,person\nperson0/2.png,seen,person3\n"},
    "003111222333",
  ),
  "relabel, then merge": (
    {
      "relabel": "image,person\nperson0/2.png,person3\n",
      "merge": "person,into\nperson3,person1\n",
    },
    "001111222111",
  ),
  "excluded before or after": (
    {
      "relabel": "image,person\nperson0/2.png,person3\nperson3/9.png,person1\n",
      "without": ["person3"],
    },
    "00.111222...",
  ),
  "few images in the end": (
    {
      "relabel": "image,person\nperson0/2.png,person3\n",
      "min_images": 3,
    },
    "..3111222333",
  ),
  "only": (
    {
      "relabel": "image,person\nperson0/2.png,person3\n",
      "only": ["person3"],
    },
    "..3......333",
  ),
}


@pytest.mark.parametrize("case", CASES)
def test_labels_after_all_corrections(folder, tmp_path, case):
  options, expected = CASES[case]
  files = opened(folder, tmp_path, **options)
  # Folders come in the order of their files' names.
  whole = formats.open_images(folder)
  places = [int(whole.name(k).rpartition("/")[2][:-4]) for k in range(12)]
  wanted = [f"person{expected[k]}={k}" for k in places if expected[k] != "."]
  assert content(files) == wanted
  assert content(pickle.loads(pickle.dumps(files))) == wanted
  for k in range(len(files)):
    assert files.encoded(k) == (folder / files.name(k)).read_bytes()


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"merge": "who,into\na,b\n"}, r"merge\.csv:1: the header is 'who,into'"),
    ({"merge": "person,into\na\n"}, r"merge\.csv:2: 1 fields; .* has 2"),
    ({"merge": "person,into\na,\n"}, r"merge\.csv:2: .* one is empty"),
    (
      {"merge": "person,into\nperson1,person2\n\nperson1,person3\n"},
      r"merge\.csv:4: 'person1' has a row already",
    ),
    (
      {"merge": "person,into\nperson1,persn2\n"},
      r"merge\.csv:2: there is no person 'persn2'.*is it 'person2'\?",
    ),
    (
      {"merge": "person,into\nperson1,person1\n"},
      r"merge\.csv:2: 'person1' is merged into itself",
    ),
    (
      {"merge": "person,into\nperson0,person1\nperson1,person0\n"},
      r"merge\.csv:\d: .*circle",
    ),
    (
      {
        "merge": "person,into\nperson0,person1\nperson1,person2\nperson2,person1"
      },
      r"merge\.csv:\d: .*circle",
    ),
    (
      {"relabel": "image,person\nperson0/44.png,person1\n"},
      r"relabel\.csv:2: there is no image 'person0/44\.png'",
    ),
    (
      {"relabel": "image,person\nperson0/0.png,zoe\n"},
      r"relabel\.csv:2: there is no person 'zoe'",
    ),
  ],
)
def test_bad_lines_are_named(folder, tmp_path, options, message):
  with pytest.raises(ValueError, match=message):
    opened(folder, tmp_path, **options)


def test_missing_files_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"no\.csv"):
    corrections.read(str(tmp_path / "no.csv"))


def test_who_is_merged_is_known_by_all_names():
  rows = [("a", "b"), ("b", "c"), ("d", "e")]
  renamed = corrections.Renamed(
    tuple(corrections.Correction(*r, "") for r in rows)
  )
  assert renamed.merged_into({"c"}) == {"a", "b"}
