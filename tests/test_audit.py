"""facejax.audit from a folder of images to lists that training takes."""

import csv
import json
import shutil

import numpy as np
import pytest
from helpers import processes, tiny_run

from facejax import audit
from facejax.data import corrections, formats
from facejax.data.pairs import lfw
from facejax.runtime import compile_cache, host_memory

PEOPLE, IMAGES = 6, 6


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return tiny_run.write_run(tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  """People of whom one has a picture of another's, too."""
  folder = tmp_path_factory.mktemp("set") / "people"
  tiny_run.write_faces(folder, people=PEOPLE, images=IMAGES)
  shutil.copy(folder / "person2" / "12.png", folder / "person4" / "copy.png")
  return folder


@pytest.fixture
def command(run, data, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(compile_cache, "use", lambda: None)
  monkeypatch.setattr(host_memory, "keep_freed_memory", lambda: None)
  out = tmp_path / "audit"

  def main(*words, code=0):
    words = (run, data, "--out", out, "--batch-size", 8, *words)
    assert audit.main(list(map(str, words))) == code
    return capsys.readouterr()

  return main, out


def rows(path):
  with open(path, newline="") as file:
    return list(csv.DictReader(file))


def test_lists_sheet_and_summary(command, data):
  main, out = command
  said = main("--margin", 0.02, "--same", -1000, "--worst", 3)
  summary = json.loads((out / "audit.json").read_text())
  assert summary["images"] == PEOPLE * IMAGES + 1
  assert summary["options"]["margin"] == 0.02
  assert summary["thresholds"]["wrong_labels"]["score"] == 0.02
  assert summary["thresholds"]["outliers"]["score"] is None
  assert summary["prototypes"] == {"known": 0}
  decided = summary["decided"]
  assert decided["copies"] >= 1 and decided["left_out"]["copy"] >= 1
  listed = lfw.read_identities(out / "exclude.txt")
  assert {"person2/12.png", "person4/copy.png"} & set(listed)
  merges, moved = rows(out / "merge.csv"), rows(out / "relabel.csv")
  assert len(merges) == decided["merged"] > 0
  assert len(moved) == decided["relabelled"]
  page = (out / "audit.html").read_text()
  assert "One person under two names" in page and "Copies" in page
  assert "data:image/jpeg;base64," in page
  assert "http:" not in page and "https:" not in page and "<script" not in page
  assert f"--data.exclude {out / 'exclude.txt'}" in said.out

  # Training takes what was written.
  files = formats.open_images(
    data,
    without=listed,
    renamed=corrections.read(str(out / "merge.csv"), str(out / "relabel.csv")),
  )
  left = PEOPLE * IMAGES + 1 - sum(decided["left_out"].values())
  assert len(files) == left
  assert files.num_classes <= PEOPLE - len(merges)


def test_the_same_again_writes_the_same_and_embeds_nothing(
  command, monkeypatch
):
  main, out = command
  main("--margin", 0.02)
  before = {
    path.name: path.read_bytes() for path in out.iterdir() if path.is_file()
  }
  monkeypatch.setattr(
    audit.embed_job, "run", lambda *_: pytest.fail("embedded again")
  )
  main("--margin", 0.02)
  for name, content in before.items():
    assert (out / name).read_bytes() == content, name


def test_one_device_writes_what_eight_write(command):
  main, out = command
  found = []
  for devices in (8, 1):
    main("--margin", 0.02, "--same", 0, "--devices", devices)
    found.append(
      [lfw.read_identities(out / "exclude.txt"), rows(out / "relabel.csv")]
    )
    (out / "embeddings.npz").unlink()
  assert found[0][0] == found[1][0]
  for one, other in zip(*[each[1] for each in found], strict=True):
    assert (one["image"], one["person"]) == (other["image"], other["person"])
    assert np.isclose(float(one["margin"]), float(other["margin"]), atol=1e-3)


def test_lists_without_rows_are_not_recommended(command):
  main, out = command
  main("--margin", 0.02)
  assert (out / "exclude.txt").exists()
  said = main(
    "--margin", 2, "--same", 1e6, "--copy-cosine", -1, "--copy-bits", 0
  )
  assert lfw.read_identities(out / "exclude.txt")  # the copy is one to the bit
  assert rows(out / "merge.csv") == rows(out / "relabel.csv") == []
  assert "--data.merge" not in said.out


def test_bad_input_is_named(command, data, run, capsys):
  _, out = command
  assert audit.main([str(data), str(run), "--out", str(out)]) == 2
  assert "RUN" in capsys.readouterr().err
  assert audit.main([str(run), str(out / "no"), "--out", str(out)]) == 2
  assert "no" in capsys.readouterr().err


def test_two_processes_find_what_one_does(command, run, data, tmp_path):
  main, out = command
  main("--margin", 0.02, "--same", -1000, "--worst", 2)
  two = tmp_path / "two"
  words = [run, data, "--out", two, "--batch-size", 8, "--margin", 0.02]
  words += ["--same", -1000, "--worst", 2]
  codes, outputs = processes.run(words, command=("-m", "facejax.audit"))
  assert codes == [0, 0], outputs
  for name in ("merge.csv", "relabel.csv"):
    one, other = rows(out / name), rows(two / name)
    for row in (*one, *other):
      # Scores have the rounding of batches.
      row.pop("score", row.pop("margin", None))
    assert one == other and (one or name == "relabel.csv")
  exclude = [folder / "exclude.txt" for folder in (out, two)]
  assert len({file.exists() for file in exclude}) == 1
  if exclude[0].exists():
    assert exclude[0].read_text() == exclude[1].read_text()
  assert not (tmp_path / "two" / "embeddings.npz.parts").exists()


def test_people_of_a_test_set_are_left_out(run, data, tmp_path, command):
  _, out = command
  whole = shutil.copytree(data, tmp_path / "whole")
  tiny_run.write_faces(tmp_path / "rest", people=9, images=3)
  for k in (6, 7, 8):
    shutil.move(tmp_path / "rest" / f"person{k}", whole)
  test = tmp_path / "test"
  for name, person in (("Ada", 1), ("Bea", 3)):
    shutil.copytree(data / f"person{person}", test / name)
  words = (run, whole, "--out", out, "--batch-size", 8, "--against", test)
  words += ("--margin", 2, "--same", 1e6)
  assert audit.main(list(map(str, words))) == 0
  summary = json.loads((out / "audit.json").read_text())
  lines = (out / "exclude.txt").read_text().splitlines()
  people = {line.split("\t")[0] for line in lines if line.endswith("\ttested")}
  assert people >= {"person1", "person3"}
  assert summary["people_in_test_set"] == len(people)
  found = {row["tested"]: row for row in rows(out / "tested_people.csv")}
  assert (
    found["Ada"]["trained"] == "person1" and found["Bea"]["shared"] == "yes"
  )
  left = formats.open_images(
    whole, without=lfw.read_identities(out / "exclude.txt")
  )
  assert "person1" not in left.class_names


def test_a_test_set_is_looked_at_before_the_work(run, data, tmp_path, capsys):
  words = ["--out", tmp_path / "out", "--against", tmp_path / "gone"]
  assert audit.main(list(map(str, [run, data, *words]))) == 2
  assert "gone" in capsys.readouterr().err
  assert not (tmp_path / "out").exists()
