"""Groups images by person: python -m facejax.cluster EMB.npz OUT."""

import csv
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from facejax.data import images
from facejax.metrics import clustering as metrics
from facejax.runs import embedder
from facejax.runtime import command_flags, command_line
from facejax.vectors import clustering, embeddings

_DESCRIPTION = """Groups images by person, without knowing any.

Methods:
  components      joins near neighbours from --threshold on; millions of images.
                  One wrong pair joins two people: the more images, the higher
                  it must be, far above the threshold of verification
  agglomerative   merges clusters whose mean cosine reaches --threshold (that of
                  the run's verification); up to 20,000 images (scikit-learn)
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
_CLUSTER, _SINGLE = "cluster_", "single"
# What share of how many images makes one suspect that all have been joined.
_MOST, _MANY = 0.5, 100
_METHODS = ("components", "agglomerative", "hdbscan")


@command_line.command(computes=True)
def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  args = parser().parse_args(arguments)
  _check_out(args.out, args.overwrite)
  started = time.monotonic()
  found = embeddings.read(args.embeddings)
  clusters = _cluster(args, found)
  if args.out.suffix == ".csv":
    _write_table(args.out, found, clusters)
  else:
    _write_folders(args.out, found, clusters, copy=args.copy)
  print(f"{args.out}: {_summary(found, clusters)}")
  if np.mean(clusters == 0) > _MOST and len(found) >= _MANY:
    print("most images are in one cluster: raise --threshold", file=sys.stderr)
  print(f"{_quality(found, clusters)}{time.monotonic() - started:.1f} s")
  return 0


def _check_out(out: pathlib.Path, overwrite: bool) -> None:
  if not os.path.lexists(out):
    return
  if not overwrite:
    raise ValueError(f"{out} exists: pass --overwrite, or name another")
  if out.is_dir() and (out.suffix == ".csv" or not _is_ours(out)):
    raise ValueError(f"{out} is a folder that holds other things; name another")


def _cluster(args, found: embeddings.Embeddings) -> np.ndarray:
  """The cluster of each image, -1 for those alone."""
  vectors = embedder.unit(found.vectors)
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


def _write_table(path, found: embeddings.Embeddings, clusters) -> None:
  sizes = np.bincount(clusters[clusters >= 0], minlength=1)
  draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
  try:
    with draft.open("w", newline="", errors="surrogateescape") as file:
      out = csv.writer(file)
      out.writerow(["cluster", "size", "path", "label"])
      for row in _rows(clusters):
        cluster, label = clusters[row], int(found.labels[row])
        size = 1 if cluster < 0 else sizes[cluster]
        name = found.names[label] if label >= 0 else ""
        out.writerow([cluster, size, found.paths[row], name])
    os.replace(draft, path)
  finally:
    draft.unlink(missing_ok=True)


def _write_folders(path, found, clusters, *, copy: bool) -> None:
  places = [pathlib.Path(str(place)) for place in found.paths]
  for place in places:
    if not place.is_file():
      raise ValueError(
        f"there is no file {images.printable(str(place))!r}: run this where the"
        " images were embedded from, or write a table (OUT.csv)"
      )
  sizes = np.bincount(clusters[clusters >= 0], minlength=1)
  draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
  draft.mkdir(parents=True)
  try:
    taken: set[pathlib.Path] = set()
    for row in _rows(clusters):
      cluster, source = clusters[row], places[row]
      name = _SINGLE
      if cluster >= 0:
        name = f"{_CLUSTER}{cluster:05d}_of_{sizes[cluster]}"
      target = draft / name / source.name
      if target in taken:
        target = target.with_stem(f"{source.stem}_{row}")
      taken.add(target)
      target.parent.mkdir(exist_ok=True)
      if copy:
        shutil.copyfile(source, target)
      else:
        target.symlink_to(source.absolute())
    _replace(draft, path)
  finally:
    shutil.rmtree(draft, ignore_errors=True)


def _replace(draft: pathlib.Path, path: pathlib.Path) -> None:
  """Puts a folder in the place of an older one of ours."""
  if path.is_symlink() or path.is_file():
    path.unlink()
  elif path.exists():
    shutil.rmtree(path)
  os.rename(draft, path)


def _is_ours(path: pathlib.Path) -> bool:
  """Whether a folder holds nothing but clusters, and may be replaced."""
  names = [entry.name for entry in path.iterdir()]
  return all(n == _SINGLE or n.startswith(_CLUSTER) for n in names)


def _rows(clusters: np.ndarray) -> list[int]:
  """Rows cluster by cluster, those alone at the end."""
  return np.lexsort((clusters, clusters < 0)).tolist()


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
