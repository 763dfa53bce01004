"""What the command lines have in common."""

import argparse
import contextlib
import contextvars
import difflib
import functools
import os
import re
import select
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from facejax.runtime import backends, distributed, extras, plain_output

Main = Callable[..., int]

EXIT_MISTAKE = 2
EXIT_STOPPED = 130  # as shells report Ctrl-C
_EXIT_UNREAD = 141  # as shells report SIGPIPE
_LEAST_COLUMNS = 40
# Before a path: nothing, a flag, what kind of set it is.
_PATH_BEGINS = re.compile(r"(--[\w.-]+=)?([a-z_]+:)?(?=~)")
# Set to anything, it shows where a mistake was noticed.
_TRACEBACK = "FACEJAX_TRACEBACK"

# How the person calls commands: as the texts have it, python -m facejax.NAME.
_SPOKEN: contextvars.ContextVar[Callable[[str], str]] = contextvars.ContextVar(
  "spoken", default=str
)


def command(
  *, computes: bool = False, resumes: bool = False
) -> Callable[[Main], Main]:
  """Makes a function of arguments a command: messages and exit codes.

  ValueError, OSError, an import that wants an extra of facejax and devices that
  JAX does not find are mistakes of the user: one message, exit code 2, no
  traceback (but with the variable FACEJAX_TRACEBACK). An import of anything else that fails is a bug, and keeps
  its traceback. Ctrl-C is 130; nothing is said about an output that nobody
  reads on (`| head`).

  The function is given a list of words: those of the process, if it is called
  without any.

  Args:
    computes: freed memory and compiled programs are kept for the next step and
      start. This starts no JAX backend.
    resumes: the same command again goes on; SIGTERM is taken like Ctrl-C.
  """

  def decorate(main: Main) -> Main:
    @functools.wraps(main)
    def wrapped(arguments: Sequence[str] | None = None) -> int:
      _widen()
      plain_output.use()
      if computes:
        _keep_for_next_time()
      with _terminable() if resumes else contextlib.nullcontext():
        words = sys.argv[1:] if arguments is None else arguments
        with distributed.ended_together() as leave:
          code, said = _answered(main, [*map(expanded, words)], resumes=resumes)
          leave(code, said)
          return code

    return wrapped

  return decorate


def _answered(
  main: Main, arguments: Sequence[str], *, resumes: bool
) -> tuple[int, str]:
  """Runs a command; its mistakes become messages and exit codes."""
  try:
    try:
      return main(arguments), ""
    finally:
      sys.stdout.flush()
  except KeyboardInterrupt:
    hint = "; the same command again goes on" if resumes else ""
    text = f"stopped{hint}"
    print(text, file=sys.stderr)
    return EXIT_STOPPED, text
  except (ValueError, OSError, ImportError) as error:
    if isinstance(error, BrokenPipeError) and _nobody_reads():
      return _EXIT_UNREAD, ""
    bug = isinstance(error, ImportError) and extras.answer(error) is None
    if bug or os.environ.get(_TRACEBACK):
      raise
    text = extras.answer(error) if isinstance(error, ImportError) else error
  except (RuntimeError, AssertionError):
    text = backends.complaint()
    if text is None or os.environ.get(_TRACEBACK):
      raise
  print(f"error: {text}", file=sys.stderr)
  return EXIT_MISTAKE, str(text)


def expanded(word: str) -> str:
  """A word of a command line with ~ as the home folder, where a path begins.

  Shells do it for ~/faces, but neither for --data.path=~/faces nor for
  folder:~/faces.

  >>> expanded("--data.path=~/faces") == f"--data.path={expanded('~/faces')}"
  True
  """
  begin = _PATH_BEGINS.match(word)
  if begin is None:
    return word
  return begin[0] + os.path.expanduser(word[begin.end() :])


def _nobody_reads() -> bool:
  """Whether the pipe that is broken is the output's; if so, it is let go."""
  try:
    place = sys.stdout.fileno()
  except (OSError, ValueError):
    return False
  watch = select.poll()
  watch.register(place, 0)
  if not any(
    what & (select.POLLERR | select.POLLHUP) for _, what in watch.poll(0)
  ):
    return False
  # Or the interpreter, too, would complain as it ends.
  os.dup2(os.open(os.devnull, os.O_WRONLY), place)
  return True


def _widen() -> None:
  """Lets help fit: in a few columns the formatters do not end."""
  if shutil.get_terminal_size().columns < _LEAST_COLUMNS:
    os.environ["COLUMNS"] = str(_LEAST_COLUMNS)


def _keep_for_next_time() -> None:
  from facejax.runtime import compile_cache, host_memory  # imports JAX

  host_memory.keep_freed_memory()
  compile_cache.use()


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
  """Takes SIGTERM like Ctrl-C, where this thread may decide."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  before = signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def called(change: Callable[[str], str]) -> Iterator[None]:
  """Within it, helps name commands as `change` makes of them."""
  token = _SPOKEN.set(change)
  try:
    yield
  finally:
    _SPOKEN.reset(token)


def spoken(text: str) -> str:
  """A text with its `python -m facejax.NAME` as the person calls them."""
  return _SPOKEN.get()(text)


class Parser(argparse.ArgumentParser):
  """Reads --batch_size as --batch-size, and suggests a flag for a typo."""

  def flags(self) -> set[str]:
    """All flags, with those of the parts of a command."""
    found: set[str] = set()
    for action in self._actions:
      found.update(action.option_strings)
      if isinstance(action, argparse._SubParsersAction):
        for inner in action.choices.values():
          found |= inner.flags()
    return found

  # The overloads of argparse cannot be said in one signature.
  def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]
    self, args=None, namespace=None
  ) -> Any:
    words = list(sys.argv[1:] if args is None else args)
    end = words.index("--") if "--" in words else len(words)
    flags = self.flags()
    for k, word in enumerate(words[:end]):
      flag, equals, value = word.partition("=")
      hyphened = flag.replace("_", "-")
      if word.startswith("--") and flag not in flags and hyphened in flags:
        words[k] = hyphened + equals + value
    return super().parse_known_args(words, namespace)

  def parse_args(  # pyright: ignore[reportIncompatibleMethodOverride]
    self, args=None, namespace=None
  ) -> Any:
    found, others = self.parse_known_args(args, namespace)
    if others:
      self.unknown(others)
    return found

  def unknown(self, words: Sequence[str]) -> None:
    """Ends with a message about words that are no arguments."""
    hints = [
      near
      for word in words
      for near in difflib.get_close_matches(
        word.partition("=")[0], self.flags() - {"-h"}, n=1
      )
    ]
    hint = f"; did you mean {', '.join(hints)}?" if hints else ""
    self.error(f"unrecognized arguments: {' '.join(words)}{hint}")


def parser(name: str, description: str) -> Parser:
  """The parser of `python -m facejax.NAME`, whose help keeps its lines."""
  return Parser(
    prog=spoken(f"python -m facejax.{name}"),
    description=spoken(description),
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )


def check_order(
  name: str,
  path: str | os.PathLike[str],
  *,
  is_one: Callable[[str], bool],
  what: str,
  others: Mapping[str, str | os.PathLike[str]],
) -> None:
  """Says that two arguments look exchanged, where they do.

  Args:
    name: of an argument, as the help calls it.
    path: what was given for it.
    is_one: whether a path is what is wanted there.
    what: is wanted, in words.
    others: other arguments, by name.

  Raises:
    ValueError: if the path is none, and one of the others is.
  """
  if is_one(os.fspath(path)):
    return
  for other, there in others.items():
    if is_one(os.fspath(there)):
      raise ValueError(
        f"{name} and {other} look exchanged: {os.fspath(there)!r} is {what},"
        f" {os.fspath(path)!r} is not"
      )


def number(
  kind: Callable[[str], Any],
  low: float,
  high: float = float("inf"),
  *,
  why: str = "",
) -> Callable[[str], Any]:
  """A type of argument: numbers in [low, high]; underscores are allowed.

  `why` is said where a number is refused.

  >>> number(int, 1)("1_000")
  1000
  """
  what = "a whole number" if kind is int else "a number"
  bounds = f"from {low:,}"
  bounds = f"{bounds} on" if high == float("inf") else f"{bounds} to {high:,}"
  bounds += why and f": {why}"

  def parse(text: str) -> Any:
    try:
      value = kind(text)
    except ValueError:
      value = None
    if value is None or not low <= value <= high:
      raise argparse.ArgumentTypeError(f"{text!r}: must be {what} {bounds}")
    return value

  return parse
