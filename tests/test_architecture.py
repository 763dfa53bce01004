"""docs/architecture.md: its code does what it says."""

import importlib
import re
import sys

import jax
import numpy as np
import pytest
from helpers import paths, small_training

from facejax.runs import results
from facejax.training.objectives import registry

PAGE = (paths.ROOT / "docs" / "architecture.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def worked(tmp_path_factory):
  """The names that the page's code leaves, run from top to bottom."""
  folder = tmp_path_factory.mktemp("architecture")
  names = {}
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    patch.syspath_prepend(folder)
    for block in BLOCKS:
      first = block.partition("\n")[0]
      if first.startswith("# "):
        # A file; by now the line in the registry would have been written.
        (folder / first.removeprefix("# ")).write_text(block)
        loss = names["LiArcFace"]
        patch.setattr(registry, "LiArcFace", loss, raising=False)
        # That it was not there a moment ago is remembered for that long.
        importlib.invalidate_caches()
        continue
      exec(block, names)
    yield names
    names["registry"].SPECS.pop("iresnet14", None)
    sys.modules.pop("small_net", None)


def test_a_loss(worked):
  assert len(worked["losses"]) == 3
  assert np.isfinite(worked["losses"]).all()
  assert worked["program"].mesh.shape["model"] == 8
  assert int(worked["state"].step) == 3
  assert worked["settings"].loss.margin == 0.1


def test_a_net(worked):
  assert worked["net"].name == "iresnet14"
  assert 0 < worked["net"].multiply_adds < 1e9


def test_a_net_of_ones_own(worked):
  net = worked["own"]
  params, stats = net.init(jax.random.key(0))
  images = np.zeros((2, 48, 48, 3), np.uint8)
  embeddings, _ = net.apply(params, stats, images, train=False)
  assert embeddings.shape == (2, 64)
  # As the page says it is trained; recipe and step, nothing else.
  losses, *_ = small_training.trained(
    [
      *small_training.SMALL,
      *("--model.name", "small_net:SmallNet", "--steps", 3),
    ]
  )
  assert np.isfinite(losses).all()


def test_a_source(worked):
  assert worked["third"]["image"].shape == (8, 32, 32, 3)
  assert set(worked["third"]["label"]) <= set(range(4))


def test_a_protocol(worked, tiny_model, tmp_path):
  source = worked["Colours"](4, 4, tiny_model.card.image_size)
  result = worked["nearest_is_same"](tiny_model, source)
  # Images of one person are one image.
  assert result["nearest_is_same"] == 1
  results.write(tmp_path, result)
  (read,) = results.read_all(tmp_path)
  assert read.quantities == result.quantities


def test_the_tree_is_that_of_the_package():
  table = PAGE.partition("## The way of an image")[0].replace(
    "`objectives/`", ""
  )
  named = set(re.findall(r"`([a-z]+)/`", table))
  here = {p.name for p in (paths.ROOT / "facejax").iterdir() if p.is_dir()}
  assert named == here - {"__pycache__"}
  doors = {p.stem for p in (paths.ROOT / "facejax").glob("[!_]*.py")}
  assert doors <= set(re.findall(r"`([a-z]+)`", table))
