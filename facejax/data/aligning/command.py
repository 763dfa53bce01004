"""The command line of alignment: python -m facejax.data.align SRC DST."""

import argparse
import collections
import os
import sys
from collections.abc import Iterator, Sequence

from facejax.data.aligning import folder, table
from facejax.runtime import command_flags, command_line, progress

_DESCRIPTION = """Aligns all faces of a folder by five landmarks.

DST gets the same folders as SRC, each face as a JPEG of one size: both eyes,
the nose and the corners of the mouth lie where ArcFace and CosFace have them.

Examples:
  python -m facejax.data.align photos faces --landmarks points.csv
      112 x 112 pixels; points.csv: path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5
  python -m facejax.data.align photos faces --landmarks points.csv \\
      --size 112 96 --workers 8
      height 112, width 96, as SphereFace and CosFace have it
  python -m facejax.data.align photos faces --detector NAME
      with a detector that another package brings

Landmarks are pixels from the centre of the upper left one, in the order eye,
eye, nose, corner, corner of the mouth, each time first that left in the picture.
Images that cannot be aligned are left out, named and counted. The same command
again goes on where it was stopped.

A detector is an entry point of the group facejax.detectors: a function of a
uint8 RGB image [height, width, 3] that returns the landmarks of all faces in
it, float [n, 5, 2]. Of the large ones the most central is taken.

Exit codes: 0 done, 2 bad input, 130 stopped by Ctrl-C or SIGTERM (the same
command again goes on)."""

_NAMED = 10


@command_line.command(resumes=True)
def main(arguments: Sequence[str] | None = None) -> int:
  """The command line; returns the exit code."""
  args = parser().parse_args(arguments)
  command_line.check_order(
    "SRC",
    args.source,
    is_one=os.path.exists,
    what="there",
    others={"DST": args.target},
  )
  settings = folder.Settings(
    source=args.source,
    target=args.target,
    image_size=tuple(args.size),
    quality=args.quality,
    antialias=not args.no_antialias,
    detector=args.detector,
  )
  counts = _run(args, settings)
  print(f"{args.target}: {_summary(counts)}")
  return 0


def _run(
  args: argparse.Namespace, settings: folder.Settings
) -> collections.Counter[str]:
  total = sum(1 for _ in _faces(args))
  complaints: list[str] = []
  with progress.counting("aligned", total) as advance:

    def report(outcome: folder.Outcome) -> None:
      for complaint in outcome.complaints:
        if len(complaints) < _NAMED:
          print(f"left out: {complaint}", file=sys.stderr)
        complaints.append(complaint)
      advance(outcome.counts.total())

    counts = folder.align_folder(
      _faces(args), settings, workers=args.workers, report=report
    )
  if not counts["aligned"] and not counts["already there"]:
    first = f"; the first: {complaints[0]}" if complaints else ""
    raise ValueError(f"none of {total} images could be aligned{first}")
  return counts


def _faces(args: argparse.Namespace) -> Iterator[table.ListedFace]:
  if args.landmarks is not None:
    return table.read_table(args.landmarks)
  return table.walk(args.source)


def _summary(counts: collections.Counter[str]) -> str:
  """As in 3 aligned, 1 already there, 2 left out: 2 no such image.

  >>> _summary(collections.Counter({"aligned": 3, "no such image": 2}))
  '3 aligned, 2 left out: 2 no such image'
  """
  fates = [kind for kind in ("aligned", "already there") if counts[kind]]
  text = ", ".join(f"{counts[kind]:,} {kind}" for kind in fates)
  reasons = {k: n for k, n in counts.most_common() if k not in fates}
  if reasons:
    named = ", ".join(f"{count:,} {kind}" for kind, count in reasons.items())
    text += f", {sum(reasons.values()):,} left out: {named}"
  return text


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("data.align", _DESCRIPTION)
  add = parser.add_argument
  add("source", metavar="SRC", help="the folder of photos")
  add("target", metavar="DST", help="the folder of aligned faces")
  where = parser.add_mutually_exclusive_group(required=True)
  where.add_argument("--landmarks", metavar="CSV", help="table of landmarks")
  where.add_argument("--detector", metavar="NAME", help="finds the landmarks")
  add(
    "--size",
    type=command_line.number(int, 1, 4096),
    nargs=2,
    metavar=("HEIGHT", "WIDTH"),
    default=(112, 112),
    help="a square, or shaped like 112 96 (112 112)",
  )
  command_flags.workers(parser, least=0, what="processes; 0 does without")
  add(
    "--quality",
    type=command_line.number(int, 1, 100),
    default=95,
    metavar="N",
    help="of the JPEGs (95)",
  )
  add(
    "--no-antialias",
    action="store_true",
    help="do not shrink large faces first, as the published data sets did not",
  )
  return parser
