"""The five floors: which part of the package may import which."""

import ast
import collections
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

import facejax

PACKAGE = pathlib.Path(facejax.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
FRONT = ("__init__", "__main__")
DOORS = {path.stem for path in PACKAGE.glob("*.py")} - set(FRONT)

# A part imports those of lower floors and no other.
FLOORS = (
  {"runtime"},
  {"losses", "metrics", "models", "data", "vectors"},
  {"head", "runs"},
  {"training", "evaluation", "report", "interchange"},
  DOORS,
)
# Library -> the one part that imports it.
OWNERS = {"flax": "models", "grain": "data", "orbax": "runs"}


def part(path):
  return path.relative_to(PACKAGE).with_suffix("").parts[0]


def floor(name):
  (found,) = (k for k, parts in enumerate(FLOORS) if name in parts)
  return found


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


def parts_of(names):
  return {name.split(".")[1] for name in names if name.startswith("facejax.")}


def test_every_part_is_on_one_floor():
  here = {part(path) for path in MODULES} - set(FRONT)
  assert here == set.union(*FLOORS)
  assert len(here) == sum(map(len, FLOORS)), "on two floors"
  assert len(here - DOORS) <= 12


@pytest.mark.parametrize(
  "path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_go_down(path):
  here, names = part(path), set(imports(path))
  for name in names:
    root = name.split(".")[0]
    assert OWNERS.get(root, here) == here, f"{path} imports {name}"
  if here in FRONT:
    return
  for there in parts_of(names) - {here, *FRONT}:
    assert there in set.union(*FLOORS), f"{path}: no part {there}"
    assert floor(there) < floor(here), f"{path}: {here} imports {there}"


def test_only_doors_and_training_see_the_config():
  for path in MODULES:
    if "facejax.training.config" in set(imports(path)):
      assert part(path) in {"training", *DOORS, *FRONT}, path


def test_sizes_stay_readable():
  for path in MODULES:
    assert len(path.read_text().splitlines()) <= 300, path


def test_no_two_classes_have_one_name():
  places = collections.defaultdict(list)
  for path in MODULES:
    for node in ast.parse(path.read_text()).body:
      if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
        places[node.name].append(str(path.relative_to(PACKAGE)))
  assert not {k: v for k, v in places.items() if len(v) > 1}


def test_loggers_are_named_by_their_module():
  """Doors, which run as __main__, spell their name out."""
  for path in MODULES:
    for name in re.findall(
      r"logger = logging.getLogger\((.*)\)", path.read_text()
    ):
      own = f'"facejax.{path.stem}"' if path.parent == PACKAGE else "__name__"
      assert name == own, path


def test_what_is_imported_is_declared():
  text = (PACKAGE.parent / "pyproject.toml").read_text()
  project = tomllib.loads(text)["project"]
  declared = [*project["dependencies"]]
  for extra in project["optional-dependencies"].values():
    declared += extra
  named = {re.split(r"[\[>=<]", each)[0].lower() for each in declared}
  # Modules that are not called like the package that brings them.
  packages = {
    "PIL": "pillow", "absl": "absl-py", "array_record": "array-record",
    "faiss": "faiss-cpu", "google": "protobuf", "ml_dtypes": "ml-dtypes",
    "orbax": "orbax-checkpoint", "sklearn": "scikit-learn",
    "tensorboardX": "tensorboardx",
    "tensorflow_datasets": "tensorflow-datasets",
    "annotated_types": "annotated-types",
  }  # fmt: skip
  for path in MODULES:
    for name in imports(path):
      root = name.partition(".")[0]
      if root != "facejax" and root not in sys.stdlib_module_names:
        assert packages.get(root, root) in named, f"{path} imports {root}"


def run(code):
  return subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  ).stdout


@pytest.mark.smoke
def test_importing_the_package_starts_nothing():
  out = run("import sys, facejax; print('jax' in sys.modules)")
  assert out.strip() == "False"


@pytest.mark.smoke
def test_public_names_are_there():
  for name in facejax._PUBLIC:
    assert getattr(facejax, name) is not None
    assert name in dir(facejax)
  with pytest.raises(AttributeError, match="no attribute 'nothing'"):
    _ = facejax.nothing


@pytest.mark.smoke
def test_numerics_import_with_jax_flax_optax_and_numpy_alone():
  parts = {"losses", "models", "head"}
  names = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in MODULES
    if part(path) in parts
  ]
  out = run(
    "import importlib, sys\n"
    "for name in ('grain', 'tyro', 'PIL', 'tensorboardX', 'matplotlib',"
    " 'simplejpeg', 'tensorflow_datasets', 'annotated_types', 'typeguard',"
    " 'orbax'):\n"
    "  sys.modules[name] = None\n"
    "from facejax.runtime import mesh, jit, unit_vectors\n"
    "from facejax.training import optim, step\n"
    "from facejax.data.synthetic import faces\n"
    f"for name in {names}:\n"
    "  importlib.import_module(name)\n"
    "print('fine')"
  )
  assert out.strip() == "fine"
