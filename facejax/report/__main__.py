"""Builds the report of a run anew: python -m facejax.report RUN."""

import sys
from collections.abc import Sequence

from facejax.report import build
from facejax.runtime import command_flags, command_line

_DESCRIPTION = """Builds RUN/report/index.html from what lies in the folder of a run.

The page holds the results of evaluations, training curves, and what was run. It
is one file that opens in any browser, without a network. Training writes it at
its end, facejax.evaluate whenever it adds a result.

Examples:
  python -m facejax.report runs/cosface-lfw
      also while it trains: curves as far as they are
  rm runs/cosface-lfw/report/old.json && python -m facejax.report runs/cosface-lfw
      without one of the results

Exit codes: 0 done, 2 bad input."""


@command_line.command()
def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  print(build.write(parser().parse_args(arguments).workdir))
  return 0


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("report", _DESCRIPTION)
  command_flags.run(parser, what="folder of a run")
  return parser


if __name__ == "__main__":
  sys.exit(main())
