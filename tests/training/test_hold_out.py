"""Runs on a folder of one's own, verified on people who are not trained on."""

import json
import logging
import shutil

import numpy as np
import pytest
from helpers import pair_packs, small_training, tiny_run

from facejax import verify
from facejax.data import pipeline
from facejax.evaluation import overlap
from facejax.runs import card, classes, folder, metrics_file
from facejax.training import config as config_lib
from facejax.training import held_out, inputs, recipe, staged

SIMPLE = [*small_training.SMALL, "--model.name", "sphereface4"]
HOLD_OUT = "--eval.hold-out"
# People in each batch, of twenty.
NEARLY_ALL = [
  *("--data.identities-per-batch", 19, "--data.images-of-identity", 2),
  *("--batch-size", 38),
]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
  """A folder of twenty people with four images each."""
  root = tmp_path_factory.mktemp("own") / "faces"
  return tiny_run.write_faces(root, people=20, images=4)


def command(where, *flags):
  return [*SIMPLE, "--data.path", where, "--steps", 2, *flags]


def opened(where, *flags):
  words = [*map(str, command(where, *flags))]
  return inputs.opened(recipe.parse(words).to_config())


def pairs(found):
  return held_out.pairs(found.config, found.held_out)


def left(where, count, *, with_one=0):
  """Takes people away, and all images but one of others."""
  for place in sorted(where.iterdir())[count:]:
    shutil.rmtree(place)
  for place in sorted(where.iterdir())[:with_one]:
    for image in sorted(place.iterdir())[1:]:
      image.unlink()
  return where


@pytest.fixture(scope="module")
def run(tmp_path_factory, people):
  """A run on one device, which no test may change, and what it said."""
  workdir = tmp_path_factory.mktemp("run") / "run"
  words = command(people, HOLD_OUT, 0.3, "--eval.every", 1)
  code, output = small_training.call(
    [*words, "--mesh.devices", 1, "--workdir", workdir]
  )
  assert code == 0, output
  return workdir, output


def test_nobody_held_out_is_in_a_batch(people):
  found = opened(people, HOLD_OUT, 0.25)
  assert found.held_out is not None
  apart = set(found.held_out.class_names)
  assert len(apart) == 5 and found.images.num_classes == 15
  assert apart.isdisjoint(found.images.class_names)
  batches = pipeline.batches(found.images, batch_size=20, seed=0)
  seen = [next(batches) for _ in range(6)]
  batches.close()
  records = np.concatenate([batch["record_id"] for batch in seen])
  assert len(np.unique(records)) == len(found.images) == 60
  names = {found.images.name(int(index)).split("/")[0] for index in records}
  assert names == {f"person{k}" for k in range(20)} - apart


def test_pairs_are_those_of_the_people_held_out(people):
  found = opened(people, HOLD_OUT, 0.25)
  (one,) = pairs(found)
  (again,) = pairs(opened(people, HOLD_OUT, 0.25))
  names = [one.source.class_names[label] for label in one.source.labels]
  assert set(names) == set(found.held_out.class_names)
  assert one.name == "held_out" and 2 * one.same.sum() == len(one) == 40
  assert one.source[0].shape == (32, 32, 3)
  for name in ("first", "second", "same", "fold"):
    np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
  for other in (("--seed", 8), ("--eval.num-pairs", 20)):
    (another,) = pairs(opened(people, HOLD_OUT, 0.25, *other))
    assert not np.array_equal(one.first, another.first)
  assert len(another) == 20


def test_a_tenth_is_held_out_from_twenty_people_on(people, tmp_path, caplog):
  found = opened(people)
  assert found.config.eval.hold_out == 0.1
  assert found.images.num_classes == 18 and len(pairs(found)) == 1
  assert "2 people held out make 24 pairs" in caplog.text
  fewer = left(shutil.copytree(people, tmp_path / "fewer"), 19)
  # Those with one image stay where they are, and do not count.
  lonely = left(shutil.copytree(people, tmp_path / "lonely"), 20, with_one=1)
  for where, count in ((fewer, 19), (lonely, 20)):
    found = opened(where)
    assert found.config.eval.hold_out == 0 and found.held_out is None
    assert found.images.num_classes == count and pairs(found) == []
  some = opened(lonely, HOLD_OUT, 0.11)
  assert some.held_out is not None and some.held_out.num_classes == 2
  assert min(np.bincount(some.held_out.labels)) == 4


def test_nobody_is_held_out_if_other_pairs_are_there(
  people, tmp_path, monkeypatch
):
  pack = pair_packs.write(tmp_path / "mine.bin")
  for flags in (
    (HOLD_OUT, 0),
    ("--eval.pairs", pack),
    ("--eval.pairs", "none"),
    NEARLY_ALL,
  ):
    found = opened(people, *flags)
    assert found.config.eval.hold_out == 0 and found.held_out is None
    assert found.images.num_classes == 20
  beside = shutil.copytree(people, tmp_path / "beside")
  shutil.copy(pack, beside / "lfw.bin")
  assert opened(beside).held_out is None
  # A preset's own pairs are those of the field.
  monkeypatch.setenv("FACEJAX_DATA", str(tmp_path / "data"))
  published = recipe.load("cosface.py:casia_r50")
  assert published.eval.pairs and published.eval.hold_out is None


def test_both_are_verified_on_if_both_are_asked_for(people, tmp_path):
  pack = pair_packs.write(tmp_path / "mine.bin")
  found = opened(people, HOLD_OUT, 0.3, "--eval.pairs", pack)
  length = inputs.length(found.config, len(found.images))
  (part,) = staged.parts(found, length)
  assert [one.name for one in part.data.pairs] == ["mine", "held_out"]
  assert part.program.like.prototypes.shape[0] >= 14


def test_only_the_first_of_several_sets_gives_people(people, tmp_path):
  more = shutil.copytree(people, tmp_path / "more")
  found = opened(people, HOLD_OUT, 0.2, "--data.join", f"folder:{more}")
  assert found.images.num_classes == 16 + 20
  alone = opened(people, HOLD_OUT, 0.2)
  assert found.held_out.class_names == alone.held_out.class_names


def test_people_who_are_left_out_are_not_held_out(people, tmp_path):
  (tmp_path / "out.txt").write_text("".join(f"person{k}\n" for k in range(10)))
  found = opened(people, HOLD_OUT, 0.2, "--data.exclude", tmp_path / "out.txt")
  assert found.images.num_classes == 8
  names = {*found.images.class_names, *found.held_out.class_names}
  assert names == {f"person{k}" for k in range(10, 20)}


def test_who_has_one_image_of_everybody_is_told(people, tmp_path, caplog):
  where = left(shutil.copytree(people, tmp_path / "one"), 20, with_one=20)
  with caplog.at_level(logging.INFO, "facejax"):
    found = opened(where)
  assert found.config.eval.hold_out == 0 and found.images.num_classes == 20
  assert "ends without a threshold: 0 of 20 people have two" in caplog.text
  assert "add images of the same people, or name pairs" in caplog.text
  with pytest.raises(ValueError, match=r"hold_out=0\.5 of 0 people.*add"):
    opened(where, HOLD_OUT, 0.5)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ((HOLD_OUT, 0.04), r"hold_out=0\.04 of 20 .* is 1,.*--eval.hold-out 0.1 "),
    ((HOLD_OUT, 0.99), r"hold_out=0\.99 holds all 20 people out"),
    ((HOLD_OUT, 0.95), "has 1 identities"),
    ((HOLD_OUT, 1), r"hold_out=1\.0 is out of range"),
    ((HOLD_OUT, 0.2, "--data.source", "synthetic"), "goes with images in file"),
  ],
)
def test_shares_that_cannot_be_are_refused(people, flags, message):
  with pytest.raises(ValueError, match=message):
    opened(people, *flags)


def test_too_few_pairs_name_the_flag(people, tmp_path):
  where = shutil.copytree(people, tmp_path / "faces")
  for place in where.iterdir():
    first, *_ = sorted(place.iterdir())
    first.write_bytes(first.read_bytes()[:200])
    for image in sorted(place.iterdir())[2:]:
      image.unlink()
  with pytest.raises(ValueError, match=r"hold_out=0\.1: 2 .*--eval.hold-out 0"):
    pairs(opened(where, "--data.max-bad-share", 1))


def test_the_run_ends_with_a_threshold(run, people, capsys):
  workdir, output = run
  for words in (
    "held out",
    "24 images of 6 identities, never",
    "in 10",
    "14 id",
  ):
    assert words in " ".join(output.split())
  assert [*metrics_file.metrics(workdir)] == ["held_out"]
  threshold = metrics_file.threshold(workdir)
  assert threshold is not None and threshold.pairs == "held_out"
  # It is kept with the net, with all that is known of it.
  assert card.read(workdir).threshold == threshold
  assert threshold.low <= threshold.false_matches <= threshold.high
  assert threshold.step and "fingerprint of the pairs" in threshold.data
  faces = sorted((people / "person0").iterdir())[:2]
  # Made faces are aligned; a detector may be installed or not.
  words = [*map(str, faces), "--json", "--align", "off"]
  assert verify.main([str(workdir), *words]) == 0
  told = json.loads(capsys.readouterr().out)
  assert told["same_person"] is not None
  assert told["threshold"] == threshold.cosine


def test_what_is_kept_of_a_run_says_who_was_trained_on(run, people):
  workdir, _ = run
  names = opened(people, HOLD_OUT, 0.3).images.class_names
  assert classes.read(workdir) == names
  assert card.read(workdir).identities == len(names) == 14
  assert (
    "a share of 0.3 of the people held out" in card.read(workdir).trained_on
  )
  assert overlap.trained_on(workdir).names == set(names)


@pytest.mark.slow
def test_a_run_goes_on_with_the_same_people_on_other_devices(
  run, people, tmp_path
):
  workdir, _ = run
  again = shutil.copytree(workdir, tmp_path / "again")
  words = command(people, "--steps", 3, "--workdir", again)
  # Who is held out belongs to the run: the flag may be left out, not changed.
  code, said = small_training.call([*words, "--mesh.devices", 8])
  assert code == 0, said
  assert "resumed at step 2" in said and "24 images of 6 identities" in said
  assert classes.read(again) == classes.read(workdir)
  whole = tmp_path / "whole"
  code, said = small_training.call(
    command(people, "--steps", 3, HOLD_OUT, 0.3, "--workdir", whole)
  )
  assert code == 0 and "24 images of 6 identities" in said, said
  both = [metrics_file.metrics(one)["held_out"] for one in (again, whole)]
  assert both[0]["accuracy"] == pytest.approx(both[1]["accuracy"], abs=0.1)
  code, said = small_training.call([*words, HOLD_OUT, 0.2])
  assert code == 2 and "eval.hold_out: 0.3 there, 0.2 here" in said
  code, said = small_training.call(
    [*words, "--steps", 4, "--eval.pairs", "none", "--mesh.devices", 1]
  )
  assert code == 0 and "nothing was verified" in said, said


def test_people_whom_the_net_has_seen_before_are_told(run, people, caplog):
  workdir, _ = run
  # The same people are held out again; by another seed others are.
  opened(people, HOLD_OUT, 0.3, "--init-from", workdir)
  assert "too good" not in caplog.text
  found = opened(people, HOLD_OUT, 0.3, "--init-from", workdir, "--seed", 8)
  known = set(classes.read(workdir)) & set(found.held_out.class_names)
  assert f"{len(known)} of the 6 people held out are classes of" in caplog.text


@pytest.mark.slow
def test_a_folder_from_before_goes_on_with_everybody(people, tmp_path):
  words = command(people, "--mesh.devices", 1, "--workdir", tmp_path / "run")
  code, output = small_training.call([*words, HOLD_OUT, 0])
  assert code == 0 and "nothing was verified" in output, output
  stored = folder.read_config(tmp_path / "run")
  assert stored is not None and stored.pop("eval.hold_out") == 0
  (tmp_path / "run" / "config.json").write_text(json.dumps(stored))
  code, output = small_training.call([*words, HOLD_OUT, 0.1])
  assert code == 2 and "eval.hold_out: 0.0 there, 0.1 here" in output
  code, output = small_training.call([*words, "--steps", 3])
  assert code == 0 and "resumed at step 2" in output, output
  assert len(classes.read(tmp_path / "run")) == 20
  told = folder.read_config(tmp_path / "run")
  assert told is not None and told["eval.hold_out"] == 0


def test_it_is_a_number_in_every_folder_and_none_before(people):
  assert config_lib.stored(config_lib.Config())["eval.hold_out"] is None
  assert inputs.opened(recipe.load("cosface.py")).config.eval.hold_out == 0
  found = opened(people).config
  assert held_out.begun(found) == found
