"""Everything that is to be said about a verified set of pairs."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facejax.data.pairs import pairs as pair_sets
from facejax.evaluation import (
  calibrated,
  discards,
  features,
  pair_figures,
  pair_people,
  thumbnails,
  verification,
)
from facejax.metrics import counts as counts_lib
from facejax.metrics import curves
from facejax.metrics import verification as metrics
from facejax.runs import results
from facejax.runtime import text_lines

_POINTS = 400


def result(
  found: verification.Verification,
  pairs: pair_sets.PairSet,
  *,
  used: features.Features | None = None,
  qualities: Mapping[str, np.ndarray] | None = None,
  fold: int | None = None,
  hardest: int = 8,
  samples: int = 1000,
  more: Sequence[results.Quantity] = (),
  things: str = "images",
  **about: Any,
) -> results.Result:
  """The result of a pair set, with curves and the hardest pairs.

  Args:
    found: scores and folds, and the figures at a given threshold.
    pairs: the set itself, whose images are shown.
    used: features of the images that occur in it, in the order of their index;
      adds SphereFace's accuracy and a map of people.
    qualities: of the same images, by name; adds what they tell of errors.
    fold: the one fold that is tested, with the threshold of the others; None
      for all of them in turn.
    hardest: how many pairs of each kind to show.
    samples: draws of each bootstrap.
    more: figures that come from elsewhere.
    things: what is paired.
    about: further fields of the result: name, step, data, notes.

  Raises:
    ValueError: if there is no such fold.
  """
  chosen, place = np.unique(
    np.concatenate([pairs.first, pairs.second]), return_inverse=True
  )
  sides = np.split(place, 2)
  folds = metrics.ten_fold_accuracy(found.scores, found.same, found.fold)
  names, number = np.unique(found.fold, return_inverse=True)
  accepted = 2 - 2 * found.scores < 2 - 2 * folds.thresholds[number]
  mine, who = np.ones(len(pairs), bool), pair_people.known(pairs)
  threshold = found.metrics["threshold"]
  if fold is None:
    joined = used and (used.joined[sides[0]], used.joined[sides[1]])
    quantities = pair_figures.accuracies(found, joined, who)
    what = f"in {len(names)} folds"
  else:
    if fold not in names:
      raise ValueError(
        f"fold {fold + 1} of {len(names)}: there is no such fold"
      )
    mine = found.fold == fold
    k = int(np.searchsorted(names, fold))
    threshold = float(folds.thresholds[k])
    who = who and who.of(mine)
    quantities = pair_figures.one_fold(found, mine, accepted, threshold, who)
    what = f"in fold {fold + 1} of {len(names)}"
  scores, same = found.scores[mine], found.same[mine]
  tally = counts_lib.count(scores, same)
  quantities += pair_figures.rates(tally, scores, same, who, samples=samples)
  ratios, reliable = calibrated.figures(found, mine, who, samples=samples)
  kinds = ("impostor pairs", "genuine pairs")
  shown: dict[str, Any] = curve_points(tally)
  shown |= histogram(scores, same, kinds, threshold) | reliable
  if used is not None:
    shown |= _map(used, pairs, chosen)
  if qualities:
    ends = sides[0][mine], sides[1][mine]
    areas, discarded = discards.figures(
      found, mine, ends, qualities, who, samples=samples
    )
    ratios, shown = [*ratios, *areas], shown | discarded
  fields: dict[str, Any] = {"name": found.name} | about
  fields["data"] = dict(about.get("data", {})) | fingerprint(pairs, chosen)
  images_here = len(np.unique(np.r_[pairs.first[mine], pairs.second[mine]]))
  return results.Result(
    protocol="verification",
    about=f"{len(same):,} pairs ({int(same.sum()):,} genuine) of"
    f" {images_here:,} {things} {what}",
    quantities=[*quantities, *ratios, *more],
    curves=shown,
    exhibits=thumbnails.hardest_pairs(
      thumbnails.face(pairs.source),
      pairs.first[mine],
      pairs.second[mine],
      scores,
      same,
      accepted=accepted[mine],
      count=hardest,
    ),
    **fields,
  )


def curve_points(tally: counts_lib.Counts) -> dict[str, dict[str, Any]]:
  """ROC and DET: points that some threshold reaches, dense at both ends."""
  far, tar, thresholds = counts_lib.thinned(tally, points=_POINTS).roc()
  genuine, impostor = tally.totals()
  return {
    "roc": {
      "far": far,
      "tar": tar,
      "threshold": np.where(np.isfinite(thresholds), thresholds, np.nan),
      "genuine": genuine,
      "impostor": impostor,
      "equal_error_rate": curves.equal_error_rate(tally),
    }
  }


def histogram(
  scores: np.ndarray,
  same: np.ndarray,
  kinds: tuple[str, str],
  threshold: float | None,
) -> dict[str, dict[str, Any]]:
  """Counts of scores in common bins, of what is not and what is the same."""
  bins = int(np.clip(np.sqrt(len(scores)), 12, 80))
  edges = np.histogram_bin_edges(scores, bins)
  return {
    "histogram": {
      "edges": edges,
      "counts": [
        np.histogram(scores[kind], edges)[0] for kind in (~same, same)
      ],
      "kinds": kinds,
      "threshold": threshold,
    }
  }


def fingerprint(pairs: pair_sets.PairSet, chosen: np.ndarray) -> dict[str, str]:
  """A SHA-256 over the names of the images and which are paired how."""
  digest = hashlib.sha256()
  for index in chosen:
    name = text_lines.printable(pairs.source.name(int(index)))
    digest.update(name.encode() + b"\0")
  for values in (pairs.first, pairs.second, pairs.same, pairs.fold):
    digest.update(np.asarray(values, "<i4").tobytes())
  return {"fingerprint of the pairs": digest.hexdigest()}


def _map(
  used: features.Features, pairs: pair_sets.PairSet, chosen: np.ndarray
) -> dict[str, Mapping[str, Any]]:
  """A map of people, if there are enough of them."""
  labels = np.asarray(pairs.source.labels)[chosen]
  shown = thumbnails.people_map(used.units, labels, pairs.source.class_names)
  return {} if shown is None else {"map": shown}
