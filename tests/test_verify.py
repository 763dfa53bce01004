"""Two faces from the command line."""

import json

import pytest

from facejax import verify
from facejax.runs import embedder, metrics_file
from facejax.runtime import compile_cache, host_memory, unit_vectors


@pytest.fixture
def command(tiny_model, monkeypatch):
  monkeypatch.setattr(embedder, "load", lambda *_, **__: tiny_model)
  monkeypatch.setattr(compile_cache, "use", lambda: None)
  monkeypatch.setattr(host_memory, "keep_freed_memory", lambda: None)
  return lambda *words: verify.main(list(map(str, words)))


def test_one_face_twice_is_the_same_person(
  command, tiny_run, tiny_faces, capsys
):
  face = tiny_faces / "person0" / "1.png"
  assert command(tiny_run, face, face) == 0
  assert capsys.readouterr().out == (
    "similarity 1.0000: the same person (threshold 0.2500, 87.5% of the pairs"
    " of 'pairs' right)\n"
  )


def test_the_threshold_decides(
  command, tiny_run, tiny_model, tiny_faces, capsys
):
  pair = [tiny_faces / "person0" / "0.png", tiny_faces / "person1" / "3.png"]
  cosine = unit_vectors.similarity(*tiny_model.embed(pair, flip=True))
  for threshold, same in ((cosine - 1e-3, True), (cosine + 1e-3, False)):
    assert command(tiny_run, *pair, "--threshold", threshold, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["similarity"] == pytest.approx(cosine)
    assert found["same_person"] is same
    assert found["threshold_from"] == "given"


def test_without_a_threshold_it_is_undecided(
  command, tiny_run, tiny_faces, monkeypatch, capsys
):
  monkeypatch.setattr(metrics_file, "threshold", lambda run: None)
  face = tiny_faces / "person0" / "1.png"
  assert command(tiny_run, face, face) == 0
  assert "undecided, this run has verified no pairs" in capsys.readouterr().out


def test_mistakes_are_answered_in_one_line(
  command, tiny_run, tiny_faces, tmp_path, capsys
):
  face = tiny_faces / "person0" / "1.png"
  assert command(tiny_run, face, tmp_path / "none.png") == 2
  error = capsys.readouterr().err
  assert "none.png" in error and "Traceback" not in error
  with pytest.raises(SystemExit):
    command(tiny_run, face, face, "--threshold", 2)
  assert "from -1 to 1" in capsys.readouterr().err
