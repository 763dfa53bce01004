"""Nets of one's own: found, trained, resumed and read again."""

import json
import re
import sys

import jax
import numpy as np
import pytest
from helpers import own_nets, small_training, tiny_nets

from facejax.models import functional, own
from facejax.runs import net as net_lib
from facejax.training import recipe

LINEAR = "helpers.own_nets:Linear"


def test_it_is_a_backbone_like_any_other():
  net = tiny_nets.build(LINEAR)
  params, stats = net.init(jax.random.key(0))
  images = tiny_nets.images()
  found, new = net.apply(params, stats, images, train=True)
  assert found.shape == (8, 16) and found.dtype == np.float32
  changed = jax.tree.map(lambda a, b: bool((a != b).any()), stats, new)
  assert any(jax.tree.leaves(changed))
  # The product, and what BatchNorm takes beside it.
  product = 32 * 48 * 3 * 16
  assert product <= net.multiply_adds < 1.1 * product
  assert functional.has_lengths(LINEAR)


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("wrong_size", r"makes float32\[2, 17\] of 2 images: .*float32\[2, 16\]"),
    ("no_module", "made a int: it must be a flax.nnx.Module"),
    ("NOT_TO_BE_CALLED", "is a str: name a function or a class"),
    ("Lineer", "no attribute 'Lineer'"),
  ],
)
def test_what_is_no_net_is_told(name, message):
  with pytest.raises(ValueError, match=message):
    tiny_nets.build(f"helpers.own_nets:{name}")


def test_an_option_that_it_has_not():
  with pytest.raises(ValueError, match="has no se=True; these nets have"):
    recipe.parse(["--model.name", LINEAR, "--model.se"])


def test_a_package_brings_it_by_an_entry_point(tmp_path, monkeypatch):
  (tmp_path / "brought.py").write_text("from helpers.own_nets import Linear\n")
  info = tmp_path / "brought-1.0.dist-info"
  info.mkdir()
  (info / "METADATA").write_text(
    "Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n"
  )
  (info / "entry_points.txt").write_text(
    f"[{own.GROUP}]\nlinear_of_theirs = brought:Linear\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.delitem(sys.modules, "brought", raising=False)
  own.find.cache_clear()
  assert own.names() == ["linear_of_theirs"]
  found = own.find("linear_of_theirs")
  assert found is not None and found.make is own_nets.Linear
  # As a card may name it: it was installed for that.
  own.check_trusted("linear_of_theirs")
  with pytest.raises(ValueError, match="did you mean linear_of_theirs"):
    recipe.parse(["--model.name", "linear_of_their"])
  own.find.cache_clear()


def test_a_run_resumes_and_is_read_with_its_net_alone(tmp_path, monkeypatch):
  words = [
    *small_training.SMALL, "--model.name", LINEAR, "--workdir", tmp_path,
    "--mesh.devices", 1,
  ]  # fmt: skip
  code, said = small_training.call([*words, "--steps", 2])
  assert code == 0, said
  stored = json.loads((tmp_path / "config.json").read_text())
  assert stored["model.name"] == LINEAR
  code, said = small_training.call(
    [*words, "--steps", 3, "--model.name", "sphereface4"]
  )
  assert code == 2
  assert re.search(f"model.name.*{LINEAR}", said, re.DOTALL), said
  code, said = small_training.call([*words, "--steps", 3])
  assert code == 0 and "resumed at step 2" in said, said
  # A card is a file: it does not import what it names.
  with pytest.raises(ValueError, match=f"set {own.VARIABLE}={LINEAR}"):
    net_lib.read(tmp_path)
  monkeypatch.setenv(own.VARIABLE, f"another:net, {LINEAR}")
  assert net_lib.read(tmp_path).step == 3
