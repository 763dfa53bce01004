"""Photos in, people out: python -m facejax.people PHOTOS OUT."""

import argparse
import pathlib
import sys
import time
from collections.abc import Sequence

from facejax.data import image_sets
from facejax.data.aligning import folder as aligning
from facejax.data.aligning import found as found_faces
from facejax.data.aligning import landmarks, table
from facejax.data.detectors import registry
from facejax.report import people_page
from facejax.runs import embed_job, embedder
from facejax.runtime import command_flags, command_line, progress, unit_vectors
from facejax.vectors import album, clustering, embeddings, verdicts

_DESCRIPTION = """Finds the people in a folder of photographs.

All faces of all photos are found, aligned and embedded, and put together by
person. OUT/index.html shows the people with their photos and needs no network.
OUT/people.csv has a row a person: write names into it, and the same command again
shows them on the page and makes OUT/people.gallery, which facejax.search asks who
somebody is. New photos are added by the same command again; names stay with their
faces.

Examples:
  pip install 'facejax[detect,pretrained]'
  python -m facejax.people photos people
  xdg-open people/index.html
  python -m facejax.people photos people
      again, once names stand in people/people.csv
  python -m facejax.search query people/people.gallery who.jpg
  python -m facejax.people photos people --threshold 0.94
      stricter: fewer strangers in one group, more people in several

Nothing leaves this machine. docs/responsible_use.md says what to think of first.

Exit codes: 0 done, 2 bad input, 130 stopped by Ctrl-C or SIGTERM (the same
command again goes on)."""
_NAMED = 5
FACES, EMBEDDINGS = "faces", "faces.npz"


@command_line.command(computes=True, resumes=True)
def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  args = parser().parse_args(arguments)
  started = time.monotonic()
  model = embedder.load(args.run)
  threshold = _threshold(args, model)
  rows = _find(args, model)
  faces = _embedded(args, model, rows)
  vectors = unit_vectors.unit(faces.vectors)
  if len(vectors) > clustering.MOST_AT_ONCE:
    groups = clustering.components(vectors, threshold=threshold)
  else:
    groups = clustering.agglomerative(vectors, threshold=threshold)
  kept = {row.file: row for row in rows}
  known = album.named(args.out, list(map(str, faces.paths)), groups)
  album.write(args.out, known, kept)
  page = people_page.write(args.out, args.photos, known, kept)
  gallery = album.enrol(args.out, faces, known)
  _report(args, known, page, gallery, time.monotonic() - started)
  return 0


def _threshold(args: argparse.Namespace, model: embedder.Embedder) -> float:
  """The cosine from which on two faces are taken for one person's."""
  if args.threshold is not None:
    return args.threshold
  if model.card.generated:
    raise ValueError(f"--run {args.run}: {verdicts.NOT_OF_PEOPLE}")
  if model.threshold is None:
    raise ValueError(
      f"--run {args.run} has verified no pairs, so that nothing says from which"
      " cosine on two faces are one person's: pass --threshold"
    )
  return model.threshold


def _find(
  args: argparse.Namespace, model: embedder.Embedder
) -> list[album.KnownFace]:
  """Finds and aligns the faces of all photos; those that are there stay."""
  size = landmarks.size_of(model.card.template)
  settings = aligning.Settings(
    source=str(args.photos),
    target=str(args.out / FACES),
    image_size=size,
    detector=registry.Choice(args.detector),
    faces="all",
    template=model.card.template,
  )
  if not args.photos.is_dir():
    raise FileNotFoundError(f"there is no folder {str(args.photos)!r}")
  total = sum(1 for _ in table.walk(args.photos))
  told: list[str] = []
  with progress.counting("looked at", total) as advance:

    def report(outcome: aligning.Outcome) -> None:
      told.extend(outcome.complaints)
      advance(outcome.counts.total())

    counts = aligning.align_folder(
      table.walk(args.photos), settings, workers=args.workers, report=report
    )
  for line in told[:_NAMED]:
    print(f"left out: {line}", file=sys.stderr)
  if reasons := aligning.left_out(counts):
    print(f"left out in all: {reasons}", file=sys.stderr)
  rows = album.found(args.out / FACES / found_faces.NAME, args.photos)
  if not rows:
    raise ValueError(
      f"no face was found in the {total:,} files of {args.photos}"
    )
  return rows


def _embedded(
  args: argparse.Namespace,
  model: embedder.Embedder,
  rows: Sequence[album.KnownFace],
) -> embeddings.Embeddings:
  """The faces' embeddings; as they were where nothing is new."""
  out = args.out / EMBEDDINGS
  paths = [str(args.out / FACES / row.file) for row in rows]
  if out.exists():
    before = embeddings.read(out)
    same = list(map(str, before.paths)) == paths
    if same and before.about.get("run") == model.run:
      return before
    out.unlink()
  files = image_sets.ListedImages(paths)
  job = embed_job.EmbedJob(model, files, out)
  with progress.counting("embedded", len(files)) as advance:
    embed_job.run(job, advance)
  return embeddings.read(out)


def _report(
  args: argparse.Namespace,
  known: Sequence[album.KnownPerson],
  page: pathlib.Path,
  gallery: pathlib.Path | None,
  seconds: float,
) -> None:
  faces = sum(len(person.files) for person in known)
  often = sum(len(person.files) > 1 for person in known)
  print(
    f"{page}: {len(known):,} people in {faces:,} faces, {often:,} of them more"
    f" than once, {progress.duration(seconds)}"
  )
  names = len({person.name for person in known if person.name})
  if gallery is None:
    print(f"write names into {args.out / album.PEOPLE}, and run this again")
  else:
    print(f"{gallery}: {names:,} people with names")


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("people", _DESCRIPTION)
  add = parser.add_argument
  add("photos", metavar="PHOTOS", type=pathlib.Path, help="folder of photos")
  add("out", metavar="OUT", type=pathlib.Path, help="folder to write")
  add(
    "--run",
    default="dlib_resnet29",
    metavar="RUN",
    help="a net: a run of yours, or dlib_resnet29 (dlib_resnet29)",
  )
  add(
    "--detector",
    default="mtcnn",
    metavar="NAME",
    help="what finds the faces (mtcnn; pip install 'facejax[detect]')",
  )
  add(
    "--threshold",
    type=command_line.number(float, -1, 1),
    help="cosine from which on faces are one person's (that of the run)",
  )
  command_flags.workers(parser, least=0, what="processes; 0 does without")
  return parser


if __name__ == "__main__":
  sys.exit(main())
