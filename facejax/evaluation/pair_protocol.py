"""Verification of pairs by a trained net, as a result."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from facejax.data.pairs import pairs as pair_sets
from facejax.evaluation import (
  error_rates,
  face_quality,
  features,
  groups,
  kept,
  overlap,
  pair_results,
  people_table,
  projector,
  protocols,
  transfer,
  verification,
)
from facejax.metrics import verification as metrics
from facejax.runs import embedder, results
from facejax.runtime import text_lines

ProtocolOptions = protocols.ProtocolOptions


def pairs(
  model: embedder.Embedder,
  options: ProtocolOptions,
  *,
  file: str,
  protocol: Any = None,
  threshold: float | None = None,
  elsewhere: verification.Verification | None = None,
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
    elsewhere: what the net made of other pairs, which set thresholds for these;
      without `threshold` that of the best accuracy is one, too.
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
    elsewhere=elsewhere,
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
  elsewhere: verification.Verification | None = None,
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
  if options.keep is not None:
    kept.check(options.keep, opened)
  face_quality.check(model, options.quality)
  if threshold is None and elsewhere is not None:
    threshold = metrics.best_threshold(elsewhere.scores, elsewhere.same)
  enrolled = gallery and _features_used(gallery[0], options, gallery[1]).summed
  found, used = _verify(model, options, opened, threshold, enrolled)
  qualities = None
  if gallery is None:
    # What is told of one net's features would be of half of the images.
    qualities = face_quality.of_images(
      model,
      options.quality,
      used,
      opened.source,
      verification.used_images(opened).tolist(),
      batch_size=options.batch_size,
    )
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
  more = [*told.pop("more"), *error_rates.failure_to_enrol(options.path)]
  if elsewhere is not None:
    more += transfer.quantities(elsewhere, found, opened, fold=fold)
  result = pair_results.result(
    found,
    opened,
    used=used if gallery is None else None,
    qualities=qualities,
    fold=fold,
    hardest=options.hardest,
    samples=options.samples,
    more=more,
    name=options.name,
    step=model.step,
    **told,
    data=data,
  )
  if options.keep is not None:
    about = {"step": model.step, "data": result.data}
    kept.write(
      model.run, kept.of_pairs(found, opened, keep=options.keep, **about)
    )
  if asked is None:
    return result
  draws = {"threshold": threshold, "samples": options.samples}
  return groups.add(result, found, opened, asked, **draws)


def scored(
  model: embedder.Embedder,
  options: ProtocolOptions,
  *,
  file: str,
  protocol: Any = None,
) -> tuple[pair_sets.PairSet, verification.Verification]:
  """A list of pairs or a pack, and what a net makes of it; called as its file."""
  stem = text_lines.printable(pathlib.Path(file).resolve().stem)
  options = dataclasses.replace(options, name=stem)
  opened = _open_pairs(model, options, file, protocol)
  return opened, _verify(model, options, opened, None)[0]


def gallery_net(
  run: str, model: embedder.Embedder, *, devices: int | None
) -> embedder.Embedder | None:
  """The net of the second image of each pair, if it is another.

  Raises:
    ValueError: if its embeddings are of another size.
  """
  if not run:
    return None
  gallery = embedder.load(run, devices=devices)
  sizes = gallery.card.embedding_dim, model.card.embedding_dim
  if sizes[0] != sizes[1]:
    raise ValueError(
      f"--gallery-net {run} makes embeddings of {sizes[0]}, the other"
      f" net of {sizes[1]}: only those of one size can be compared"
    )
  return gallery


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
