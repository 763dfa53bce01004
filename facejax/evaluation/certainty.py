"""CR-FIQA's ratio of a net's own training images, by the prototypes of its head.

People whom a net was not trained on have no prototype, and no ratio.
"""

import pathlib

import jax
import numpy as np

from facejax.data import encoded, fingerprints, image_sets
from facejax.evaluation import (
  error_rates,
  features,
  pair_results,
  protocols,
)
from facejax.head import storage
from facejax.metrics import intervals, people_intervals, quality
from facejax.runs import classes, embedder, folder, results
from facejax.runtime import csv_files, distributed, text_lines
from facejax.vectors import nearest

_RATIO = (
  "CR-FIQA: cosine to the prototype of the own class / (cosine to the nearest other"
  " one + 1 + 1e-9); of images that were trained on, without their mirror images"
)
_LEVELS = {"p05": 0.05, "median": 0.5, "p95": 0.95}
_HEADER = ("image", "person", "ratio", "target_cosine", "nearest_cosine")


def told(
  model: embedder.Embedder, options: protocols.ProtocolOptions
) -> results.Result:
  """How sure the net is of the people that it was trained on.

  Beside the result, NAME.csv has the numbers of every image.

  Args:
    model: the net of a run with prototypes.
    options: see there; `path` has images of its classes.

  Raises:
    ValueError: if the run has no prototypes or does not name its classes, or
      there is no image of them.
  """
  rows, names = _prototypes(model)
  files = image_sets.open_set(options.path)
  own = _own(files, names, f"{options.path!r}", model.run)
  chosen = np.flatnonzero(own >= 0)
  source, own = model.decoded(files), own[chosen]
  used = features.embedded(model, source, chosen.tolist(), options.batch_size)
  units = features.Features(used.plain, np.zeros_like(used.plain)).units
  target, other = cosines(units.astype(np.float32), rows, own, mesh=model.mesh)
  ratio = quality.certainty_ratio(target, other)
  _table(model, options, files, chosen, (ratio, target, other))
  who = people_intervals.compared(own, own)
  nearer = error_rates.of_share(
    "nearer_to_another",
    "Nearer to another class",
    target <= other,
    who,
    convention="share of images whose own prototype is not the nearest",
    what="images",
  )
  sure = np.r_[other, target], np.repeat([False, True], len(target))
  kinds = "the nearest other class", "the own class"
  return results.Result(
    name=options.name,
    protocol="certainty",
    about=f"{len(chosen):,} images of {len(np.unique(own)):,} of the"
    f" {len(names):,} classes",
    quantities=[*_quantities(ratio, own), nearer],
    notes=(
      "It is of the images that the net was trained on, and says nothing of others;"
      f" {results.stem(options.name)}.csv has all.",
    ),
    curves=pair_results.histogram(*sure, kinds, None),
    step=model.step,
    data={
      "images": options.path,
      "fingerprint of the images": fingerprints.fingerprint(files),
    },
  )


def cosines(
  units: np.ndarray,
  prototypes: np.ndarray,
  own: np.ndarray,
  *,
  mesh: jax.sharding.Mesh | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """To the own class and to the nearest other one, exactly, [images] each.

  Args:
    units: embeddings of length 1, float32 [images, dim].
    prototypes: of length 1, float32 [classes, dim].
    own: the class of each image.
    mesh: the devices; all of them if not given.
  """
  target = np.einsum("nd,nd->n", units, prototypes[own])
  best = nearest.Nearest(prototypes, mesh=mesh)(units, 2)
  mine = best.rows[:, 0] == own
  return target, np.where(mine, best.scores[:, 1], best.scores[:, 0])


def _prototypes(model: embedder.Embedder) -> tuple[np.ndarray, list[str]]:
  """The prototypes at length 1, and the names of their classes."""
  names = classes.read(model.run)
  found = classes.read_prototypes(model.run, step=model.step, mesh=model.mesh)
  if found is None or names is None:
    raise ValueError(
      f"{model.run!r} has no prototypes or no {folder.CLASSES}: only nets whose"
      " loss is over classes have such ratios, and imports with --prototypes and"
      " --class-names"
    )
  rows = np.asarray(storage.load(found), np.float32)
  if rows.ndim != 2 or not 2 <= len(names) <= len(rows):
    raise ValueError(
      f"the prototypes of {model.run!r} are {list(rows.shape)} for"
      f" {len(names):,} classes: one each of two classes or more is needed, no"
      " sub-centres"
    )
  rows = rows[: len(names)]
  lengths = np.linalg.norm(rows, axis=1, keepdims=True)
  return rows / np.maximum(lengths, 1e-30), names


def _own(
  files: encoded.EncodedImages, names: list[str], path: str, run: str
) -> np.ndarray:
  """The class of each image by the name of its person, -1 for none.

  Raises:
    ValueError: if no image is of a class.
  """
  places = classes.matched(names, files.class_names)
  own = np.where(files.labels >= 0, places[files.labels], -1)
  if not (own >= 0).any():
    raise ValueError(
      f"no image in {path} is of one of the {len(names):,} classes of"
      f" {run!r}, such as {names[0]!r}: give what it was trained on"
    )
  return own


def _quantities(ratio: np.ndarray, own: np.ndarray) -> list[results.Quantity]:
  """Mean and quantiles, with a bootstrap of classes."""
  how = "interval: bootstrap of classes"
  statistics = {"mean": np.mean} | {
    name: lambda values, level=level: np.quantile(values, level)
    for name, level in _LEVELS.items()
  }
  return [
    results.Quantity(
      f"ratio_{name}",
      f"Ratio, {name}",
      float(statistic(ratio)),
      *intervals.bootstrap(
        lambda index, statistic=statistic: float(statistic(ratio[index])),
        len(ratio),
        groups=own,
        samples=200,
      ),
      unit="",
      convention=f"{_RATIO}; {how}",
    )
    for name, statistic in statistics.items()
  ]


def _table(
  model: embedder.Embedder,
  options: protocols.ProtocolOptions,
  files: encoded.EncodedImages,
  chosen: np.ndarray,
  columns: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
  """A row an image; of several processes, one writes."""
  if not distributed.primary():
    return
  name = results.stem(options.name)
  path = pathlib.Path(model.run, folder.REPORT, f"{name}.csv")
  path.parent.mkdir(exist_ok=True)
  lines = (
    (
      text_lines.printable(files.name(index)),
      text_lines.printable(files.class_names[int(files.labels[index])]),
      *(f"{float(value):.6f}" for value in values),
    )
    for index, *values in zip(chosen.tolist(), *columns, strict=True)
  )
  csv_files.write(path, _HEADER, lines)
