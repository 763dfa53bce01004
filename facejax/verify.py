"""Compares two faces: python -m facejax.verify RUN A.jpg B.jpg."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from facejax.runs import card as card_lib
from facejax.runs import embedder, metrics_file, photographs, thresholds
from facejax.runs import folder as run_folder
from facejax.runtime import command_flags, command_line, unit_vectors
from facejax.vectors import verdicts

_DESCRIPTION = """Says whether two images show the same person.

The images are photographs, or faces that are aligned already. Where a detector
is installed (pip install 'facejax[detect]') it finds the face of each photograph,
of several the main one, which is aligned as RUN wants it. RUN may be
dlib_resnet29, a net for people's faces (pip install 'facejax[pretrained]').

The similarity is the cosine of the two embeddings, image and mirror image
summed. The decision is made at the threshold that the run keeps, of its own
verification or of facejax.evaluate --keep-threshold, or at --threshold; without
one it is "undecided". So it is where no face was found, and with a net that was
trained on generated faces, unless --threshold is given: what such a net says of
people means nothing.

Where the run knows it, the answer tells how many strangers score as high, with a
95 % interval, and the likelihood ratio of one person against two, in words of the
scale of ENFSI. How likely one person is after that also depends on how likely it
was before.

Examples:
  python -m facejax.verify dlib_resnet29 ada.jpg bob.jpg
  python -m facejax.verify runs/cosface-lfw ada.jpg bob.jpg
  python -m facejax.verify runs/cosface-lfw ada.jpg bob.jpg --threshold 0.35
  python -m facejax.verify runs/cosface-lfw ada.jpg bob.jpg --json

Exit codes: 0 compared, whatever the result; 2 bad input."""


@command_line.command(computes=True)
def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  args = parser().parse_args(arguments)
  command_line.check_order(
    "RUN",
    args.run,
    is_one=run_folder.is_run,
    what="the folder of a run",
    others={"A": args.first, "B": args.second},
  )
  model = embedder.load(args.run, devices=1)
  photographer = photographs.Photographer(model.card, args.align, args.detector)
  faces = [photographer.face(path) for path in (args.first, args.second)]
  for note in (photographer.note, *(face.note for face in faces)):
    if note:
      print(f"note: {note}", file=sys.stderr)
  pair = model.embed([face.pixels for face in faces], flip=True)
  result = _result(
    unit_vectors.similarity(*pair),
    args.threshold,
    metrics_file.threshold(model.run),
    doubt=_doubt(model.card, faces),
  )
  print(json.dumps(result) if args.json else _words(result))
  return 0


def _doubt(card: card_lib.Card, faces: Sequence[photographs.Face]) -> str:
  """Why nothing can be said of these pictures, or ""."""
  if not all(face.certain for face in faces):
    return (
      "a picture shows no face that was found (--align off takes it as one)"
    )
  return verdicts.NOT_OF_PEOPLE if card.generated else ""


def _result(
  cosine: float,
  given: float | None,
  stored: thresholds.Threshold | None,
  *,
  doubt: str,
) -> dict[str, Any]:
  threshold, source = given, "given"
  if given is None:
    threshold = None
    source = f"this run has verified no pairs; {verdicts.ADVICE}"
    if stored is not None:
      threshold = stored.cosine
      source = str(stored)
    if doubt:
      threshold, source = None, doubt
  same = verdicts.same_person(cosine, threshold)
  return {
    "similarity": cosine,
    "same_person": None if same is None else bool(same),
    "threshold": threshold,
    "threshold_from": source,
    "threshold_fmr": _fmr(stored, threshold),
    # The net's own knowledge, whoever chose the threshold.
    **thresholds.told(None if doubt else stored, cosine),
  }


def _fmr(
  stored: thresholds.Threshold | None, threshold: float | None
) -> dict[str, Any] | None:
  """The FMR of the threshold in use, where it is the stored one."""
  if stored is None or threshold != stored.cosine:
    return None
  return {
    "rate": stored.false_matches,
    "low": stored.low,
    "high": stored.high,
    "strangers": stored.strangers,
    "protocol": stored.protocol,
    "pairs": stored.pairs,
    "data": dict(stored.data),
  }


def _words(result: dict[str, Any]) -> str:
  cosine = f"similarity {result['similarity']:.4f}"
  if result["same_person"] is None:
    return f"{cosine}: {verdicts.UNDECIDED}, {result['threshold_from']}"
  verdict = "the same person" if result["same_person"] else "different people"
  known = thresholds.words(result)
  return (
    f"{cosine}: {verdict} (threshold {result['threshold']:.4f},"
    f" {result['threshold_from']})"
  ) + (f"; {known}" if known else "")


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("verify", _DESCRIPTION)
  parser.add_argument("run", metavar="RUN", help="folder of a trained net")
  parser.add_argument("first", metavar="A", help="image")
  parser.add_argument("second", metavar="B", help="image")
  parser.add_argument(
    "--threshold",
    type=command_line.number(float, -1, 1),
    help="cosine from which on it is the same person",
  )
  command_flags.photographs(parser)
  command_flags.json(parser)
  return parser


if __name__ == "__main__":
  sys.exit(main())
