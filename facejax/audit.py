"""A data set judged by its own net: python -m facejax.audit RUN DATA --out OUT."""

import argparse
import dataclasses
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from facejax.data import encoded, formats, image_sets
from facejax.evaluation import overlap_by_face
from facejax.evaluation.audits import (
  cases,
  decisions,
  duplicates,
  embedded_set,
  judge,
  prototypes,
  tested,
)
from facejax.report import audit_page
from facejax.runs import embed_job, embedder
from facejax.runs import folder as run_folder
from facejax.runtime import (
  command_flags,
  command_line,
  distributed,
  progress,
)
from facejax.vectors import embeddings

_DESCRIPTION = """Finds wrong labels in a set of images, by the embeddings of a net.

DATA is a set that facejax.train reads. RUN may be a net trained on it, wrong labels
and all, or another. Found are: one person under two names, images under a wrong
name, two people under one name, images that are like nobody, and the same picture
under two names; with --against TEST also who is in a test set. From which score on they are believed, the set itself tells
(docs/audit.md); --precision says how sure to be.

OUT gets exclude.txt, merge.csv and relabel.csv, which facejax.train takes, audit.json
with counts and thresholds, and audit.html, a sheet of the worst cases with pictures,
which needs no network: look at it before you train. Files of an audit before are
replaced.

Examples:
  python -m facejax.audit runs/cosface-web sets/web --out audit
  python -m facejax.audit runs/cosface-web sets/web --out audit --precision 0.95
      fewer findings, of which more are right
  python -m facejax.train --config cosface.py --data.path sets/web \\
    --data.exclude audit/exclude.txt --data.merge audit/merge.csv \\
    --data.relabel audit/relabel.csv

Stopped, the same command again goes on: embeddings are kept in OUT.
Exit codes: 0 done, 2 bad input, 130 stopped by Ctrl-C or SIGTERM (the same
command again goes on)."""
EMBEDDINGS = "embeddings.npz"


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
    others={"DATA": args.data},
  )
  started = time.monotonic()
  files = formats.open_images(args.data, recursive=args.recursive)
  against = tested.opened(args.against, files)
  model = embedder.load(args.run, devices=args.devices)
  args.out.mkdir(parents=True, exist_ok=True)
  found, kept = _embedded(args, model, files)
  source = model.decoded(files)
  limits, middle = duplicates.copies(
    lambda batch: model.embed(batch, flip=True),
    source,
    kept.tolist(),
    seed=args.seed,
    bits=args.copy_bits,
    cosine=args.copy_cosine,
  )
  labels, shared = np.asarray(files.labels)[kept], []
  if against is not None:
    rows = overlap_by_face.Vectors(kept, labels, found.vectors)
    place = {"batch_size": args.batch_size, "out": args.out}
    shared = tested.people(model, against, source, rows, **place)
  if not distributed.primary():
    # All have embedded; the rest takes one, with all of its devices.
    return 0
  images = embedded_set.EmbeddedSet(
    # Of length 1, and read from the file as they are needed.
    found.vectors,
    labels,
    files.num_classes,
    model.mesh,
  )
  judgement = judge.judged(images, _options(args))
  with progress.counting("hashed", len(kept)) as advance:
    hashes = duplicates.hashed(source, kept.tolist(), middle, advance=advance)
  copies = duplicates.pairs(hashes, images.vectors, limits)
  decided = decisions.decided(
    images, judgement, copies, second_people=args.apart is not None
  )
  done = _Audit(args, model, files, kept, images, judgement, decided)
  _write(done, limits, shared)
  page = _sheet(done, source)
  _report(args, decided, shared, page, time.monotonic() - started)
  return 0


class _Audit(NamedTuple):
  """What was asked for, looked at and found."""

  args: argparse.Namespace
  model: embedder.Embedder
  files: encoded.EncodedImages
  kept: np.ndarray
  images: embedded_set.EmbeddedSet
  judgement: judge.Judgement
  decided: decisions.Decisions


def _embedded(
  args: argparse.Namespace,
  model: embedder.Embedder,
  files: encoded.EncodedImages,
) -> tuple[embeddings.Embeddings, np.ndarray]:
  """Embeddings, kept in OUT, and the place in the set of each."""
  out = args.out / EMBEDDINGS
  paths = [image_sets.image_path(files, k) for k in range(len(files))]
  place = {path: k for k, path in enumerate(paths)}

  def fits(found: embeddings.Embeddings) -> bool:
    about = (found.about.get("run"), found.about.get("step"))
    if about != (model.run, model.step):
      return False
    there = len(found) + len(found.skipped)
    return there == len(paths) and set(map(str, found.paths)) <= set(paths)

  found = embeddings.read(out) if out.exists() else None
  known = distributed.gathered(found is not None and fits(found))[0]
  if found is None or not known:
    distributed.only_primary(lambda: out.unlink(missing_ok=True))
    job = embed_job.EmbedJob(model, files, out, batch_size=args.batch_size)
    with progress.counting("embedded", len(files)) as advance:
      embed_job.run(job, advance)
    distributed.barrier()
    found = embeddings.read(out)
  kept = np.asarray([place[str(path)] for path in found.paths])
  return found, kept


def _options(args: argparse.Namespace) -> judge.AuditOptions:
  names = [field.name for field in dataclasses.fields(judge.AuditOptions)]
  return judge.AuditOptions(**{name: getattr(args, name) for name in names})


def _write(
  done: _Audit, limits: duplicates.Copies, shared: Sequence[str]
) -> None:
  """Writes lists and summary."""
  args, files = done.args, done.files
  summary: dict[str, Any] = {
    "run": done.model.run,
    "step": done.model.step,
    "data": args.data,
    "images": len(done.kept),
    "options": dataclasses.asdict(_options(args)),
    **done.judgement.told(),
    "copies": limits._asdict(),
    "people_in_test_set": len(shared),
    "prototypes": prototypes.told(
      args.run,
      list(files.class_names),
      done.images,
      mesh=done.model.mesh,
      most=args.worst,
    ),
  }
  decisions.write(
    args.out,
    done.decided,
    people=files.class_names,
    image=lambda row: files.name(int(done.kept[row])),
    summary=summary,
    tested=shared,
  )


def _sheet(done: _Audit, source: encoded.Decoded) -> pathlib.Path:
  """Writes the page of the worst cases."""
  args, files = done.args, done.files
  sheet = cases.Sheet(
    done.images,
    done.judgement,
    done.decided,
    files.class_names,
    cases.thumbnail_of(source, done.kept),
    args.worst,
  )
  return audit_page.write(
    args.out,
    data=args.data,
    run=args.run,
    count=f"{len(done.images):,} images of {files.num_classes:,} people",
    sections=sheet.sections(),
  )


def _report(
  args: argparse.Namespace,
  decided: decisions.Decisions,
  shared: Sequence[str],
  page: pathlib.Path,
  seconds: float,
) -> None:
  print(
    f"{page}: {len(decided.merge):,} people to merge,"
    f" {len(decided.relabel):,} images to relabel, {len(decided.exclude):,} to"
    f" leave out, {_people(shared)}{progress.duration(seconds)}"
  )
  lists = {
    decisions.EXCLUDE: decided.exclude or shared,
    decisions.MERGE: decided.merge,
    decisions.RELABEL: decided.relabel,
  }
  flags = [
    f"--data.{file.partition('.')[0]} {args.out / file}"
    for file, rows in lists.items()
    if rows
  ]
  if flags:
    print(f"to train with that: {' '.join(flags)}")


def _people(shared: Sequence[str]) -> str:
  return f"{len(shared):,} people in the test set, " if shared else ""


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("audit", _DESCRIPTION)
  add = parser.add_argument
  add("run", metavar="RUN", help="folder of a trained net")
  add("data", metavar="DATA", help="set of images of people")
  out: Any = {"metavar": "OUT", "type": pathlib.Path}
  add("--out", required=True, help="folder to write", **out)
  command_flags.batch_size(parser)
  command_flags.devices(parser)
  add(
    "--recursive",
    action="store_true",
    help="take images at any depth within a person's folder, too",
  )
  add(
    "--against",
    default="",
    metavar="TEST",
    help="a test set: who is in it, by face, is left out (see evaluate's overlap)",
  )
  judge.add_flags(parser)
  add(
    "--worst",
    type=command_line.number(int, 0, 1000),
    default=24,
    metavar="N",
    help="cases of each kind on the sheet (24)",
  )
  add(
    "--seed",
    type=command_line.number(int, 0, 2**32 - 1),
    default=0,
    help="of halves and strangers that findings are measured by (0)",
  )
  command_flags.processes(parser)
  return parser


if __name__ == "__main__":
  sys.exit(main())
