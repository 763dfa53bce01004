"""Two faces from the command line."""

import dataclasses
import json

import pytest

from facejax import verify
from facejax.data.detectors import contract, registry
from facejax.runs import embedder, metrics_file, thresholds
from facejax.runtime import compile_cache, host_memory, unit_vectors


@pytest.fixture
def command(tiny_model, monkeypatch):
  monkeypatch.setattr(embedder, "load", lambda *_, **__: tiny_model)
  monkeypatch.setattr(compile_cache, "use", lambda: None)
  monkeypatch.setattr(host_memory, "keep_freed_memory", lambda: None)

  def run(*words):
    # Faces that are made here are aligned; a detector may be installed or not.
    words = words if "--align" in words else (*words, "--align", "off")
    return verify.main(list(map(str, words)))

  return run


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


def test_a_net_of_generated_faces_says_nothing_of_people(
  command, tiny_run, tiny_model, tiny_faces, monkeypatch, capsys
):
  about = dataclasses.replace(tiny_model.card, trained_on="generated faces")
  monkeypatch.setattr(tiny_model, "card", about)
  face = tiny_faces / "person0" / "1.png"
  assert command(tiny_run, face, face) == 0
  text = capsys.readouterr().out
  assert "undecided, this net was trained on generated faces" in text
  assert command(tiny_run, face, face, "--threshold", 0.3) == 0
  assert "the same person" in capsys.readouterr().out


def test_a_picture_without_a_face_is_not_judged(
  command, tiny_run, tiny_faces, monkeypatch, capsys
):
  nothing = lambda image: contract.nothing()  # noqa: E731
  monkeypatch.setattr(registry, "load", lambda choice: nothing)
  face = tiny_faces / "person0" / "1.png"
  assert command(tiny_run, face, face, "--align", "auto") == 0
  out, err = capsys.readouterr()
  assert "undecided, a picture shows no face" in out
  assert err.count("no face was found in it") == 2
  assert command(tiny_run, face, face, "--align", "on") == 2
  assert "shows no face" in capsys.readouterr().err
  assert command(tiny_run, face, face, "--align", "off") == 0
  assert "the same person" in capsys.readouterr().out


def test_a_threshold_says_what_it_means_to_strangers(
  command, tiny_run, tiny_faces, monkeypatch, capsys
):
  face = tiny_faces / "person0" / "1.png"
  for rate, words in ((0.001, "0.10%"), (0.0, "none")):
    stored = thresholds.Threshold(0.2, 0.9, "mine", rate, 2000)
    monkeypatch.setattr(metrics_file, "threshold", lambda run, s=stored: s)
    assert command(tiny_run, face, face) == 0
    text = capsys.readouterr().out
    assert f"{words} of 2,000 pairs of strangers pass" in text


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


def test_a_kept_threshold_says_how_rare_a_score_is(
  command, tiny_run, tiny_model, tiny_faces, monkeypatch, capsys
):
  rates = [thresholds.MatchRate(-1, 0.5, 0.4, 0.6)]
  rates += [thresholds.MatchRate(0.9, 0.001, 0.0005, 0.002)]
  stored = thresholds.Threshold(
    0.5, 0.9, "mine", 0.01, 30_000, 0.008, 0.012,
    protocol="verification; so", data={"pairs": "mine.txt"}, rates=rates,
    ratio=thresholds.RatioLine(5, -2, -3, 4),
  )  # fmt: skip
  monkeypatch.setattr(metrics_file, "threshold", lambda run: stored)
  face = tiny_faces / "person0" / "1.png"
  assert command(tiny_run, face, face) == 0
  assert capsys.readouterr().out == (
    "similarity 1.0000: the same person (threshold 0.5000, 90.0% of the pairs of"
    " 'mine' right; 1.00% (0.80 … 1.20) of 30,000 pairs of strangers pass); at"
    " most 1 in 1,000 strangers scores as high (95 %: at most 1 in 500);"
    " likelihood ratio 1,000, moderately strong support for one person\n"
  )
  assert command(tiny_run, face, face, "--json") == 0
  found = json.loads(capsys.readouterr().out)
  assert found["threshold_fmr"]["rate"] == 0.01
  assert found["threshold_fmr"]["high"] == 0.012
  assert found["threshold_fmr"]["data"] == {"pairs": "mine.txt"}
  assert found["strangers_as_high"]["bound"] == "at most"
  assert found["log10_likelihood_ratio"] == pytest.approx(3, abs=1e-5)
  # Of a threshold of the user's nothing is known; of the score there is.
  assert command(tiny_run, face, face, "--json", "--threshold", 0.3) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["threshold_fmr"] is None
  assert found["strangers_as_high"]["rate"] == 0.001
  # Nor is anything told where nothing can be said.
  about = dataclasses.replace(tiny_model.card, trained_on="generated faces")
  monkeypatch.setattr(tiny_model, "card", about)
  assert command(tiny_run, face, face, "--json", "--threshold", 0.3) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["strangers_as_high"] is found["log10_likelihood_ratio"] is None
