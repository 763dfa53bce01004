"""What a run is verified on: by name, beside its images, or nothing."""

import dataclasses
import logging

import pytest
from helpers import pair_packs

from facejax.training import config, inputs, recipe


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
  """A folder of records with packs beside them."""
  folder = tmp_path_factory.mktemp("records")
  for k, name in enumerate(("lfw", "cfp_fp", "agedb_30")):
    pair_packs.write(folder / f"{name}.bin", seed=k)
  (folder / "train.rec").write_bytes(b"")
  return folder


def found(*flags):
  given = "--data.image-size", "16", "16", *map(str, flags)
  return inputs.verification_pairs(recipe.parse(given))


def names(*flags):
  return [one.name for one in found(*flags)[0]]


def test_packs_and_folders_of_packs_are_verified_on_together(shipped):
  more = pair_packs.write(shipped / "more.dat")
  assert names("--eval.pairs", more, shipped) == [
    *("more", "agedb_30", "cfp_fp", "lfw"),
  ]
  more.unlink()
  sets, chosen_on = found(
    *("--eval.pairs", shipped / "lfw.bin", shipped / "cfp_fp.bin"),
    *("--eval.threshold-pairs", shipped / "agedb_30.bin"),
  )
  assert [one.name for one in sets] == ["lfw", "cfp_fp"]
  assert chosen_on is not None and chosen_on.name == "agedb_30"


def test_packs_beside_the_records_are_verified_on_by_themselves(
  shipped, caplog
):
  with caplog.at_level(logging.INFO, "facejax"):
    assert names("--data.path", shipped) == ["agedb_30", "cfp_fp", "lfw"]
  assert "beside the images: agedb_30.bin, cfp_fp.bin, lfw.bin" in caplog.text
  assert names("--data.path", shipped, "--eval.pairs", "none") == []
  assert names("--data.path", shipped / "train.rec")[2] == "lfw"
  only = "--eval.pairs", shipped / "lfw.bin"
  assert names("--data.path", shipped, *only) == ["lfw"]


def test_generated_people_are_verified_on_unless_switched_off():
  assert names("--eval.num-pairs", 40) == ["unseen identities"]
  assert names("--eval.pairs", "none") == []


def test_the_field_s_presets_take_the_packs_beside_the_records(
  shipped, tmp_path, monkeypatch
):
  preset = "--config", "cosface.py:ms1mv3_r50"
  monkeypatch.setenv("FACEJAX_DATA", str(tmp_path))
  (lfw,) = recipe.parse(preset).eval.pairs
  assert lfw.endswith("pairs.txt")
  # Packs of images that are named by hand come before the preset's list.
  assert recipe.parse([*preset, "--data.path", str(shipped)]).eval.pairs == ()
  (tmp_path / "ms1mv3").symlink_to(shipped)
  assert recipe.parse(preset).eval.pairs == ()


def test_one_set_may_stand_by_itself_in_a_recipe():
  assert config.EvalConfig(pairs="pairs.txt").pairs == ("pairs.txt",)
  assert config.EvalConfig(pairs="").pairs == ()
  old = dataclasses.replace(config.Config(), eval=config.EvalConfig(pairs="a"))
  assert config.stored(old)["eval.pairs"] == ["a"]


def test_broken_packs_are_named_before_anything_is_trained(shipped, tmp_path):
  broken = tmp_path / "lfw.bin"
  broken.write_bytes((shipped / "lfw.bin").read_bytes()[:-100])
  with pytest.raises(ValueError, match=r"lfw\.bin"):
    names("--eval.pairs", shipped / "cfp_fp.bin", broken)
  with pytest.raises(ValueError, match=r"lfw\.bin.*--eval.pairs none"):
    names("--data.path", tmp_path)
  with pytest.raises(FileNotFoundError, match=r"absent\.bin"):
    names("--eval.pairs", tmp_path / "absent.bin")


def test_sets_that_contradict_each_other_are_refused(shipped):
  with pytest.raises(ValueError, match="none goes with no other"):
    names("--eval.pairs", "none", shipped)
  chosen_on = "--eval.threshold-pairs", shipped
  for sets in ((), ("--eval.pairs", "none")):
    with pytest.raises(ValueError, match="needs eval.pairs"):
      names(*sets, *chosen_on)
  with pytest.raises(ValueError, match="holds 3 packs: name the one"):
    names("--eval.pairs", shipped / "lfw.bin", *chosen_on)


def test_waiting_for_a_better_figure_needs_verifications(tmp_path):
  patience = "--eval.patience", 3
  with pytest.raises(ValueError, match=r"eval\.every=0 makes none"):
    names(*patience, "--eval.every", 0)
  with pytest.raises(ValueError, match=r"eval\.pairs=none makes none"):
    names(*patience, "--eval.pairs", "none")
  with pytest.raises(ValueError, match="no packs of pairs lie beside"):
    names(*patience, "--data.path", tmp_path)
  assert names(*patience, "--eval.num-pairs", 40)
