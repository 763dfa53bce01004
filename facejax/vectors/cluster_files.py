"""Clusters of images as a table, or as folders that people look through."""

import os
import pathlib
import shutil
from typing import Any

import numpy as np

from facejax.runtime import csv_files, text_lines, whole_files
from facejax.vectors import embeddings

_CLUSTER, _SINGLE = "cluster_", "single"


def check_out(out: pathlib.Path, *, overwrite: bool) -> None:
  """Refuses what is there already, unless it may be replaced.

  Raises:
    ValueError: if it may not, or is a folder that holds other things.
  """
  if not os.path.lexists(out):
    return
  if not overwrite:
    raise ValueError(f"{out} exists: pass --overwrite, or name another")
  if out.is_dir() and (out.suffix == ".csv" or not _is_ours(out)):
    raise ValueError(f"{out} is a folder that holds other things; name another")


def write_table(
  path: pathlib.Path, found: embeddings.Embeddings, clusters: np.ndarray
) -> None:
  """Writes a row an image: cluster, size, path, label.

  Args:
    path: the file.
    found: the images.
    clusters: the cluster of each, -1 for those alone.
  """
  sizes = np.bincount(clusters[clusters >= 0], minlength=1)

  def line(row: int) -> tuple[Any, ...]:
    cluster, label = clusters[row], int(found.labels[row])
    size = 1 if cluster < 0 else sizes[cluster]
    name = found.names[label] if label >= 0 else ""
    return cluster, size, found.paths[row], name

  header = ("cluster", "size", "path", "label")
  csv_files.write(path, header, map(line, _rows(clusters)))


def write_folders(
  path: pathlib.Path,
  found: embeddings.Embeddings,
  clusters: np.ndarray,
  *,
  copy: bool,
) -> None:
  """Writes a folder a cluster, and one for those alone.

  Args:
    path: the folder of folders; an older one is replaced.
    found: the images.
    clusters: the cluster of each, -1 for those alone.
    copy: copies of the images; links to them otherwise.

  Raises:
    ValueError: if an image is not there.
  """
  places = [pathlib.Path(str(place)) for place in found.paths]
  for place in places:
    if not place.is_file():
      raise ValueError(
        f"there is no file {text_lines.printable(str(place))!r}: run this where"
        " the images were embedded from, or write a table (OUT.csv)"
      )
  sizes = np.bincount(clusters[clusters >= 0], minlength=1)
  path.parent.mkdir(parents=True, exist_ok=True)
  with whole_files.replacing(path) as draft:
    draft.mkdir()
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
    # A folder with something in it cannot be replaced in one step.
    whole_files.remove(path)


def _is_ours(path: pathlib.Path) -> bool:
  """Whether a folder holds nothing but clusters, and may be replaced."""
  names = [entry.name for entry in path.iterdir()]
  return all(n == _SINGLE or n.startswith(_CLUSTER) for n in names)


def _rows(clusters: np.ndarray) -> list[int]:
  """Rows cluster by cluster, those alone at the end."""
  return np.lexsort((clusters, clusters < 0)).tolist()
