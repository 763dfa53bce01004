"""The flags of facejax.train as argparse has them, for shells to complete."""

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any

from facejax.runtime import command_line
from facejax.training import recipe


def parser() -> command_line.Parser:
  """A parser with the flags of all installed recipes.

  It is no second command line: tyro reads the flags, each loss with its own.
  """
  parser = command_line.parser("train", "Trains a face embedding.")
  names = [path.stem for path in recipe.installed()]
  seen: set[str] = set()
  for name in names:
    command = recipe.TrainCommand(**vars(recipe.load(name)), config=name)
    for flags, choices in _flags(command):
      if flags[0] in seen:
        continue
      seen.add(flags[0])
      if flags[0] == "--config":
        choices = tuple(f"{name}.py" for name in names)
      if len(flags) > 1:
        parser.add_argument(*flags, action="store_true")
      else:
        parser.add_argument(*flags, choices=choices)
  return parser


def _flags(
  command: Any, prefix: str = ""
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...] | None]]:
  """Each flag, a switch with its opposite, and what may follow it."""
  hints = typing.get_type_hints(type(command))
  for field in dataclasses.fields(command):
    value, hint = getattr(command, field.name), hints[field.name]
    name = prefix + field.name.replace("_", "-")
    if dataclasses.is_dataclass(value):
      yield from _flags(value, f"{name}.")
    elif hint is bool:
      before, dot, last = name.rpartition(".")
      yield (f"--{name}", f"--{before}{dot}no-{last}"), None
    else:
      yield (f"--{name}",), _choices(hint)


def _choices(hint: Any) -> tuple[str, ...] | None:
  """The values of a Literal, also within X | None.

  >>> _choices(typing.Literal["a", "b"] | None)
  ('a', 'b')
  """
  if typing.get_origin(hint) is typing.Literal:
    return tuple(str(value) for value in typing.get_args(hint))
  if typing.get_origin(hint) in (typing.Union, types.UnionType):
    found = [_choices(part) for part in typing.get_args(hint)]
    return next(filter(None, found), None)
  return None
