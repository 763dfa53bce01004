"""CR-FIQA's ratio of training images, against all prototypes one by one."""

import csv
import pathlib

import numpy as np
import pytest
from helpers import tiny_run as tiny

from facejax.data import image_sets
from facejax.evaluation import certainty, protocols
from facejax.runs import card, classes, embedder, imported
from facejax.runs import net as net_lib

near = pytest.approx


@pytest.fixture
def faces(tmp_path):
  return tiny.write_faces(tmp_path / "faces", people=5, images=3)


@pytest.fixture
def trained(tiny_run, tmp_path):
  """The tiny run's net with prototypes of six people, two of them unseen."""
  net = net_lib.read(tiny_run)
  rows = np.random.default_rng(0).normal(size=(6, tiny.DIM)).astype(np.float32)
  run = tmp_path / "trained"
  about = card.Card(net.card.net, tiny.DIM, tiny.SIZE, crop=0.9)
  weights = imported.ImportedWeights(net.params, net.stats, rows)
  run.mkdir()
  imported.write(run, about, weights)
  names = ["person2", "nobody", "person0", "person3", "stranger", "person1"]
  classes.write(run, names)
  return embedder.load(run, devices=2), rows, names


def options(path):
  return protocols.ProtocolOptions("sure", str(path), batch_size=4)


def test_ratios_are_those_of_all_prototypes(trained, faces):
  model, rows, names = trained
  result = certainty.told(model, options(faces))
  assert "12 images of 4 of the 6 classes" in result.about
  unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
  with open(pathlib.Path(model.run, "report", "sure.csv")) as file:
    table = list(csv.DictReader(file))
  files = image_sets.open_set(str(faces))
  vectors = model.embed([faces / files.name(k) for k in range(len(files))])
  assert len(table) == 12
  ratios, nearer = [], []
  for line in table:
    assert line["person"] != "person4"  # it was not trained on
    index = [files.name(k) for k in range(len(files))].index(line["image"])
    cosines = unit @ vectors[index]
    own = names.index(line["person"])
    target, other = cosines[own], np.delete(cosines, own).max()
    assert float(line["target_cosine"]) == near(target, abs=1e-4)
    assert float(line["nearest_cosine"]) == near(other, abs=1e-4)
    assert float(line["ratio"]) == near(target / (other + 1 + 1e-9), abs=1e-4)
    ratios.append(target / (other + 1))
    nearer.append(target <= other)
  assert result["ratio_mean"] == near(np.mean(ratios), abs=1e-4)
  assert result["ratio_median"] == near(np.median(ratios), abs=1e-4)
  assert result["nearer_to_another"] == np.mean(nearer)
  for one in result.quantities:
    assert one.low <= one.value <= one.high and one.convention


def test_who_was_not_trained_on_has_no_ratio(trained, tmp_path, model):
  others = tiny.write_faces(tmp_path / "others", people=1)
  (others / "person0").rename(others / "somebody")
  with pytest.raises(ValueError, match="give what it was trained on"):
    certainty.told(trained[0], options(others))
  with pytest.raises(ValueError, match="no prototypes"):
    certainty.told(model, options(others))


def test_cosines_against_a_loop():
  rng = np.random.default_rng(1)
  units, rows = (
    x / np.linalg.norm(x, axis=1, keepdims=True)
    for x in (rng.normal(size=(30, 6)), rng.normal(size=(9, 6)))
  )
  own = rng.integers(0, 9, 30)
  target, other = certainty.cosines(
    units.astype(np.float32), rows.astype(np.float32), own
  )
  for k in range(30):
    cosines = rows @ units[k]
    assert target[k] == near(cosines[own[k]], abs=1e-5)
    assert other[k] == near(np.delete(cosines, own[k]).max(), abs=1e-5)
