"""Messages, exit codes and flags that all commands share."""

import functools
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from facejax.runtime import (
  command_flags,
  command_line,
  compile_cache,
  extras,
  host_memory,
  plain_output,
)


def command(error=None, **options):
  """A command that raises an error, or ends with 7."""

  @command_line.command(**options)
  def main(arguments=None):
    if error is not None:
      raise error
    return 7

  return main


@pytest.mark.parametrize(
  ("error", "code", "message"),
  [
    (ValueError("x=1: must be 2"), 2, "error: x=1: must be 2\n"),
    (FileNotFoundError("no file 'x'"), 2, "error: no file 'x'\n"),
    (BrokenPipeError("a worker left"), 2, "error: a worker left\n"),
    (KeyboardInterrupt(), 130, "stopped\n"),
    (
      ModuleNotFoundError(name="sklearn.cluster"),
      2,
      "error: this needs scikit-learn: install it with"
      " pip install 'facejax[eval]'\n",
    ),
    (
      ImportError("libgomp.so.1 is missing", name="faiss"),
      2,
      "error: the faiss-cpu that is installed does not work here (libgomp.so.1"
      " is missing); try another with pip install --upgrade 'facejax[index]'\n",
    ),
  ],
)
def test_mistakes_end_in_one_message(error, code, message, capsys):
  assert command(error)([]) == code
  assert capsys.readouterr().err == message


def test_homes_are_found_in_paths(monkeypatch):
  monkeypatch.setenv("HOME", "/home/ada")
  for word, expected in (
    ("~/faces", "/home/ada/faces"),
    ("~", "/home/ada"),
    ("--data.path=~/faces", "--data.path=/home/ada/faces"),
    ("record_io:~/sets", "record_io:/home/ada/sets"),
    ("--data.join=folder:~/x", "--data.join=folder:/home/ada/x"),
    ("a~b", "a~b"),
    ("--name=a~", "--name=a~"),
  ):
    assert command_line.expanded(word) == expected


def test_commands_see_expanded_paths(monkeypatch):
  monkeypatch.setenv("HOME", "/home/ada")
  seen = []
  command_line.command()(lambda words: seen.extend(words) or 0)(["~/x"])
  assert seen == ["/home/ada/x"]


def test_arguments_that_look_exchanged_are_told(tmp_path):
  (tmp_path / "run").mkdir()
  order = functools.partial(
    command_line.check_order, is_one=os.path.isdir, what="a folder"
  )
  order("RUN", tmp_path / "run", others={"OUT": tmp_path})
  order("RUN", tmp_path / "no", others={"OUT": tmp_path / "neither"})
  with pytest.raises(ValueError, match="RUN and OUT look exchanged.*a folder"):
    order("RUN", tmp_path / "x", others={"A": "y", "OUT": tmp_path / "run"})


@pytest.mark.parametrize(
  "words",
  [
    *(["facejax"], ["facejax.evaluate", "--help"], ["facejax.train", "--help"]),
  ],
)
def test_terminals_of_ascii_get_all_help(words):
  environment = os.environ | {"PYTHONIOENCODING": "ascii", "COLUMNS": "200"}
  done = subprocess.run(
    [sys.executable, "-m", *words], env=environment, capture_output=True
  )
  assert done.returncode == 0, done.stderr
  text = done.stdout.decode("ascii")
  assert "Exit codes" in text and "\\u" not in text


def test_names_are_not_lost_on_terminals_of_ascii():
  text = "Åsa … ±1 ╭──╮ │"
  plain = text.encode("ascii", plain_output.HANDLER).decode()
  assert plain == "\\xc5sa ... +-1 +--+ |"


@pytest.mark.parametrize(
  "error", [ModuleNotFoundError(name="numpy"), ImportError("x"), KeyError("k")]
)
def test_bugs_keep_their_traceback(error):
  with pytest.raises(type(error)):
    command(error)([])


def test_a_traceback_if_it_is_asked_for(monkeypatch):
  monkeypatch.setenv("FACEJAX_TRACEBACK", "1")
  with pytest.raises(ValueError, match="here"):
    command(ValueError("here"))([])


def test_what_computes_says_so(monkeypatch):
  calls = []
  monkeypatch.setattr(compile_cache, "use", lambda: calls.append("cache"))
  monkeypatch.setattr(
    host_memory, "keep_freed_memory", lambda: calls.append("memory")
  )
  assert command()([]) == 7 and not calls
  assert command(computes=True)([]) == 7
  assert calls == ["memory", "cache"]


def test_what_resumes_takes_sigterm_like_ctrl_c(capsys):
  before = signal.getsignal(signal.SIGTERM)

  @command_line.command(resumes=True)
  def main(arguments=None):
    os.kill(os.getpid(), signal.SIGTERM)
    return 0

  assert main([]) == 130
  assert capsys.readouterr().err == "stopped; the same command again goes on\n"
  assert signal.getsignal(signal.SIGTERM) == before


def test_needed_names_the_extra(monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
  with (
    pytest.raises(extras.MissingPackageError, match=r"facejax\[parquet\]"),
    extras.needed(),
  ):
    import pyarrow  # noqa: F401
  with pytest.raises(ModuleNotFoundError) as caught, extras.needed():
    import no_such_module  # pyright: ignore  # noqa: F401
  assert not isinstance(caught.value, extras.MissingPackageError)


def parser():
  made = command_line.parser("x", "A command.")
  command_flags.run(made, kind=pathlib.Path)
  command_flags.batch_size(made)
  made.add_argument("--format", nargs="+", default=[])
  return made


@pytest.mark.parametrize(
  "words",
  [
    "runs/a --format b c",
    "--workdir runs/a --format b c",
    "--format b c --workdir runs/a",
    "--workdir=runs/a --format b c --batch_size 128",
    "--batch_size=1_28 runs/a --format b c",
  ],
)
def test_run_is_read_either_way(words):
  found = parser().parse_args(words.split())
  assert found.workdir == pathlib.Path("runs/a")
  assert (found.format, found.batch_size) == (["b", "c"], 128)


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("", "one of the arguments RUN --workdir is required"),
    ("a --workdir b", "not allowed with"),
    ("a --batch-size 0", "'0': must be a whole number from 1"),
    ("a --bach-size 3", "--bach-size 3; did you mean --batch-size?"),
  ],
)
def test_flags_are_checked(words, message, capsys):
  with pytest.raises(SystemExit, match="2"):
    parser().parse_args(words.split())
  assert message in capsys.readouterr().err


def test_values_keep_their_underscores():
  words = ["a", "--format=b_c"]
  assert parser().parse_args(words).format == ["b_c"]
