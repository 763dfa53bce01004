"""The command line of alignment: python -m facejax.data.align SRC DST."""

import argparse
import collections
import os
import sys
from collections.abc import Iterator, Sequence
from typing import get_args

from facejax.data.aligning import folder, table
from facejax.data.aligning import landmarks as geometry
from facejax.data.aligning import settings as settings_lib
from facejax.data.detectors import registry
from facejax.runtime import command_flags, command_line, progress

_DESCRIPTION = """Aligns all faces of a folder by five landmarks.

DST gets the same folders as SRC, each face as a JPEG of one size: both eyes,
the nose and the corners of the mouth lie where ArcFace and CosFace have them.

Examples:
  python -m facejax.data.align photos faces --detector mtcnn
      112 x 112 pixels; needs pip install 'facejax[detect]'
  python -m facejax.data.align photos faces --detector mtcnn --faces all
      all faces of each photo: a/b.jpg becomes a/b_1.jpg, a/b_2.jpg ...
  python -m facejax.data.align photos chips --detector mtcnn --template dlib
      150 x 150 pixels, for the net dlib_resnet29
  python -m facejax.data.align photos faces --detector yunet \\
      --detector-model face_detection_yunet_2023mar.onnx
  python -m facejax.data.align photos faces --landmarks points.csv \\
      --size 112 96 --workers 8
      height 112, width 96, as SphereFace and CosFace have it; points.csv:
      path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5

Landmarks are pixels from the centre of the upper left one of the upright photo,
in the order eye, eye, nose, corner, corner of the mouth, each time first that
left in the picture. Images that cannot be aligned are left out, named and
counted. The same command again goes on where it was stopped.

With a detector, DST/faces.csv tells of each face its points, file, score, box
and quality; it can be given back as --landmarks. Of the large faces of a photo
the most central is taken, or all. Another package brings a detector by an entry
point of the group facejax.detectors: a function of a uint8 RGB image [height,
width, 3] that returns the landmarks of all faces in it, float [n, 5, 2], or
facejax.data.detectors.contract.Faces.

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
  choice = _detector(args)
  height, width = args.size or geometry.size_of(args.template)
  settings = folder.Settings(
    source=args.source,
    target=args.target,
    image_size=(height, width),
    quality=args.quality,
    antialias=not args.no_antialias,
    detector=choice,
    faces=args.faces,
    template=args.template,
  )
  counts, faces = _run(args, settings)
  print(f"{args.target}: {_summary(counts, faces)}")
  return 0


def _detector(args: argparse.Namespace) -> registry.Choice | None:
  """Raises ValueError for options of a detector beside a table."""
  options = (args.detector_model, args.min_face, args.min_score)
  if args.detector is not None:
    return registry.Choice(args.detector, *options)
  if options != (None, None, None):
    raise ValueError(
      "--detector-model, --min-face and --min-score are a detector's; leave them"
      " out beside --landmarks"
    )
  return None


def _run(
  args: argparse.Namespace, settings: folder.Settings
) -> tuple[collections.Counter[str], int]:
  """What became of how many photos, and how many faces were found in them."""
  total = sum(1 for _ in _faces(args))
  complaints: list[str] = []
  rows = 0
  with progress.counting("aligned", total) as advance:

    def report(outcome: folder.Outcome) -> None:
      nonlocal rows
      rows += len(outcome.rows)
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
  return counts, rows


def _faces(args: argparse.Namespace) -> Iterator[table.ListedFace]:
  if args.landmarks is not None:
    return table.read_table(args.landmarks)
  return table.walk(args.source)


def _summary(counts: collections.Counter[str], faces: int = 0) -> str:
  """As in 3 aligned, 1 already there, 2 left out: 2 no such image.

  >>> _summary(collections.Counter({"aligned": 3, "no such image": 2}))
  '3 aligned, 2 left out: 2 no such image'
  >>> _summary(collections.Counter({"aligned": 3}), faces=8)
  '3 aligned (8 faces)'
  """
  fates = [kind for kind in folder.FINE if counts[kind]]
  parts = [f"{counts[kind]:,} {kind}" for kind in fates]
  if faces > counts["aligned"]:
    parts[0] += f" ({faces:,} faces)"
  text = ", ".join(parts)
  if named := folder.left_out(counts):
    count = counts.total() - sum(counts[kind] for kind in fates)
    text += f", {count:,} left out: {named}"
  return text


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("data.align", _DESCRIPTION)
  add = parser.add_argument
  add("source", metavar="SRC", help="the folder of photos")
  add("target", metavar="DST", help="the folder of aligned faces")
  where = parser.add_mutually_exclusive_group(required=True)
  where.add_argument("--landmarks", metavar="CSV", help="table of landmarks")
  where.add_argument(
    "--detector",
    metavar="NAME",
    help="finds the faces: mtcnn, yunet, or one of another package",
  )
  add(
    "--detector-model",
    metavar="FILE",
    help="the net of yunet, face_detection_yunet_2023mar.onnx or another",
  )
  add(
    "--min-face",
    type=command_line.number(int, 8, 65535),
    metavar="PIXELS",
    help="side of the smallest faces (20, or a 64th of the longer side)",
  )
  add(
    "--min-score",
    type=command_line.number(float, 0.0, 1.0),
    metavar="SCORE",
    help="the lowest score of a face (mtcnn 0.7, yunet 0.6)",
  )
  add(
    "--faces",
    choices=get_args(settings_lib.Faces),
    default="main",
    help="of each photo the main face, or all, numbered (main)",
  )
  add(
    "--size",
    type=command_line.number(int, 1, 4096),
    nargs=2,
    metavar=("HEIGHT", "WIDTH"),
    help="a square, or shaped like 112 96 (112 112; of dlib 150 150)",
  )
  add(
    "--template",
    choices=get_args(geometry.Template),
    default="arcface",
    help="arcface, as nets here are trained; dlib, for dlib_resnet29",
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
