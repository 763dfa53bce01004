"""Converts sets of images: python -m facejax.data.convert SRC DST."""

import argparse
import logging
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import get_args

from facejax.data import formats
from facejax.data.conversions import copying, verify
from facejax.data.pairs import lfw
from facejax.data.stores import set_header
from facejax.runtime import command_flags, command_line, text_lines

_DESCRIPTION = """Converts sets of images from one format to another.

  folder        SRC/IDENTITY/IMAGE.jpg
  record_io     train.rec, train.idx, property (InsightFace)
  array_record  sharded, checksummed records (grain)
  tfds          a data set of TFDS; to read only

Images are copied byte for byte, with their names, and in order: to train on the
converted set is to train on the source. DST appears when it is finished, with
checksums of all its files; until then the work is in DST.partial. The same
command again goes on after an interruption, with the finished shards kept.

Examples:
  python -m facejax.data.convert faces faces_records
      a folder of identities to array_record
  python -m facejax.data.convert ms1mv3 ms1mv3_records --workers 16 --verify
      InsightFace's records, with 16 processes; then reads all of it again
  python -m facejax.data.convert faces faces_rec --to record_io --shuffle 0
      in a random order, for trainers that read one record after another
  python -m facejax.data.convert faces_records faces --to folder
      back to files
  python -m facejax.data.convert faces_records --verify
      compares a set with its checksums

Exit codes: 0 done, 2 bad input, 130 stopped by Ctrl-C or SIGTERM (the same
command again goes on)."""


@command_line.command(resumes=True)
def main(arguments: Sequence[str] | None = None) -> int:
  """The command line; returns the exit code."""
  known = parser()
  args = known.parse_args(arguments)
  if args.destination is None and not args.verify:
    known.error("give DST, or --verify to compare SRC with its checksums")
  logging.basicConfig(format="%(levelname)s: %(message)s")
  if args.destination is not None:
    command_line.check_order(
      "SRC",
      args.source,
      is_one=os.path.exists,
      what="there",
      others={"DST": args.destination},
    )
    _convert(args)
  if args.verify:
    path = args.destination or args.source
    count = verify.verify(path, workers=args.workers)
    print(f"{_shown(path)}: {count:,} images, as they were written")
  return 0


def _convert(args: argparse.Namespace) -> None:
  started = time.monotonic()
  _check_apart(args.source, args.destination)
  form = args.form or formats.guess(args.source)
  to = args.to or ("folder" if form == "array_record" else "array_record")
  listed = args.identities and lfw.read_identities(args.identities)
  only = listed and [text_lines.printable(name) for name in listed]
  files = formats.open_images(args.source, form, split=args.split, only=only)
  plan = copying.plan(
    files,
    to=to,
    source_kind=form,
    shards=args.shards,
    shuffle=args.shuffle,
  )
  print(
    f"{form} {_shown(args.source)}: {plan.images:,} images of"
    f" {plan.identities:,} identities, to {to} in {plan.shard_count:,} shards",
    flush=True,
  )
  written = copying.convert(files, args.destination, plan, workers=args.workers)
  seconds = time.monotonic() - started
  done = f"written in {seconds:,.1f} s" if written else "was there already"
  print(f"{to} {_shown(args.destination)} {done}")


def _check_apart(source: str, destination: str) -> None:
  """Refuses to write a set into itself."""
  here, there = os.path.realpath(source), os.path.realpath(destination)
  inner = os.path.commonpath([here, there])
  if inner in (here, there):
    raise ValueError(
      f"{_shown(destination)} and {_shown(source)} lie in one another; give a"
      " DST beside SRC"
    )


def _shown(path: str | os.PathLike[str]) -> str:
  return text_lines.printable(os.fspath(path))


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("data.convert", _DESCRIPTION)
  add = parser.add_argument
  add("source", metavar="SRC", help="the set to read")
  add("destination", metavar="DST", nargs="?", help="the folder to write")
  add(
    "--to",
    choices=set_header.KINDS,
    help="(array_record; folder if SRC is array_record)",
  )
  add(
    "--from",
    dest="form",
    choices=get_args(formats.Format),
    help="format of SRC (guessed from the files that lie there)",
  )
  add("--split", default="train", help="of a tfds SRC (train)")
  add(
    "--identities",
    type=pathlib.Path,
    metavar="FILE",
    help="only these: one name a line, or an LFW people file",
  )
  add(
    "--shards",
    type=command_line.number(int, 1, set_header.MAX_SHARDS),
    metavar="N",
    help="parts of the work (one for 2,048 images, up to 64; more above 8"
    " million images)",
  )
  add(
    "--shuffle",
    type=command_line.number(int, 0, 2**32 - 1),
    metavar="SEED",
    help="write in a random order; not to a folder (in the order of SRC)",
  )
  command_flags.workers(parser)
  add("--verify", action="store_true", help="read what was written again")
  return parser


if __name__ == "__main__":
  sys.exit(main())
