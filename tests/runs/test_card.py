"""What is stored beside the weights."""

import dataclasses
import json

import pytest

from facejax.runs import card, folder
from facejax.training import config


def a_card(**changes):
  return card.Card(
    **{"net": "iresnet18", "embedding_dim": 512, "image_size": (112, 112)}
    | changes
  )


def test_what_is_written_is_read(tmp_path):
  whole = a_card(
    crop=0.9, norm="lrn", averaged=True, colors="BGR", images=9, identities=3,
    trained_on="faces", loss="nsl()", source="a file", versions={"jax": "1"},
  )  # fmt: skip
  path = card.write(tmp_path, whole)
  assert path.name == folder.CARD
  assert card.read(tmp_path) == whole
  assert [entry.name for entry in tmp_path.iterdir()] == [folder.CARD]


def test_an_older_run_has_its_card_in_its_configuration(tmp_path):
  run = config.Config(
    data=config.DataConfig(
      source="folder", path="faces", image_size=(96, 112), crop=0.8
    ),
    optim=config.OptimConfig(ema=0.99),
  )
  (tmp_path / "config.json").write_text(json.dumps(config.flatten(run)))
  found = card.read(tmp_path)
  assert found == card.from_config(config.flatten(run))
  assert (found.net, found.embedding_dim) == ("iresnet50", 512)
  assert (found.image_size, found.crop, found.averaged) == (
    (96, 112),
    0.8,
    True,
  )
  assert found.trained_on == "faces (folder)"
  assert found.loss == "cosface(scale=64.0, margin=0.35)"


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"colors": "RBG"}, "RGB, BGR"),
    ({"norm": "layer"}, "batch, lrn"),
    ({"image_size": (112,)}, "height, width"),
    ({"image_size": (112, 0)}, "height, width"),
    ({"embedding_dim": 0}, "embedding_dim=0"),
    ({"crop": 1.5}, "crop=1.5"),
    ({"crop": "a"}, "crop='a'"),
    ({"pixel_scale": 0.0}, "pixel_scale=0.0 must be above 0"),
    ({"pixel_mean": float("nan")}, "pixel_mean=nan must be a finite number"),
    ({"pixel_mean": "0"}, "pixel_mean='0' must be a finite number"),
  ],
)
def test_what_no_net_here_can_do_is_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    a_card(**changes)


@pytest.mark.parametrize(
  "text", ["", "[]", "{}", '{"net": 1}', '{"nett": "iresnet18"}', "\0"]
)
def test_a_damaged_card_names_its_file(tmp_path, text):
  (tmp_path / folder.CARD).write_text(text)
  with pytest.raises(ValueError, match=r"model\.json cannot be used"):
    card.read(tmp_path)


def test_another_folder_is_no_run(tmp_path):
  with pytest.raises(
    FileNotFoundError, match="not the folder of a trained net"
  ):
    card.read(tmp_path)


def test_a_later_field_is_not_ignored(tmp_path):
  stored = dataclasses.asdict(a_card()) | {"whiten": True}
  (tmp_path / folder.CARD).write_text(json.dumps(stored))
  with pytest.raises(ValueError, match="whiten"):
    card.read(tmp_path)
