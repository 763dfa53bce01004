"""Groups images by person: python -m facejax.cluster EMB.npz OUT."""

import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from facejax.metrics import clustering as metrics
from facejax.runtime import command_flags, command_line, progress, unit_vectors
from facejax.vectors import cluster_files, clustering, embeddings

_DESCRIPTION = """Groups images by person, without knowing any.

Methods:
  components      joins near neighbours from --threshold on; millions of images.
                  One wrong pair joins two people: the more images, the higher
                  it must be, far above the threshold of verification
  agglomerative   merges clusters whose mean cosine reaches --threshold (that of
                  the run's verification); up to 20,000 images
  hdbscan         clusters of any density, the rest is nobody's (scikit-learn)

OUT.csv gets a row an image: cluster, size, path, label. Any other OUT is a new
folder: one folder a cluster with links to its images (--copy for copies), and
`single` for those alone. The largest cluster comes first; the same input gives
the same output.

Examples:
  python -m facejax.embed runs/cosface-lfw photos photos.npz
  python -m facejax.cluster photos.npz people --threshold 0.7
  python -m facejax.cluster photos.npz people.csv --method agglomerative
  python -m facejax.cluster photos.npz people --method hdbscan --min-size 3

Exit codes: 0 done, 2 bad input."""
# What share of how many images makes one suspect that all have been joined.
_MOST, _MANY = 0.5, 100
_METHODS = ("components", "agglomerative", "hdbscan")


@command_line.command(computes=True)
def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  args = parser().parse_args(arguments)
  command_line.check_order(
    "EMB",
    args.embeddings,
    is_one=embeddings.is_file,
    what="a file of embeddings",
    others={"OUT": args.out},
  )
  cluster_files.check_out(args.out, overwrite=args.overwrite)
  started = time.monotonic()
  found = embeddings.read(args.embeddings)
  clusters = _cluster(args, found)
  if args.out.suffix == ".csv":
    cluster_files.write_table(args.out, found, clusters)
  else:
    cluster_files.write_folders(args.out, found, clusters, copy=args.copy)
  print(f"{args.out}: {_summary(found, clusters)}")
  if np.mean(clusters == 0) > _MOST and len(found) >= _MANY:
    print("most images are in one cluster: raise --threshold", file=sys.stderr)
  spent = progress.duration(time.monotonic() - started)
  print(f"{_quality(found, clusters)}{spent}")
  return 0


def _cluster(args, found: embeddings.Embeddings) -> np.ndarray:
  """The cluster of each image, -1 for those alone."""
  vectors = unit_vectors.unit(found.vectors)
  if args.method == "components":
    clusters = clustering.components(
      vectors, threshold=_threshold(args, None), neighbours=args.neighbours
    )
  elif args.method == "agglomerative":
    clusters = clustering.agglomerative(
      vectors, threshold=_threshold(args, found.about.get("threshold"))
    )
  else:
    clusters = clustering.hdbscan(
      vectors, min_size=args.min_size, threshold=args.threshold
    )
  sizes = np.bincount(clusters[clusters >= 0], minlength=1)
  small = sizes[clusters] < args.min_size
  return np.where(small | (clusters < 0), -1, clusters)


def _threshold(args, stored: float | None) -> float:
  threshold = stored if args.threshold is None else args.threshold
  if threshold is None:
    raise ValueError(
      f"--method {args.method} needs --threshold, the cosine from which on"
      " images are joined"
    )
  return float(threshold)


def _summary(found: embeddings.Embeddings, clusters: np.ndarray) -> str:
  sizes = np.bincount(clusters[clusters >= 0])
  text = f"{len(found):,} images, {len(sizes):,} clusters"
  if len(sizes):
    text += f", the largest of {sizes[0]:,}"
  return f"{text}, {int((clusters < 0).sum()):,} images alone"


def _quality(found: embeddings.Embeddings, clusters: np.ndarray) -> str:
  """How good the clusters are, where the people are known."""
  known = found.labels >= 0
  if known.sum() < 2 or len(np.unique(found.labels[known])) < 2:
    return ""
  table = metrics.contingency(
    found.labels[known], metrics.singletons(clusters[known])
  )
  pairwise, bcubed = metrics.pairwise(table), metrics.bcubed(table)
  return (
    f"against the labels: pairwise F {pairwise.f:.4f} (precision"
    f" {pairwise.precision:.4f}, recall {pairwise.recall:.4f}), BCubed F"
    f" {bcubed.f:.4f}; "
  )


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("cluster", _DESCRIPTION)
  add = parser.add_argument
  add("embeddings", metavar="EMB", help="file that facejax.embed wrote")
  add("out", metavar="OUT", type=pathlib.Path, help="FILE.csv, or a folder")
  add("--method", choices=_METHODS, default="components")
  add(
    "--threshold",
    type=command_line.number(float, -1, 1),
    help="cosine from which on images are joined",
  )
  count: Any = command_line.number(int, 1, 1000)
  add("--neighbours", type=count, default=20, help="of components (20)")
  add(
    "--min-size",
    type=command_line.number(int, 2),
    default=2,
    help="clusters of fewer images count as images alone (2)",
  )
  add("--copy", action="store_true", help="copy images instead of linking")
  command_flags.overwrite(parser)
  return parser


if __name__ == "__main__":
  sys.exit(main())
