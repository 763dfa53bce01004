"""A net that comes as a package is a run by its name."""

import sys

import numpy as np
import pytest
from helpers import dlib_files, tiny_nets

import facejax
from facejax import convert, embed, export
from facejax.models import dlib_resnet
from facejax.runs import card, folder, pretrained
from facejax.runs import net as net_lib
from facejax.runtime import extras

NAME = "dlib_resnet29"
SMALL = dlib_resnet.DlibResNetSpec((1, 1, 1, 1, 1), (4, 4, 6, 8, 8))


@pytest.fixture
def package(tmp_path, monkeypatch):
  """A package like the real one, with a small net; not to be imported."""
  return dlib_files.package(tmp_path, monkeypatch, SMALL)


def test_it_is_loaded_by_its_name(package):
  images = list(tiny_nets.images(3, size=(150, 150)))
  model = facejax.load(NAME)
  found = model.embed(images)
  expected = dlib_files.embed(dlib_files.stored(SMALL)[1], np.stack(images))
  expected /= np.linalg.norm(expected, axis=1, keepdims=True)
  np.testing.assert_allclose(found, expected, atol=1e-4)
  assert "public domain" in model.card.source.replace("\n", " ")
  assert "SHA-256" in model.card.source and model.card.identities == 7485
  assert "face_recognition_models" not in sys.modules
  # A second time from where it was kept.
  place = pretrained.located(NAME)
  assert place == model.run and not any(
    name.startswith(".") for name in folder.contents(place)
  )


def test_another_file_is_another_folder(package):
  first = pretrained.located(NAME)
  package.write_bytes(dlib_files.stored(SMALL, seed=1)[0])
  assert pretrained.located(NAME) != first


def test_a_folder_of_that_name_comes_first(package, tiny_run, monkeypatch):
  monkeypatch.chdir(package.parents[3])
  (package.parents[3] / NAME).symlink_to(tiny_run)
  assert pretrained.located(NAME) == NAME
  assert net_lib.read(NAME).card.net != NAME


def test_commands_take_it(package, tmp_path, tiny_faces, capsys):
  out = tmp_path / "faces.npz"
  arguments = [NAME, str(tiny_faces), str(out)]
  assert embed.main([*arguments, "--devices", "1"]) == 0
  assert out.exists()


def test_it_is_exported(package, capsys):
  pytest.importorskip("onnxruntime")
  assert export.main([NAME, "--format", "onnx"]) == 0
  assert "cosine to the net at least 1.0000" in capsys.readouterr().out


def test_its_file_can_be_converted_by_hand(package, tmp_path, capsys):
  run = tmp_path / "run"
  words = [str(package), "--workdir", str(run), "--trained-on", "mine"]
  assert convert.main(words) == 0
  assert card.read(run).trained_on == "mine"
  image = tiny_nets.images(1, size=(150, 150))
  np.testing.assert_allclose(
    facejax.load(run).embed(image), facejax.load(NAME).embed(image), atol=1e-6
  )
  assert convert.main([*words[:3], "--net", "iresnet50"]) == 2


def test_a_missing_package_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(extras.importlib.util, "find_spec", lambda *_: None)
  with pytest.raises(
    extras.MissingPackageError, match=r"facejax\[pretrained\]"
  ):
    pretrained.located(NAME)


def test_a_damaged_package_is_named(package):
  package.write_bytes(package.read_bytes()[:5000])
  with pytest.raises(ValueError, match="face net"):
    pretrained.located(NAME)
  package.unlink()
  with pytest.raises(FileNotFoundError, match="install it anew"):
    pretrained.located(NAME)
