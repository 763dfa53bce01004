"""TinyFace, in the official layout, against a loop over probes."""

import shutil

import numpy as np
import pytest
from PIL import Image

from facejax import evaluate
from facejax.data.synthetic import faces as synthetic
from facejax.evaluation import protocols, tinyface
from facejax.runs import results

PEOPLE, STRANGERS = 5, 12


@pytest.fixture
def testing_set(tmp_path):
  source = synthetic.SyntheticFaces(
    num_identities=PEOPLE + STRANGERS,
    images_per_identity=4,
    seed=2,
    image_size=(20, 16),
  )
  root = tmp_path / "Testing_Set"
  for folder in ("Probe", "Gallery_Match", "Gallery_Distractor"):
    (root / folder).mkdir(parents=True)
  for k in range(PEOPLE):
    for n in range(4):
      folder = "Probe" if n < 2 else "Gallery_Match"
      # Numbers of people need not follow each other.
      path = root / folder / f"{7 * k + 3}_{n}.png"
      Image.fromarray(np.asarray(source[4 * k + n])).save(path)
  for k in range(STRANGERS):
    path = root / "Gallery_Distractor" / f"{k}.png"
    Image.fromarray(np.asarray(source[4 * (PEOPLE + k)])).save(path)
  return root


def options(path):
  return protocols.ProtocolOptions("tinyface", str(path), batch_size=4)


def test_probes_are_ranked_as_a_loop_does(model, testing_set):
  result = tinyface.searched(model, options(testing_set))
  x, who = {}, {}
  for folder in ("Probe", "Gallery_Match", "Gallery_Distractor"):
    files = sorted((testing_set / folder).iterdir())
    x[folder] = model.embed(files, batch_size=4, flip=True)
    who[folder] = [path.stem.split("_")[0] for path in files]
  ranks = []
  for probe, person in zip(x["Probe"], who["Probe"], strict=True):
    best = {}
    for one, name in zip(x["Gallery_Match"], who["Gallery_Match"], strict=True):
      best[name] = max(best.get(name, -1), probe @ one)
    others = [score for name, score in best.items() if name != person]
    others += [probe @ one for one in x["Gallery_Distractor"]]
    ranks.append(1 + sum(score >= best[person] for score in others))
  assert max(ranks) > 5  # something is to be found wrong
  for k in (1, 5, 10):
    assert result[f"rank_{k}"] == np.mean(np.asarray(ranks) <= k)
  assert [q.key for q in result.quantities] == ["rank_1", "rank_5", "rank_10"]
  assert "10 probes of 5 people, 10 images of mates, 12" in result.about


def test_layouts_that_are_none(model, testing_set):
  odd = testing_set / "Probe" / "ann.png"
  shutil.copy(testing_set / "Probe" / "3_0.png", odd)
  with pytest.raises(ValueError, match=r"ann\.png' is not called PERSON"):
    tinyface.searched(model, options(testing_set))
  odd.rename(testing_set / "Probe" / "99_0.png")
  with pytest.raises(ValueError, match="1 people in Probe .* such as 99"):
    tinyface.searched(model, options(testing_set))
  shutil.rmtree(testing_set / "Gallery_Distractor")
  with pytest.raises(FileNotFoundError, match="Gallery_Distractor"):
    tinyface.searched(model, options(testing_set))


def test_the_command(model, testing_set, capsys):
  arguments = [model.run, "--protocol", "tinyface", "--path", str(testing_set)]
  assert evaluate.main([*arguments, "--devices", "2", "--batch-size", "4"]) == 0
  assert "Rank-10" in capsys.readouterr().out
  (result,) = results.read_all(model.run)
  assert result.name == "tinyface"
