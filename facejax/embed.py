"""Embeds a set of images: python -m facejax.embed RUN IMAGES OUT.npz."""

import argparse
import pathlib
import sys
import time
from collections.abc import Sequence

from facejax.data import image_sets
from facejax.runs import embed_job, embedder
from facejax.runs import folder as run_folder
from facejax.runtime import (
  command_flags,
  command_line,
  progress,
)
from facejax.vectors import embeddings

_DESCRIPTION = """Embeds a set of images with a trained net.

IMAGES is a folder (of images, of folders with images, one a person, or of both:
those beside the folders then have no name), a list
(.txt: PATH or PATH<tab>NAME a line; .csv with a comma), a .rec file, or another
set that facejax.train reads. OUT holds embeddings of length 1, paths, labels and
names, and the card of the net; see facejax.vectors.embeddings.

Examples:
  python -m facejax.embed runs/cosface-lfw photos photos.npz
  python -m facejax.embed runs/cosface-lfw list.txt photos.parquet --no-flip
      a table for others; image alone, without its mirror image: half the time
  python -m facejax.embed runs/cosface-lfw faces.rec faces.npz --on-error raise

Stopped, the same command again goes on: parts lie in OUT.parts until all are
there, and the file is the same to the byte. An image that cannot be read is left
out, counted and named; more than --max-bad-share of them is an error.
Exit codes: 0 done, 2 bad input, 130 stopped by Ctrl-C or SIGTERM (the same
command again goes on)."""
_NAMED = 10


@command_line.command(computes=True, resumes=True)
def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  args = parser().parse_args(arguments)
  command_flags.start(args)
  command_line.check_order(
    "RUN",
    args.run,
    is_one=run_folder.is_run,
    what="the folder of a run",
    others={"IMAGES": args.images, "OUT": args.out},
  )
  embeddings.check_suffix(args.out)
  if args.out.exists() and not args.overwrite:
    raise ValueError(f"{args.out} exists: pass --overwrite, or name another")
  files = image_sets.open_set(
    args.images, max_bad_share=args.max_bad_share, recursive=args.recursive
  )
  model = embedder.load(args.run, devices=args.devices)
  job = embed_job.EmbedJob(
    model,
    files,
    args.out,
    batch_size=args.batch_size,
    flip=args.flip,
    part=args.part,
    on_error=args.on_error,
    max_bad_share=args.max_bad_share,
  )
  started = time.monotonic()
  with progress.counting("embedded", len(files)) as advance:
    found = embed_job.run(job, advance)
  if found is None:  # another process has written it
    return 0
  # A folder leaves out what is no image at once, and its warnings name it.
  damaged = len(found.skipped) + getattr(files, "skipped", 0)
  _report(args, model, found, damaged, time.monotonic() - started)
  return 0


def _report(
  args: argparse.Namespace,
  model: embedder.Embedder,
  found: embeddings.Embeddings,
  damaged: int,
  seconds: float,
) -> None:
  for line in found.skipped[:_NAMED]:
    print(f"left out: {line}", file=sys.stderr)
  people = len({int(label) for label in found.labels if label >= 0})
  print(
    f"{args.out}: {len(found.labels):,} embeddings of"
    f" {model.card.embedding_dim} numbers, {people:,} people,"
    f" {damaged:,} images left out, {progress.duration(seconds)}"
  )


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("embed", _DESCRIPTION)
  add = parser.add_argument
  add("run", metavar="RUN", help="folder of a trained net")
  add("images", metavar="IMAGES", help="folder, list or record file")
  add("out", metavar="OUT", type=pathlib.Path, help="file, .npz or .parquet")
  command_flags.batch_size(parser)
  command_flags.devices(parser)
  add(
    "--flip",
    action=argparse.BooleanOptionalAction,
    default=True,
    help="sum the embeddings of image and mirror image, as verification does",
  )
  add(
    "--recursive",
    action="store_true",
    help="take images at any depth within a person's folder, too",
  )
  add(
    "--on-error",
    choices=("skip", "raise"),
    default="skip",
    help="an image that cannot be read: leave it out (skip), or stop",
  )
  add(
    "--max-bad-share",
    type=command_line.number(float, 0, 1),
    default=0.01,
    help="most that may be left out, as a share (0.01)",
  )
  add(
    "--part",
    type=command_line.number(int, 1, 2**20),
    default=4096,
    metavar="N",
    help="images saved together (4096)",
  )
  command_flags.overwrite(parser)
  command_flags.processes(parser)
  return parser


if __name__ == "__main__":
  sys.exit(main())
