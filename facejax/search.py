"""Who is this: python -m facejax.search build | query | add | remove | update."""

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

from facejax.data import image_sets
from facejax.runs import card as card_lib
from facejax.runs import embed_job, embedder, photographs
from facejax.runtime import command_flags, command_line, distributed, progress
from facejax.vectors import (
  answer_texts,
  embeddings,
  gallery_changes,
  nearest,
  storage,
  verdicts,
)
from facejax.vectors import gallery as gallery_lib

_DESCRIPTION = """Finds people in a gallery of known faces.

Examples:
  python -m facejax.embed runs/cosface-lfw people people.npz
  python -m facejax.search build people.gallery people.npz
      people: a folder with one folder of images a person
  python -m facejax.search query people.gallery who.jpg
  python -m facejax.search query people.gallery new.npz --votes 5 --out who.csv
  python -m facejax.search add people.gallery newcomers.npz

A small gallery can be built from images at once, with --run. Without --index the
search is exact: every query is compared with every face, block by block, on all
devices. The query's person is that of the nearest face, or the one whom most of
the --votes nearest faces show; "unknown" if none of them reaches --threshold (by
default that of the run's verification; the larger the gallery, the higher it
should be). Where no threshold is known all are "undecided", with the nearest
faces beside it.

Exit codes: 0 done, 2 bad input."""
_BUILD = """Examples:
  python -m facejax.search build people.gallery people.npz
  python -m facejax.search build people.gallery people --run runs/cosface-lfw
      of images: a folder with one folder a person
  python -m facejax.search build people.gallery people.npz --storage int8
      a quarter of the bytes in memory, for millions of faces
  python -m facejax.search build people.gallery people.npz --index HNSW32"""
_QUERY = """Examples:
  python -m facejax.search query people.gallery who.jpg
  python -m facejax.search query people.gallery new.npz --votes 5 --out who.csv"""
_ADD = """Those of a person who is known already join the others. No file that is
there is written anew; killed midway, nothing has happened.

Examples:
  python -m facejax.search add people.gallery newcomers.npz
  python -m facejax.search add people.gallery newcomers --run runs/cosface-lfw"""
_REMOVE = """They are not found any more, and stay on the disk until the gallery is
built anew. A face without a name is removed by its path.

Examples:
  python -m facejax.search remove people.gallery ada bob"""
_UPDATE = """All faces of the people in FACES are replaced; people who are not known
yet are added.

Examples:
  python -m facejax.search update people.gallery ada.npz"""
_EXIT_CODES = _DESCRIPTION.rpartition("\n\n")[2]
_SHOWN = 20


@command_line.command(computes=True)
def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  args = parser().parse_args(arguments)
  distributed.start(command_flags.processes_of(args))
  return args.action(args)


def build(args: argparse.Namespace) -> int:
  """Writes a gallery."""
  if len(args.faces) == 1:
    command_line.check_order(
      "FACES",
      args.faces[0],
      is_one=os.path.exists,
      what="there",
      others={"GALLERY": args.gallery},
    )
  gallery_lib.check_free(args.gallery)
  started = time.monotonic()
  sets = [_embeddings(path, args, args.run, {}) for path in args.faces]
  if not distributed.primary():
    return 0
  made = gallery_lib.build(
    args.gallery, sets, index=args.index, stored=args.storage
  )
  _print_size(args.gallery, made, time.monotonic() - started)
  return 0


def change(args: argparse.Namespace) -> int:
  """Adds or updates people."""
  _check_gallery(args.gallery, FACES=args.faces[0])
  started = time.monotonic()
  about = gallery_lib.open_gallery(args.gallery).known.about
  run = args.run or about.get("run")
  sets = [_embeddings(path, args, run, about) for path in args.faces]
  if distributed.primary():
    made = args.change(args.gallery, sets)
    _print_size(args.gallery, made, time.monotonic() - started)
  return 0


def remove(args: argparse.Namespace) -> int:
  """Removes people."""
  started = time.monotonic()
  if distributed.primary():
    made = gallery_changes.remove(args.gallery, args.names)
    _print_size(args.gallery, made, time.monotonic() - started)
  return 0


def _print_size(path, made: gallery_lib.Gallery, seconds: float) -> None:
  print(
    f"{path}: {made.faces:,} faces, {made.people:,} people,"
    f" {made.nameless:,} faces without a name, {progress.duration(seconds)}"
  )


def _check_gallery(path, **others) -> None:
  command_line.check_order(
    "GALLERY",
    path,
    is_one=gallery_lib.is_gallery,
    what="a gallery",
    others=others,
  )


def query(args: argparse.Namespace) -> int:
  """Answers who the queries are."""
  _check_gallery(args.gallery, QUERIES=args.queries)
  gallery = gallery_lib.open_gallery(args.gallery)
  about = gallery.known.about
  asked = _embeddings(args.queries, args, args.run or about.get("run"), about)
  if not distributed.primary():
    return 0
  gallery_lib.check_same_net(about, asked.about)
  threshold = _threshold(args, about, asked.about)
  k = min(max(args.top, args.votes), gallery.faces)
  started = time.monotonic()
  found = gallery.search(asked.vectors, k, exact=not args.approximate)
  seconds = time.monotonic() - started
  voters = nearest.Neighbours(*(part[:, : args.votes] for part in found))
  answers = gallery.answers(voters, threshold=threshold)
  told = answer_texts.Told(gallery, asked, found, answers, threshold, args.top)
  if args.out:
    told.write_table(args.out)
  for row in range(min(len(asked), _SHOWN)):
    print(told.line(row))
  if len(asked) > _SHOWN:
    print(f"… and {len(asked) - _SHOWN:,} more" + " (--out)" * (not args.out))
  print(told.summary(seconds))
  return 0


def _threshold(args: argparse.Namespace, *about: Any) -> float | None:
  """The one that was given, or of the gallery's run, or of the queries'."""
  if args.threshold is not None:
    return args.threshold
  cards = [one.get("card") or {} for one in about]
  if any(card.get("trained_on") == card_lib.GENERATED for card in cards):
    _tell(verdicts.NOT_OF_PEOPLE)
    return None
  known = (one.get("threshold") for one in about)
  return next((cosine for cosine in known if cosine is not None), None)


def _embeddings(
  path: str, args: argparse.Namespace, run: str | None, about: Any
) -> embeddings.Embeddings:
  """Reads embeddings, or makes them of images or photographs."""
  if pathlib.Path(path).suffix in embeddings.SUFFIXES:
    return embeddings.read(path)
  files = image_sets.open_set(path)
  if not run:
    raise ValueError(f"{path!r} holds images: name the net with --run RUN")
  model = embedder.load(run)
  photographer = photographs.Photographer(model.card, args.align, args.detector)
  if photographer.note:
    _tell(photographer.note)
  if photographer.looks:
    files = photographs.AlignedSet(files, photographer, _tell)
  with progress.counting("embedded", len(files)) as advance:
    flip = about.get("flip", True)
    found = embed_job.in_memory(model, files, flip=flip, advance=advance)
  for line in found.skipped:
    print(f"left out: {line}", file=sys.stderr)
  return found


def _tell(note: str) -> None:
  print(f"note: {note}", file=sys.stderr)


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("search", _DESCRIPTION)
  actions = parser.add_subparsers(required=True, metavar="build | query | …")
  add = _action(
    actions, "build", build, "make a gallery of known faces", _BUILD
  )
  add("gallery", metavar="GALLERY", type=pathlib.Path, help="folder to write")
  add("faces", metavar="FACES", nargs="+", help="embeddings, or images")
  add("--run", metavar="RUN", help="folder of a trained net, for images")
  add(
    "--index",
    default="",
    metavar="KIND",
    help="add an approximate index, as faiss calls it: HNSW32, IVF4096,Flat",
  )
  add(
    "--storage",
    choices=storage.KINDS,
    default="float32",
    help="what is searched (float32); bfloat16 and int8 take a half and a quarter"
    " of the memory, find as float32 does, and need its bytes on the disk too",
  )
  add = _action(actions, "query", query, "ask who somebody is", _QUERY)
  add("gallery", metavar="GALLERY", type=pathlib.Path, help="of build")
  add("queries", metavar="QUERIES", help="embeddings, or images")
  add(
    "--run",
    metavar="RUN",
    help="folder of a trained net, for images (that of the gallery)",
  )
  count = command_line.number(int, 1, 1000)
  add("--top", type=count, default=5, help="how many faces to show (5)")
  add("--votes", type=count, default=1, help="how many of them decide (1)")
  add(
    "--threshold",
    type=command_line.number(float, -1, 1),
    help="cosine from which on somebody is known (that of the run's"
    " verification, and undecided if it verified nothing; -1 names everybody)",
  )
  add("--approximate", action="store_true", help="ask the index instead")
  add(
    "--out",
    type=pathlib.Path,
    metavar="FILE.csv",
    help="file to write, a table",
  )
  _add_changes(actions)
  return parser


def _add_changes(actions) -> None:
  for name, function, text, example in (
    ("add", gallery_changes.add, "add faces to a gallery", _ADD),
    ("update", gallery_changes.update, "replace people's faces", _UPDATE),
  ):
    add = _action(actions, name, change, text, example, change=function)
    add("gallery", metavar="GALLERY", type=pathlib.Path, help="of build")
    add("faces", metavar="FACES", nargs="+", help="embeddings, or images")
    add(
      "--run",
      metavar="RUN",
      help="folder of a trained net, for images (that of the gallery)",
    )
  add = _action(actions, "remove", remove, "remove people", _REMOVE)
  add("gallery", metavar="GALLERY", type=pathlib.Path, help="of build")
  add("names", metavar="NAME", nargs="+", help="who is not to be found")


def _action(actions, name: str, run, text: str, example: str, **defaults):
  parser = actions.add_parser(
    name,
    help=text,
    description=command_line.spoken(
      f"{text[0].upper()}{text[1:]}.\n\n{example}\n\n{_EXIT_CODES}"
    ),
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.set_defaults(action=run, **defaults)
  if run is not remove:
    command_flags.photographs(parser)
  command_flags.processes(parser)
  return parser.add_argument


if __name__ == "__main__":
  sys.exit(main())
