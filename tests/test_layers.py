"""The staircase: which part of the package may import which."""

import ast
import pathlib
import subprocess
import sys

import pytest

import facejax

PACKAGE = pathlib.Path(facejax.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# Each part may import those of lower floors; on one floor nobody imports
# another part, except where EXTRA says so.
FLOORS = {
  "typing": 0,
  "mixing": 0,
  "read_ahead": 0,
  "command": 0,
  "losses": 0,
  "metrics": 0,
  "models": 1,
  "head": 1,
  "data": 1,
  "digest": 2,
  "quiet": 2,
  "retention": 2,
  "stopwatch": 2,
  "host_memory": 2,
  "compile_cache": 2,
  "compiling": 0,
  "card": 2,
  "npz": 1,
  "image_sets": 2,
  "embeddings": 2,
  "mesh": 2,
  "goal": 2,
  "optim": 2,
  "checkpoint": 3,
  "telemetry": 3,
  "top_k": 1,
  "nearest": 3,
  "approximate": 4,
  "clustering": 4,
  "train_state": 4,
  "loss_step": 5,
  "train_step": 6,
  "embedder": 7,
  "embed_job": 8,
  "evaluations": 8,
  "gallery": 8,
  "embed": 9,
  "verify": 9,
  "evaluate": 9,
  "search": 9,
  "cluster": 9,
  "guards": 5,
  "finished": 5,
  "exports": 1,
  "imports": 2,
  "stored_net": 6,
  "export_formats": 7,
  "exporting": 8,
  "export": 9,
  "importing": 7,
  "convert": 8,
  "evals": 5,
  "report": 6,
  "model_config": 5,
  "pair_loss_config": 6,
  "loss_config": 6,
  "config": 6,
  "build_loss": 7,
  "build_adaptive": 7,
  "build_pair_loss": 7,
  "advice": 7,
  "program": 8,
  "presets": 7,
  "validation": 7,
  "recipe": 8,
  "workdir": 8,
  "assemble": 9,
  "summary": 10,
  "trainer": 10,
  "train": 11,
}
EXTRA = {
  "mixing": {"typing"},
  "losses": {"typing", "mixing"},
  "metrics": {"typing"},
  "config": {"loss_config"},
  "loss_config": {"pair_loss_config"},
  "build_loss": {"build_adaptive"},
}
# Library -> the one part that imports it.
OWNERS = {"flax": "models", "grain": "data", "orbax": "checkpoint"}


def part(path):
  relative = path.relative_to(PACKAGE).with_suffix("")
  return relative.parts[0]


def imports(path):
  """Every module that a file imports, as dotted names."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}: relative import"
      assert node.module
      yield node.module
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.stem))
def test_imports_go_down(path):
  here = part(path)
  if here == "__init__":
    assert set(imports(path)) <= {"importlib"}
    return
  for name in imports(path):
    root, *rest = name.split(".")
    if root in OWNERS:
      assert here == OWNERS[root], f"{path} imports {name}"
    if root != "facejax" or not rest or rest[0] == here:
      continue
    there = rest[0]
    assert FLOORS[there] < FLOORS[here] or there in EXTRA.get(here, ()), (
      f"{path}: {here} must not import {there}"
    )


def test_only_the_top_sees_the_config():
  for path in MODULES:
    names = set(imports(path))
    if "facejax.training.config" in names:
      assert FLOORS[part(path)] > FLOORS["config"], path


def test_sizes_stay_readable():
  for path in MODULES:
    assert len(path.read_text().splitlines()) <= 300, path


def run(code):
  return subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  ).stdout


@pytest.mark.smoke
def test_importing_the_package_starts_nothing():
  out = run("import sys, facejax; print('jax' in sys.modules)")
  assert out.strip() == "False"


@pytest.mark.smoke
def test_numerics_import_with_jax_flax_optax_and_numpy_alone():
  out = run(
    "import sys\n"
    "for name in ('grain', 'tyro', 'PIL', 'tensorboardX', 'matplotlib',"
    " 'simplejpeg', 'tensorflow_datasets'):\n"
    "  sys.modules[name] = None\n"
    "from facejax.runtime import mesh\n"
    "from facejax.training import optim, state, step\n"
    "from facejax.head import api\n"
    "from facejax.losses import margins\n"
    "print('fine')"
  )
  assert out.strip() == "fine"
