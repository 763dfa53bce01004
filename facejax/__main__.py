"""One door to all commands: facejax, or python -m facejax."""

import difflib
import importlib
import platform
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import facejax
from facejax.runtime import command_line, last_words


class Command(NamedTuple):
  """A command: the module that does it, and what it does."""

  module: str
  line: str

  @property
  def name(self) -> str:
    """What follows `python -m`."""
    return self.module.removesuffix(".__main__")


COMMANDS = {
  "train": Command("facejax.train", "train a face embedding"),
  "evaluate": Command("facejax.evaluate", "judge a net by a protocol"),
  "compare": Command("facejax.compare", "say whether two nets differ"),
  "report": Command("facejax.report.__main__", "build the page of a run anew"),
  "embed": Command("facejax.embed", "embed a set of images"),
  "verify": Command("facejax.verify", "say if two photos show one person"),
  "people": Command("facejax.people", "find the people in a folder of photos"),
  "search": Command("facejax.search", "find people in a gallery of faces"),
  "serve": Command("facejax.serve", "verify, identify and enrol over HTTP"),
  "cluster": Command("facejax.cluster", "group images by person"),
  "audit": Command("facejax.audit", "find wrong labels in a set of images"),
  "export": Command("facejax.export", "write a net for other programs"),
  "convert": Command("facejax.convert", "take over weights of elsewhere"),
  "migrate": Command("facejax.migrate", "take over recipes of elsewhere"),
  "plan": Command("facejax.head.plan", "say how many people fit in memory"),
  "launch": Command("facejax.launch", "run a command as several processes"),
  "data align": Command("facejax.data.align", "align photos by landmarks"),
  "data convert": Command("facejax.data.convert", "convert sets of images"),
  "data make-pairs": Command(
    "facejax.data.make_pairs", "make a pack of pairs to verify on"
  ),
  "data tfds-builder": Command(
    "facejax.data.tfds_builder", "write a data set of TFDS"
  ),
}

_HELP = """usage: {program} COMMAND …

Face recognition training in JAX: margin softmax over millions of people.

Commands, each with examples in its --help:
{commands}

Options:
  -h, --help                 show this list
  --version                  say what is installed
  --print-completion SHELL   print a script that completes commands and flags
                             in SHELL: bash, zsh, fish …

Examples:
  {program} train --config cosface.py
  {program} evaluate runs/cosface-lfw --protocol lfw
  {program} --print-completion bash \\
    > ~/.local/share/bash-completion/completions/facejax

Each command is also python -m facejax.NAME. With FACEJAX_TRACEBACK=1 a mistake
shows where it was noticed.
Exit codes: 0 done, 2 bad input; a command may have more, see its --help."""


@command_line.command()
def main(words: Sequence[str]) -> int:
  """Runs a command, or lists all of them; returns the exit code."""
  if not words or words[0] in ("-h", "--help"):
    print(_HELP.format(program=_program(), commands=_list()))
  elif words[0] == "--version":
    print(_version())
  elif words[0].replace("_", "-") == "--print-completion":
    print(_completion(words[1:]))
  elif words[0] == "data" and set(words[1:]) <= {"-h", "--help"}:
    print(_list("data "))
  else:
    module, rest = find(words)
    with command_line.called(_as_typed):
      return importlib.import_module(module).main(rest)
  return 0


def find(words: Sequence[str]) -> tuple[str, Sequence[str]]:
  """The module of a command, and what is left for it.

  Raises:
    ValueError: if there is no such command; names the nearest.
  """
  names = {_plain(name): command for name, command in COMMANDS.items()}
  # Who knows the modules may type those.
  for command in COMMANDS.values():
    names[_plain(command.name.removeprefix("facejax."))] = command
  for count in (2, 1):
    name = _plain(" ".join(words[:count]))
    if name in names:
      return names[name].module, words[count:]
  asked = " ".join(words[: 2 if words[0] == "data" else 1])
  near = difflib.get_close_matches(_plain(asked), COMMANDS, n=1)
  hint = f"did you mean {near[0]!r}? " if near else ""
  raise ValueError(
    f"there is no command {asked!r}; {hint}{_program()} alone lists all"
  )


def _plain(name: str) -> str:
  return name.replace("_", "-").replace(".", " ")


def _program() -> str:
  """How it was started."""
  spec = getattr(sys.modules["__main__"], "__spec__", None)
  by_name = spec is not None and spec.name == "facejax.__main__"
  return "python -m facejax" if by_name else "facejax"


def _as_typed(text: str) -> str:
  """Names commands as this door does.

  >>> _as_typed("python -m facejax.data.make_pairs FOLDER")
  'facejax data make-pairs FOLDER'
  """
  names = {command.name: name for name, command in COMMANDS.items()}

  def change(found: re.Match[str]) -> str:
    name = names.get(found[1])
    return f"{_program()} {name}" if name else found[0]

  return re.sub(r"python -m (facejax(?:\.\w+)+)", change, text)


def _list(prefix: str = "") -> str:
  width = max(map(len, COMMANDS))
  return "\n".join(
    f"  {name:<{width}}  {command.line}"
    for name, command in COMMANDS.items()
    if name.startswith(prefix)
  )


def _version() -> str:
  """As in facejax 0.1.0 (jax 0.10.1, flax 0.12.8, Python 3.11.2)."""
  import importlib.metadata  # the list needs to be quick

  others = [
    f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax")
  ]
  others.append(f"Python {platform.python_version()}")
  return f"facejax {facejax.__version__} ({', '.join(others)})"


def _completion(words: Sequence[str]) -> str:
  """The script for a shell, of the parsers of all commands."""
  from facejax.runtime import completion

  if len(words) != 1:
    raise ValueError(
      f"--print-completion takes one of {', '.join(completion.SHELLS)}"
    )
  with command_line.called(_as_typed):
    parsers = {
      name: importlib.import_module(command.module).parser()
      for name, command in COMMANDS.items()
    }
  return completion.script("facejax", parsers, words[0])


def program() -> NoReturn:
  """The console command."""
  last_words.end_by(main)


if __name__ == "__main__":
  program()
