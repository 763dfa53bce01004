"""Compares trained nets: python -m facejax.compare RUN_A RUN_B --protocol …"""

import argparse
import json
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import rich
import rich.markup

from facejax.evaluation import (
  comparing,
  overlap,
  pair_lists,
  pair_people,
  pair_protocol,
  pair_results,
  protocols,
  verification,
)
from facejax.runs import embedder, results
from facejax.runtime import (
  command_flags,
  command_line,
  distributed,
  json_files,
  progress,
  text_lines,
)

_DESCRIPTION = """Compares two trained nets, or several of each recipe.

All of them judge the same pairs. Prints every figure of A and of B, their
difference with a 95 % interval, and p, the chance of such a difference if there
were none.

Two runs: whether these two nets differ, over people. Several runs a side, trained
with unlike seeds: whether their recipes do, over people and over seeds. What one
seed of each shows may be the seed's.

Accuracy is compared pair by pair. Pairs that share a person are taken as
dependent where people are known, which they are of lists and folders, not of
packs. Of many figures one differs by chance: where p for all of them together
(Holm) is below 0.05 one side is called better.

Protocols: lfw (View 2; list and images are found in FACEJAX_DATA), cfp, cfp_ff,
agedb, calfw, cplfw, or pairs, whose list is guessed.

Examples:
  python -m facejax.compare runs/cosface runs/arcface --protocol lfw
  python -m facejax.compare --a runs/cosface-0 runs/cosface-1 runs/cosface-2 \\
    --b runs/arcface-0 runs/arcface-1 runs/arcface-2 --protocol lfw
  python -m facejax.compare runs/new runs/old --pairs agedb_30.bin --json

Exit codes: 0 done, 2 bad input."""
_PROTOCOLS = ("pairs", *pair_lists.LISTS)


@command_line.command(computes=True)
def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  args = parser().parse_args(arguments)
  sides = _sides(args)
  _complete(args)
  command_flags.start(args)
  started = time.monotonic()
  (first, second), pairs, name, warnings = _scored(args, sides)
  rows = comparing.compare(first, second, pairs, samples=args.samples)
  if not distributed.primary():
    return 0
  notes = comparing.notes(first, second, pairs)
  if args.json:
    _write(args.json, sides, name, rows, [*notes, *warnings])
    return 0
  rich.print(comparing.table(rows, f"{name}: A against B"))
  for letter, side in zip("AB", sides, strict=True):
    names = ", ".join(map(text_lines.printable, side))
    rich.print(rich.markup.escape(f"{letter}: {names}"))
  for text in notes:
    rich.print(rich.markup.escape(f"{text}."))
  for text in warnings:
    rich.print(f"[yellow]warning:[/yellow] {rich.markup.escape(text)}")
  print(progress.duration(time.monotonic() - started))
  return 0


def _sides(args: argparse.Namespace) -> tuple[list[str], list[str]]:
  """The runs of A and of B.

  Raises:
    ValueError: if a side is missing, or a run is named twice.
  """
  if args.runs and (args.a or args.b):
    raise ValueError("give RUN_A RUN_B, or --a and --b, not both")
  if args.runs and len(args.runs) != 2:
    raise ValueError(
      f"{len(args.runs)} runs; give two, RUN_A RUN_B, or several a side with"
      " --a RUN … --b RUN …"
    )
  sides = ([args.runs[0]], [args.runs[1]]) if args.runs else (args.a, args.b)
  if not sides[0] or not sides[1]:
    raise ValueError("give RUN_A RUN_B, or --a RUN … --b RUN …")
  places = [os.path.realpath(run) for side in sides for run in side]
  if len(set(places)) < len(places):
    raise ValueError(
      "a run is named twice: it would be taken for two trainings that agree"
    )
  return sides


def _complete(args: argparse.Namespace) -> None:
  """Fills in what follows from the rest.

  Raises:
    ValueError: if there is no list of pairs.
  """
  if args.protocol == "lfw":
    args.pairs, args.path = pair_lists.lfw(args.pairs, args.path)
  if not args.pairs:
    needs = "give" if args.protocol is None else f"--protocol {args.protocol}"
    raise ValueError(f"{needs} --pairs, a list of pairs or a pack; or lfw")


def _scored(
  args: argparse.Namespace, sides: tuple[list[str], list[str]]
) -> tuple[
  list[list[comparing.NetScores]], comparing.SharedPairs, str, list[str]
]:
  """What every net makes of the pairs, the pairs, their name, and warnings."""
  options = protocols.ProtocolOptions(
    name="", path=args.path, batch_size=args.batch_size
  )
  protocol = pair_lists.LISTS.get(args.protocol)
  scores, warnings, shared, seen = [], [], None, None
  for side in sides:
    scores.append([])
    for run in side:
      model = embedder.load(run, devices=args.devices)
      opened, found = pair_protocol.scored(
        model, options, file=args.pairs, protocol=protocol
      )
      mark = pair_results.fingerprint(opened, verification.used_images(opened))
      if seen not in (None, mark):
        raise ValueError(f"{args.pairs} or its images changed; run it again")
      seen = mark
      scores[-1].append(comparing.NetScores(run, found.scores))
      warnings += _trained_on(model, opened, run)
      shared = comparing.SharedPairs(
        opened.same, opened.fold, pair_people.known(opened)
      )
  stem = text_lines.printable(pathlib.Path(args.pairs).resolve().stem)
  name = stem if args.protocol in (None, "pairs") else args.protocol
  assert shared is not None
  return scores, shared, name, warnings


def _trained_on(model: embedder.Embedder, opened: Any, run: str) -> list[str]:
  """Who of the tested people a net was trained on, if anybody may be."""
  names = pair_people.people_of(opened.source, verification.used_images(opened))
  text, warn = overlap.of_people(overlap.trained_on(model.run), names)
  return [f"{text_lines.printable(run)}: {text}."] if warn else []


def _write(
  place: Any,
  sides: tuple[list[str], list[str]],
  name: str,
  rows: Sequence[comparing.ComparedFigure],
  notes: Sequence[str],
) -> None:
  """Prints JSON, or writes it to a file."""
  content = {
    "pairs": name,
    "a": sides[0],
    "b": sides[1],
    "figures": [
      {
        "key": row.key,
        "a": row.first,
        "b": row.second,
        "difference": row.found.value,
        "low": row.found.interval.low,
        "high": row.found.interval.high,
        "standard_error": row.found.error,
        "p_value_alone": row.found.p_value,
        "p_value": row.p_value,
        "better": row.better,
        "convention": row.convention,
      }
      for row in rows
    ],
    "notes": notes,
  }
  if place is True:
    print(json.dumps(results.plain(content), indent=1))
  else:
    json_files.write(place, results.plain(content), indent=1)


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("compare", _DESCRIPTION)
  add = parser.add_argument
  count: Any = command_line.number(int, 2, 2**20)
  add("runs", nargs="*", metavar="RUN", help="RUN_A RUN_B, trained nets")
  add("--a", nargs="+", default=[], metavar="RUN", help="several runs of A")
  add("--b", nargs="+", default=[], metavar="RUN", help="several runs of B")
  add("--protocol", choices=_PROTOCOLS, metavar="PROTOCOL", help="see above")
  add("--pairs", default="", help="list of pairs, or a pack")
  add("--path", default="", metavar="IMAGES", help="folder of the images")
  add("--samples", type=count, default=1000, help="draws of people (1000)")
  command_flags.json(parser, file=True)
  command_flags.batch_size(parser)
  command_flags.devices(parser)
  command_flags.processes(parser)
  return parser


if __name__ == "__main__":
  sys.exit(main())
