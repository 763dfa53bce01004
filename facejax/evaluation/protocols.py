"""The protocols that facejax.evaluate knows, each from images to a result."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from facejax.data import fingerprints, image_sets
from facejax.evaluation import (
  clusters,
  error_rates,
  face_quality,
  features,
  identification,
  kept,
  overlap,
  projector,
  retrieval,
  thumbnails,
)
from facejax.evaluation import templates as template_results
from facejax.runs import embedder, results


@dataclasses.dataclass(frozen=True)
class ProtocolOptions:
  """What all protocols share.

  Attributes:
    name: of the result.
    path: the folder of the images, or whatever `image_sets` opens.
    batch_size: images at once, over all devices.
    hardest: how many pairs of each kind to show.
    samples: draws of each bootstrap.
    seen: see `overlap.trained_on`.
    keep: which threshold to keep with the net; None for none.
    quality: the names of qualities, see `face_quality`.
  """

  name: str
  path: str
  batch_size: int = 128
  hardest: int = 8
  samples: int = 1000
  seen: str = ""
  keep: kept.Keep | None = None
  quality: Sequence[str] = face_quality.USUAL


def identify(
  model: embedder.Embedder,
  options: ProtocolOptions,
  *,
  cluster_at: float | None,
  method: str | None,
  enrolled: int = 1,
  fpir: float = 0.01,
  seed: int = 0,
  search: bool = True,
) -> results.Result:
  """Identification and clustering of a set of people.

  Args:
    model: the net.
    options: see there.
    cluster_at: a cosine at which to cluster, beside that of other people.
    method: of the clusters, one of `people.METHODS`; None chooses.
    enrolled: images of each person in the gallery.
    fpir: target of the open set.
    seed: of the halves of the open set.
    search: whether to identify; else only clusters are told.
  """
  files = image_sets.open_set(options.path)
  known = np.flatnonzero(files.labels >= 0)
  labels = files.labels[known]
  source = model.decoded(files)
  used = features.embedded(model, source, known.tolist(), options.batch_size)
  vectors = used.units.astype(np.float32)
  quantities, curves, notes, shown = [], {}, [], []
  if search:
    quantities, curves, notes = identification.quantities(
      vectors, labels, enrolled=enrolled, fpir=fpir, seed=seed
    )
    shown = [
      identification.mistaken(
        vectors,
        labels,
        enrolled=enrolled,
        read=lambda row: thumbnails.face(source)(int(known[row])),
        count=options.hardest,
      )
    ]
    quantities += retrieval.quantities(vectors, labels)
  way: Any = method or clusters.usual_method(len(vectors))
  quantities = [
    *quantities,
    *clusters.clusters_cross_fitted(vectors, labels, way, seed=seed),
  ]
  if cluster_at is not None:
    quantities += clusters.clusters_at(vectors, labels, cluster_at, way)
  names = [files.class_names[int(label)] for label in np.unique(labels)]
  text, warn = overlap.of_people(
    overlap.trained_on(model.run, options.seen), names
  )
  shown_map = thumbnails.people_map(vectors, labels, files.class_names)
  kept = vectors, source, known
  projector.write(model.run, options.name, *kept, step=model.step)
  return results.Result(
    name=options.name,
    protocol="identification" if search else "clustering",
    about=f"{len(known):,} images of {len(names):,} people",
    quantities=[
      *quantities,
      *clusters.angles(vectors, labels),
      *error_rates.failure_to_enrol(options.path),
    ],
    warnings=[*notes, f"{text}."] if warn else notes,
    notes=() if warn else [f"{text}."],
    curves=curves | ({"map": shown_map} if shown_map else {}),
    exhibits=shown,
    step=model.step,
    data={
      "images": options.path,
      "fingerprint of the images": fingerprints.fingerprint(files),
    },
  )


def templates(
  model: embedder.Embedder,
  options: ProtocolOptions,
  *,
  folder: str,
  keep_norms: bool = True,
  use_detector: bool = True,
) -> results.Result:
  """IJB-B or IJB-C, from loose crops and the folder of their lists."""
  tables = template_results.Lists(folder)
  source = template_results.Crops(
    options.path,
    tables.faces,
    image_size=model.card.image_size,
    crop=model.card.crop,
    exif=model.card.exif,
  )
  used = features.embedded(
    model, source, range(len(source)), options.batch_size
  )
  return template_results.result(
    options.name,
    used,
    tables,
    keep_norms=keep_norms,
    use_detector=use_detector,
    samples=min(options.samples, 200),
    step=model.step,
    data={"lists": folder, "images": options.path},
  )
