"""Evaluates a trained net: python -m facejax.evaluate RUN …"""

import argparse
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

from facejax.evaluation import (
  clusters,
  face_quality,
  further,
  kept,
  pair_lists,
  pair_protocol,
  people_table,
  protocols,
  table,
  verification,
)
from facejax.metrics import verification as metrics
from facejax.report import build
from facejax.runs import embedder, metrics_file, pretrained, results
from facejax.runtime import (
  command_flags,
  command_line,
  distributed,
  progress,
  text_lines,
)

_DESCRIPTION = """Evaluates a trained net by a protocol of the field.

Prints every figure with its convention and its 95 % interval, writes
RUN/report/NAME.json, and builds RUN/report/index.html anew. Intervals know which
pairs share a person, but for packs; FNMR and FNIR are told where 30 errors or more
are expected.

Protocols:
  pairs           --pairs LIST_OR_PACK --path IMAGES: verification over folds
                  (the protocol of a list is guessed: LFW, CFP, AgeDB, CALFW …);
                  of a folder of packs each
  lfw             the same of LFW's View 2, pairs.txt; lists and images are found
                  in FACEJAX_DATA. Says who of the tested people was trained on
  cfp, cfp_ff, agedb, calfw, cplfw, xqlfw, mlfw, rfw, bfw
                  the same where a list is not to be guessed
  drawn           --path PEOPLE: verification on pairs that are drawn, in ten folds
                  with nobody in two of them
  identification  --path PEOPLE, a folder a person: rank-k, CMC, open-set TPIR at
                  FPIR, precision at 1, R-precision, MAP@R, clusters
  clustering      --path PEOPLE: clusters alone
  ijbb, ijbc      --pairs FOLDER_OF_LISTS --path LOOSE_CROPS: templates 1:1 and 1:N
  ytf             --pairs splits.txt --path FRAMES, which has NAME/VIDEO/FRAME.jpg:
                  verification of videos, by mean feature and by pairs of frames
  tinyface        --path Testing_Set: rank-k among mates and distractors
  certainty       --path TRAINING_IMAGES: CR-FIQA's ratio by the net's prototypes
  megaface        --path PROBES --distractors FACES, folders, lists or embeddings:
                  rank-1 among 10 … all distractors, TAR at FAR 1e-6
  overlap         --path TEST --training FACES: who of the test set is in a training
                  set, by face: lists for --seen here and for train --data.exclude

Examples:
  python -m facejax.evaluate runs/cosface-lfw --protocol lfw
  python -m facejax.evaluate runs/cosface-lfw --pairs agedb_30.bin
  python -m facejax.evaluate runs/cosface-lfw \\
    --pairs pairsDevTest.txt --path lfw_112 --threshold-pairs pairsDevTrain.txt
  python -m facejax.evaluate runs/cosface-lfw --protocol lfw --fold 3
      fold 3 alone, of a net that was trained on people of the other nine
  python -m facejax.evaluate runs/cosface-lfw --protocol lfw \\
    --groups people.csv --group-by region region,age
      error rates of groups of people, at one threshold for all
  python -m facejax.evaluate runs/cosface-lfw --protocol lfw \\
    --keep-threshold --fmr 1e-2
      facejax.verify and others then decide at that threshold
  python -m facejax.evaluate runs/new --protocol lfw --gallery-net runs/old
      whether the old run's gallery is of use to the new net
  python -m facejax.evaluate runs/cosface-lfw \\
    --protocol identification --path orl
  python -m facejax.evaluate runs/cosface-lfw --protocol ytf --frames 100 \\
    --pairs splits.txt --path aligned_images_DB
  python -m facejax.evaluate runs/cosface-lfw --protocol megaface \\
    --path facescrub --distractors flickr.npz --leave-out megaface_noises.txt

Exit codes: 0 done, 2 bad input."""

_LISTS = pair_lists.LISTS
_TEMPLATES = ("ijbb", "ijbc")
_PEOPLE = ("identification", "clustering")
_PROTOCOLS = ("pairs", *_LISTS, *_PEOPLE, *_TEMPLATES, *further.NAMES)


@command_line.command(computes=True)
def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  args = parser().parse_args(arguments)
  _complete(args)
  command_flags.start(args)
  started = time.monotonic()
  model = embedder.load(args.workdir, devices=args.devices)
  if args.workdir in pretrained.PACKAGES:
    # What is found out of a net that has no folder here is kept with it.
    args.workdir = model.run
  found = [_evaluate(one, model) for one in further.each(args, _name)]
  if not distributed.primary():
    return 0
  written = [str(results.write(args.workdir, result)) for result in found]
  page = build.write(args.workdir)
  for result in found:
    table.show(result)
  took = progress.duration(time.monotonic() - started)
  print(f"{', '.join(written)} and {page} written, {took}")
  return 0


def _complete(args: argparse.Namespace) -> None:
  """Fills in what follows from the rest.

  Raises:
    ValueError: if something is missing, or does not belong.
  """
  if args.protocol is None:
    if not args.pairs:
      raise ValueError(
        "give --pairs, a list of pairs or a pack, or one of the protocols"
        f" {', '.join(_PROTOCOLS)}"
      )
    args.protocol = "pairs"
  if args.protocol == "lfw":
    args.pairs, args.path = pair_lists.lfw(args.pairs, args.path)
  if args.protocol in _PEOPLE:
    needed = ("path",)
  elif args.protocol in _TEMPLATES:
    needed = ("pairs", "path")
  elif args.protocol in further.NAMES:
    needed = ()
  else:
    needed = ("pairs",)
  for name in needed:
    if not getattr(args, name):
      raise ValueError(f"--protocol {args.protocol} needs --{name}")
  further.check(args)
  if args.fold is not None and args.protocol in (*_PEOPLE, *_TEMPLATES):
    raise ValueError(f"--protocol {args.protocol} has no folds")
  if args.gallery_net and args.protocol in (*_PEOPLE, *_TEMPLATES):
    raise ValueError(f"--protocol {args.protocol} has no --gallery-net")
  if args.threshold is not None and args.threshold_pairs:
    raise ValueError("--threshold and --threshold-pairs: give one of them")
  args.name = args.name or _name(args)
  takes = args.protocol in ("pairs", *_LISTS) and args.fold is None
  args.asked = people_table.of_flags(args, takes=takes)
  takes = (takes or args.protocol == "drawn") and not args.gallery_net
  args.keep = kept.of_flags(args, takes=takes and args.fold is None)
  args.quality = face_quality.of_flags(args, takes=takes)


def _name(args: argparse.Namespace) -> str:
  """What the result is called when nobody says."""
  if args.protocol in further.NAMES:
    name = further.name(args)
    return name if args.fold is None else f"{name}_fold{args.fold}"
  place = pathlib.Path(args.path if args.protocol in _PEOPLE else args.pairs)
  stem = text_lines.printable(place.resolve().stem)
  name = {"pairs": stem, "lfw": "lfw_view2"}.get(args.protocol, args.protocol)
  if args.protocol in _PEOPLE:
    name += f"_{stem}"
  if args.gallery_net:
    name += f"_in_{text_lines.printable(pathlib.Path(args.gallery_net).name)}"
  return name if args.fold is None else f"{name}_fold{args.fold}"


def _evaluate(
  args: argparse.Namespace, model: embedder.Embedder
) -> results.Result:
  options = protocols.ProtocolOptions(
    name=args.name,
    path=args.path,
    batch_size=args.batch_size,
    hardest=args.hardest,
    samples=args.samples,
    seen=args.seen,
    keep=args.keep,
    quality=args.quality,
  )
  if args.protocol in further.NAMES:
    return further.evaluate(args, model, options)
  gallery = pair_protocol.gallery_net(
    args.gallery_net, model, devices=args.devices
  )
  elsewhere = None
  if args.threshold_pairs:
    _, elsewhere = pair_protocol.scored(
      model, options, file=args.threshold_pairs
    )
  if args.protocol in _TEMPLATES:
    return protocols.templates(
      model,
      options,
      folder=args.pairs,
      keep_norms=args.norms,
      use_detector=args.detector,
    )
  if args.protocol in _PEOPLE:
    return protocols.identify(
      model,
      options,
      cluster_at=_cluster_at(args, elsewhere),
      method=args.method,
      enrolled=args.gallery_images,
      fpir=args.fpir,
      seed=args.seed,
      search=args.protocol == "identification",
    )
  return pair_protocol.pairs(
    model,
    options,
    file=args.pairs,
    protocol=_LISTS.get(args.protocol),
    threshold=args.threshold,
    elsewhere=elsewhere,
    fold=None if args.fold is None else args.fold - 1,
    gallery=gallery,
    asked=args.asked,
  )


def _cluster_at(
  args: argparse.Namespace, elsewhere: verification.Verification | None
) -> float | None:
  """A cosine given, the best of other pairs, or the one that the run keeps."""
  if args.threshold is not None:
    return args.threshold
  if elsewhere is not None:
    return metrics.best_threshold(elsewhere.scores, elsewhere.same)
  stored = metrics_file.threshold(args.workdir)
  return None if stored is None else stored.cosine


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("evaluate", _DESCRIPTION)
  add = parser.add_argument
  count: Any = command_line.number(int, 1, 2**20)
  cosine: Any = command_line.number(float, -1, 1)
  command_flags.run(parser)
  add("--protocol", choices=_PROTOCOLS, metavar="PROTOCOL", help="see above")
  add("--pairs", default="", help="list of pairs, pack, or folder of lists")
  add("--path", default="", metavar="IMAGES", help="folder of the images")
  add("--name", default="", help="what the result is called")
  add(
    "--threshold-pairs", default="", help="other pairs that choose a threshold"
  )
  add("--threshold", type=cosine, help="a cosine chosen elsewhere")
  add(
    "--gallery-net",
    default="",
    metavar="RUN",
    help="pairs: another run's net for the second images, as a gallery has it",
  )
  add("--fold", type=count, help="test this fold alone, counted from 1")
  people_table.add_flags(parser)
  kept.add_flags(parser)
  face_quality.add_flags(parser)
  add(
    "--gallery-images",
    type=count,
    default=1,
    help="enrolled of each person (1)",
  )
  share: Any = command_line.number(float, 0, 1)
  seed: Any = command_line.number(int, 0, 2**32 - 1)
  add("--fpir", type=share, default=0.01, help="strangers that may pass (0.01)")
  add(
    "--seed",
    type=seed,
    default=0,
    help="of the halves of the open set, of the order of distractors (0)",
  )
  add("--method", choices=clusters.METHODS, help="of the clusters")
  add("--hardest", type=count, default=8, help="pairs of each kind to show (8)")
  add("--samples", type=count, default=1000, help="draws of a bootstrap (1000)")
  for name, what in (
    ("norms", "templates: keep the lengths of features (N)"),
    ("detector", "templates: weigh images by the detector (D)"),
  ):
    add(
      f"--{name}",
      action=argparse.BooleanOptionalAction,
      default=True,
      help=what,
    )
  further.add_flags(parser)
  command_flags.batch_size(parser)
  command_flags.devices(parser)
  command_flags.processes(parser)
  return parser


if __name__ == "__main__":
  sys.exit(main())
