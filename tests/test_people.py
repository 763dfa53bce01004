"""Photographs become people, people get names, names make a gallery."""

import csv
import dataclasses

import pytest
from helpers import scenes

from facejax import people, search
from facejax.runs import embedder
from facejax.runtime import compile_cache, host_memory
from facejax.vectors import album


@pytest.fixture
def command(tiny_model, monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(embedder, "load", lambda *_, **__: tiny_model)
  scenes.use_detector(monkeypatch)
  monkeypatch.setattr(compile_cache, "use", lambda: None)
  monkeypatch.setattr(host_memory, "keep_freed_memory", lambda: None)
  photos, out = tmp_path / "photos", tmp_path / "out"
  ada, bob, cyd = map(scenes.face, range(3))
  scenes.photo(photos / "a.png", [ada])
  scenes.photo(photos / "b" / "c.png", [bob, ada])
  scenes.photo(photos / "d.png", [ada])
  scenes.photo(photos / "e.png", [cyd])
  scenes.photo(photos / "empty.png", [])

  def run(*words, code=0):
    words = (*words, "--workers", 0)
    asked = [str(w) for w in (photos, out, "--threshold", 0.999, *words)]
    assert people.main(asked) == code
    return capsys.readouterr()

  return run, photos, out


def rows(path):
  with open(path, newline="") as file:
    return list(csv.DictReader(file))


def test_people_are_found_named_and_enrolled(command, capsys):
  run, photos, out = command
  said = run()
  assert "3 people in 5 faces, 1 of them more than once" in said.out
  assert "write names into" in said.out
  assert "empty.png: photo without a face" in said.err
  first, *others = rows(out / album.PEOPLE)
  assert first["faces"] == "3" and {row["faces"] for row in others} == {"1"}
  page = (out / "index.html").read_text()
  assert "1 people, and 2 seen once" in page
  assert "../photos/b/c.png" in page and "http:" not in page

  # Somebody types names; a spreadsheet saves them with semicolons.
  table = out / album.PEOPLE
  whose = {row["photo"]: row["person"] for row in rows(out / album.FACES)}
  lines = ["person;name;faces;example", "1;Ada <3;3;a.png"]
  lines.append(f"{whose['e.png']};Cyd;1;e.png")
  table.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
  said = run()
  assert "2 people with names" in said.out
  page = (out / "index.html").read_text()
  assert "Ada &lt;3" in page and "Cyd" in page
  assert [row["name"] for row in rows(table)].count("Ada <3") == 1
  asked = [
    str(out / album.GALLERY),
    str(photos / "d.png"),
    "--threshold",
    "0.99",
  ]
  assert search.main(["query", *asked]) == 0
  assert "d.png: Ada <3 (1.000)" in capsys.readouterr().out


def test_names_stay_with_faces_when_photos_are_added(command):
  run, photos, out = command
  run()
  table = out / album.PEOPLE
  bob = next(r["person"] for r in rows(out / album.FACES) if "c_1" in r["file"])
  text = table.read_text().replace(f"\n{bob},,", f"\n{bob},Bob,")
  table.write_text(text)
  # Bob is now in most photos, and the first person.
  for k in range(4):
    scenes.photo(photos / f"new{k}.png", [scenes.face(1)])
  said = run()
  assert "9 faces" in said.out
  first = rows(table)[0]
  assert (first["name"], first["faces"]) == ("Bob", "5")
  # A photo that is gone takes its faces along.
  (photos / "new3.png").unlink()
  assert "8 faces" in run().out


def test_a_second_time_nothing_is_done_anew(command, monkeypatch):
  run, _, out = command
  run()
  before = (out / people.EMBEDDINGS).stat().st_mtime_ns
  page = (out / "index.html").read_bytes()
  run()
  assert (out / people.EMBEDDINGS).stat().st_mtime_ns == before
  assert (out / "index.html").read_bytes() == page


def test_mistakes(command, tiny_model, monkeypatch, tmp_path, capsys):
  run, photos, out = command
  words = [str(photos), str(out), "--workers", "0"]
  about = dataclasses.replace(tiny_model.card, trained_on="generated faces")
  monkeypatch.setattr(tiny_model, "card", about)
  assert people.main(words) == 2
  assert "generated faces" in capsys.readouterr().err and not out.exists()
  assert (
    people.main([str(tmp_path / "no"), *words[1:], "--threshold", "0"]) == 2
  )
  assert "no folder" in capsys.readouterr().err
  run()
  (out / album.PEOPLE).write_text("person,name\n1,Ada\n")
  said = run(code=2)
  assert "people.csv, line 2" in said.err and "columns person" in said.err
  assert (out / album.PEOPLE).read_text() == "person,name\n1,Ada\n"
  empty = tmp_path / "empty"
  scenes.photo(empty / "a.png", [])
  assert (
    people.main(
      [str(empty), str(tmp_path / "o"), *words[2:], "--threshold", "0"]
    )
    == 2
  )
  assert "face" in capsys.readouterr().err
