"""Drawn pairs of any folder of people, nobody in two folds."""

import numpy as np
import pytest
from helpers import tiny_run as tiny

from facejax import evaluate
from facejax.data import image_sets
from facejax.data.pairs import pairs as pair_sets
from facejax.evaluation import drawn, protocols
from facejax.metrics import verification as metrics
from facejax.runs import results


@pytest.fixture(scope="module")
def people(tmp_path_factory):
  folder = tmp_path_factory.mktemp("drawn") / "people"
  return tiny.write_faces(folder, people=20, images=3)


def options(path, name="drawn"):
  return protocols.ProtocolOptions(
    name, str(path), batch_size=4, samples=20, hardest=2
  )


def test_pairs_score_as_embeddings_do(model, people, monkeypatch):
  seen = []
  draw = pair_sets.random_pairs

  def watched(*args, **options):
    seen.append(draw(*args, **options))
    return seen[-1]

  monkeypatch.setattr(pair_sets, "random_pairs", watched)
  result = drawn.verified(model, options(people), count=60, seed=4)
  (pairs,) = seen
  files = image_sets.open_set(people)
  x = model.embed(
    [files.path(k) for k in range(len(files))], batch_size=4, flip=True
  )
  scores = np.sum(x[pairs.first] * x[pairs.second], axis=1, dtype=np.float64)
  assert len(pairs) == 60 and pairs.same.sum() == 30
  folds = [set() for _ in range(10)]
  for side in (pairs.first, pairs.second):
    for index, fold in zip(side, pairs.fold, strict=True):
      folds[fold].add(int(files.labels[index]))
  assert sum(map(len, folds)) == len(set.union(*folds)) <= 20
  expected = metrics.ten_fold_accuracy(scores, pairs.same, pairs.fold)
  assert result["accuracy_facenet"] == pytest.approx(expected.mean)
  expected = metrics.equal_error_rate(scores, pairs.same)
  assert result["equal_error_rate"] == pytest.approx(expected)
  assert "seed 4, nobody in two folds" in result.data["pairs"]


def test_fewer_pairs_rather_than_shared_people():
  labels = np.repeat(np.arange(20), 3)
  assert pair_sets.fitting(labels, at_most=6000, apart=True) == (120, 10)
  # A few images of most people: without `apart` they would be shared.
  labels = np.r_[np.repeat(0, 40), np.repeat(np.arange(1, 20), 2)]
  assert pair_sets.fitting(labels, at_most=6000)[0] > 80
  assert pair_sets.fitting(labels, at_most=6000, apart=True) == (40, 10)
  with pytest.raises(ValueError, match="too few for 10 folds"):
    pair_sets.fitting(np.repeat(np.arange(12), 3), at_most=60, apart=True)


def test_too_few_people_and_nobody_known_are_refused(model, tiny_faces):
  with pytest.raises(ValueError, match="4 people are too few for 10 folds"):
    drawn.verified(model, options(tiny_faces), count=60)
  with pytest.raises(ValueError, match="3 images in .* nobody known"):
    drawn.verified(model, options(tiny_faces / "person1"), count=60)


def test_the_command(model, people, capsys):
  arguments = ["--protocol", "drawn", "--path", str(people), "--fold", "2"]
  arguments += ["--drawn-pairs", "40", "--devices", "2", "--batch-size", "4"]
  assert evaluate.main([model.run, *arguments]) == 0
  assert "Accuracy of one fold" in capsys.readouterr().out
  (result,) = results.read_all(model.run)
  assert result.name == "drawn_people_fold2" and "fold 2 of 10" in result.about
