"""Scripts with which a shell completes commands and their flags."""

import argparse
from collections.abc import Mapping

import shtab

SHELLS = tuple(shtab.SUPPORTED_SHELLS)


def script(
  name: str, commands: Mapping[str, argparse.ArgumentParser], shell: str
) -> str:
  """The script for one shell.

  Args:
    name: of the program.
    commands: the parser of each command; a command of two words is a part of
      the first.
    shell: one of SHELLS.

  Raises:
    ValueError: for a shell that is not known.
  """
  if shell not in SHELLS:
    raise ValueError(
      f"there is no completion for {shell!r}: choose {', '.join(SHELLS)}"
    )
  root = argparse.ArgumentParser(prog=name)
  root.add_argument("--version", action="store_true", help="the version")
  parts = {"": root.add_subparsers()}
  for words, parser in commands.items():
    group, _, last = words.rpartition(" ")
    if group not in parts:
      parts[group] = (
        parts[""].add_parser(group, help="more commands").add_subparsers()
      )
    _add(parts[group], last, parser)
  return shtab.complete(root, shell=shell)


def _add(
  parts: "argparse._SubParsersAction[argparse.ArgumentParser]",
  name: str,
  parser: argparse.ArgumentParser,
) -> None:
  """Hangs a finished parser under a name, as add_parser does a new one."""
  made = parts.add_parser(name, help=_line(parser), add_help=False)
  vars(made).update(vars(parser))
  _complete_files(made)


def _line(parser: argparse.ArgumentParser) -> str:
  return (parser.description or "").partition("\n")[0].replace("%", "%%")


def _complete_files(parser: argparse.ArgumentParser) -> None:
  """Lets a file follow whatever has no choices."""
  for action in parser._actions:
    if isinstance(action, argparse._SubParsersAction):
      for inner in action.choices.values():
        _complete_files(inner)
    elif action.nargs != 0 and action.choices is None:
      vars(action)["complete"] = shtab.FILE
