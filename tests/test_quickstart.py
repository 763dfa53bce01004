"""Every command of docs/quickstart.md does what the page says."""

import shlex

import pytest
from helpers import compiling, dlib_files, paths, scenes

import facejax.__main__ as front
from facejax.models import dlib_resnet
from facejax.runtime import compile_cache, host_memory
from facejax.vectors import album

PAGE = (paths.ROOT / "docs" / "quickstart.md").read_text()
SMALL = dlib_resnet.DlibResNetSpec((1, 1, 1, 1, 1), (4, 4, 6, 8, 8))
PEOPLE, PHOTOS = 5, 3


def commands():
  """The page's commands, those of two lines as one."""
  lines = iter(PAGE.replace("\\\n", " ").splitlines())
  return [line.split("    ", 1)[1] for line in lines if line.startswith("    ")]


@pytest.fixture
def place(tmp_path, monkeypatch):
  dlib_files.package(tmp_path, monkeypatch, SMALL, dim=128)
  scenes.use_detector(monkeypatch)
  monkeypatch.setattr(compile_cache, "use", lambda: None)
  monkeypatch.setattr(host_memory, "keep_freed_memory", lambda: None)
  monkeypatch.chdir(tmp_path)
  for person in range(PEOPLE):
    for k in range(PHOTOS):
      file = tmp_path / "photos" / f"person{person}" / f"{k}.png"
      scenes.photo(file, [scenes.face(person)])
  for name in ("who", "one", "two"):
    scenes.photo(tmp_path / f"{name}.jpg", [scenes.face(0)])
  return tmp_path


def run(command, capsys, *more):
  program, flag, module, *words = shlex.split(command)
  assert (program, flag) == ("python", "-m"), command
  assert front.main([module.removeprefix("facejax."), *words, *more]) == 0
  return capsys.readouterr().out


def test_the_commands_are_those_here():
  names = [shlex.split(command)[2] for command in commands()[1:]]
  assert commands()[0] == "pip install 'facejax[detect,pretrained]'"
  assert names == [
    *("facejax.people", "facejax.people", "facejax.search", "facejax.verify"),
    *("facejax.data.align", "facejax.train", "facejax.verify"),
  ]


@pytest.mark.slow
def test_they_do_what_the_page_says(place, capsys):
  with compiling.quickly():
    _, first, again, search, verify, align, train, mine = commands()
    # In this process: those of a test have no workers.
    assert "write names into" in run(first, capsys, "--workers", "0")
    table = place / "people" / album.PEOPLE
    text = table.read_text()
    assert (place / "people" / "index.html").exists()
    table.write_text(text.replace("\n1,,", "\n1,Ada,", 1))
    assert "1 people with names" in run(again, capsys, "--workers", "0")
    assert "nearest: " in run(search, capsys)
    said = run(verify, capsys)
    assert "the same person (threshold 0.932" in said and "strangers" in said
    assert "15 aligned" in run(align, capsys, "--workers", "0")
    short = ("--epochs", "1", "--batch-size", "8", "--mesh.devices", "1")
    run(train, capsys, *short)
    assert "similarity" in run(mine, capsys)
