"""What the command lines have in common."""

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

Main = Callable[..., int]


def answered(main: Main) -> Main:
  """Lets a command line end with one message where the user was mistaken.

  Exit status 2 and no traceback for ValueError, OSError (no such file, no room)
  and a missing extra (ImportError).
  """

  @functools.wraps(main)
  def wrapped(arguments: Sequence[str] | None = None) -> int:
    try:
      return main(arguments)
    except (ValueError, OSError, ImportError) as error:
      print(f"error: {error}", file=sys.stderr)
      return 2

  return wrapped


def parser(name: str, description: str) -> argparse.ArgumentParser:
  """The parser of `python -m facejax.NAME`, whose help keeps its lines."""
  return argparse.ArgumentParser(
    prog=f"python -m facejax.{name}",
    description=description,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )


def number(
  kind: Callable[[str], Any], low: float, high: float = float("inf")
) -> Callable[[str], Any]:
  """A type of argument: numbers in [low, high]; underscores are allowed.

  >>> number(int, 1)("1_000")
  1000
  """
  what = "a whole number" if kind is int else "a number"
  bounds = f"from {low:,}"
  bounds = f"{bounds} on" if high == float("inf") else f"{bounds} to {high:,}"

  def parse(text: str) -> Any:
    try:
      value = kind(text)
    except ValueError:
      value = None
    if value is None or not low <= value <= high:
      raise argparse.ArgumentTypeError(f"{text!r}: must be {what} {bounds}")
    return value

  return parse


def extra(package: str, name: str) -> ImportError:
  """What to raise where a package of an extra is missing."""
  return ImportError(
    f"this needs {package}: install it with pip install 'facejax[{name}]'"
  )
