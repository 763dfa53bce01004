"""The protocols that facejax.evaluate knows, each from images to a result."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from facejax.data import fingerprints, image_sets
from facejax.data.pairs import pairs as pair_sets
from facejax.evaluation import (
  clusters,
  error_rates,
  features,
  groups,
  identification,
  overlap,
  pair_results,
  people_table,
  projector,
  retrieval,
  thumbnails,
  verification,
)
from facejax.evaluation import templates as template_results
from facejax.metrics import verification as metrics
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
  """

  name: str
  path: str
  batch_size: int = 128
  hardest: int = 8
  samples: int = 1000
  seen: str = ""


def pairs(
  model: embedder.Embedder,
  options: ProtocolOptions,
  *,
  file: str,
  protocol: Any = None,
  threshold: float | None = None,
  fold: int | None = None,
  gallery: embedder.Embedder | None = None,
  asked: people_table.Asked | None = None,
) -> results.Result:
  """Verification of a list of pairs, or of a pack.

  Args:
    model: the net.
    options: see there.
    file: the list or pack.
    protocol: whose list it is; None guesses.
    threshold: a cosine chosen elsewhere, at which accuracy is to be told too.
    fold: the only fold to test, from 0; None for all.
    gallery: another net, which embeds the second image of each pair.
    asked: groups of people, which are told apart as well.
  """
  opened = _open_pairs(model, options, file, protocol)
  return verified(
    model,
    options,
    opened,
    threshold=threshold,
    fold=fold,
    gallery=gallery
    and (gallery, _open_pairs(gallery, options, file, protocol)),
    asked=asked,
    data={"pairs": file, "images": options.path},
  )


def verified(
  model: embedder.Embedder,
  options: ProtocolOptions,
  opened: pair_sets.PairSet,
  *,
  threshold: float | None = None,
  fold: int | None = None,
  gallery: Any = None,
  asked: people_table.Asked | None = None,
  data: Mapping[str, str],
) -> results.Result:
  """The same of pairs that are open already.

  Args: see `pairs`, and
    opened: the pairs.
    gallery: another net and the pairs as it sees them.
    data: where they come from, for the result.
  """
  enrolled = gallery and _features_used(gallery[0], options, gallery[1]).summed
  found, used = _verify(model, options, opened, threshold, enrolled)
  told = overlap.told(
    overlap.trained_on(model.run, options.seen),
    opened,
    found.scores,
    found.metrics["threshold"],
    fold=fold,
  )
  if gallery is not None:
    note = (
      f"The second image of each pair was embedded by {gallery[0].run}, step"
    )
    told["notes"] = [*told.get("notes", ()), f"{note} {gallery[0].step:,}."]
  else:
    shown = used.units, opened.source, verification.used_images(opened)
    projector.write(model.run, options.name, *shown, step=model.step)
  result = pair_results.result(
    found,
    opened,
    # What is told of one net's features would be of half of the images.
    used=used if gallery is None else None,
    fold=fold,
    hardest=options.hardest,
    samples=options.samples,
    more=[*told.pop("more"), *error_rates.failure_to_enrol(options.path)],
    name=options.name,
    step=model.step,
    **told,
    data=data,
  )
  draws = {"threshold": threshold, "samples": options.samples}
  return groups.add(result, found, opened, asked, **draws) if asked else result


def threshold_of(
  model: embedder.Embedder, options: ProtocolOptions, *, file: str
) -> float:
  """The cosine with the highest accuracy on pairs of their own."""
  _, found = scored(model, options, file=file)
  return metrics.best_threshold(found.scores, found.same)


def scored(
  model: embedder.Embedder,
  options: ProtocolOptions,
  *,
  file: str,
  protocol: Any = None,
) -> tuple[pair_sets.PairSet, verification.Verification]:
  """A list of pairs or a pack, and what a net makes of it."""
  opened = _open_pairs(model, options, file, protocol)
  return opened, _verify(model, options, opened, None)[0]


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


def _open_pairs(model, options: ProtocolOptions, file: str, protocol):
  return pair_sets.open_pairs(
    file,
    image_size=model.card.image_size,
    root=options.path,
    crop=model.card.crop,
    exif=model.card.exif,
    protocol=protocol,
    name=options.name,
  )


def _verify(
  model: embedder.Embedder,
  options: ProtocolOptions,
  opened: pair_sets.PairSet,
  threshold: float | None,
  gallery: np.ndarray | None = None,
) -> tuple[verification.Verification, features.Features]:
  used = _features_used(model, options, opened)
  more = {"threshold": threshold, "gallery": gallery}
  return verification.scored(opened, used.summed, **more), used


def _features_used(
  model: embedder.Embedder, options: ProtocolOptions, opened: pair_sets.PairSet
) -> features.Features:
  used = verification.used_images(opened).tolist()
  return features.embedded(model, opened.source, used, options.batch_size)
