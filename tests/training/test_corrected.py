"""A run's images with corrected labels: what it trains on, and going on."""

import dataclasses

import pytest
from helpers import tiny_run

from facejax.evaluation import overlap
from facejax.runs import card, folder
from facejax.training import config as config_lib
from facejax.training import inputs, lengths, recipe, staged


@pytest.fixture(scope="module")
def people(tmp_path_factory):
  return tiny_run.write_faces(tmp_path_factory.mktemp("set") / "people")


def parsed(people, *flags):
  sizes = ("--data.image-size", 32, 32, "--batch-size", 8, "--steps", 2)
  given = ("--data.path", people, "--eval.hold-out", 0, *sizes, *flags)
  return recipe.parse([*map(str, given), "--model.name", "iresnet10_slim"])


@pytest.fixture
def lists(tmp_path):
  def write(name, text):
    path = tmp_path / name
    path.write_text(text)
    return path

  return write


def test_lists_of_an_audit_are_trained_with(people, lists):
  config = parsed(
    people,
    *("--data.exclude", lists("out.txt", "person0/0.png\n")),
    *("--data.merge", lists("m.csv", "person,into\nperson1,person2\n")),
    *(
      "--data.relabel",
      lists("r.csv", "image,person\nperson3/9.png,person0\n"),
    ),
  )
  images = inputs.training_images(config)
  assert list(images.class_names) == ["person0", "person2", "person3"]
  assert sorted(images.labels.tolist()) == [0] * 3 + [1] * 6 + [2] * 2
  stored = config_lib.stored(config)
  assert overlap.trained_people(stored).names == {
    *(f"person{k}" for k in range(4))
  }
  assert "m.csv" in card.from_config(stored).trained_on


def test_another_image_left_out_is_noticed(people, lists):
  """Labels and numbers are the same: only the names tell."""
  found = []
  for image in ("person0/0.png", "person0/1.png"):
    config = parsed(people, "--data.exclude", lists("out.txt", image + "\n"))
    opened = inputs.opened(config)
    (part,) = staged.parts(opened, lengths.Length(2, 2))
    found.append(part.data.fingerprint())
  assert found[0].pop("names_crc32") != found[1].pop("names_crc32")
  assert found[0] == found[1]
  plain = dataclasses.replace(part.data, by_name=False)
  assert "names_crc32" not in plain.fingerprint()


def test_older_runs_had_no_corrections(people, tmp_path):
  stored = config_lib.stored(parsed(people, "--workdir", tmp_path / "run"))
  old = {
    k: v for k, v in stored.items() if not k.endswith(("merge", "relabel"))
  }
  folder.check(tmp_path / "run", old)
  folder.check(tmp_path / "run", stored)


@pytest.mark.parametrize("name", ["merge", "relabel", "exclude"])
def test_generated_faces_take_no_lists(name, lists):
  with pytest.raises(ValueError, match=rf"data\.{name} goes with images"):
    recipe.parse([f"--data.{name}", str(lists("a.csv", "person,into\n"))])
