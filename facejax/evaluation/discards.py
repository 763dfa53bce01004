"""Errors that stay when pairs of little quality are set aside: EDC and its area."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from facejax.evaluation import face_quality, verification
from facejax.metrics import (
  counts,
  curves,
  intervals,
  people_bootstrap,
  people_intervals,
  quality,
)
from facejax.runs import results

# More draws tell the ends no better, and each sorts all pairs.
_SAMPLES = 200
_MOST_PAIRS = 200_000
# Where fewer draws than this reach the end of the range there is no interval.
_LEAST = 0.9


def figures(
  found: verification.Verification,
  mine: np.ndarray,
  sides: tuple[np.ndarray, np.ndarray],
  qualities: Mapping[str, np.ndarray],
  who: people_intervals.Compared | None,
  *,
  samples: int,
) -> tuple[list[results.Quantity], dict[str, dict[str, Any]]]:
  """The area under the EDC of each quality, and the curves.

  Args:
    found: of all pairs.
    mine: which of them are tested, bool [pairs].
    sides: the image on each side of the tested pairs, as in `qualities`.
    qualities: by name, of each image.
    who: whom the tested pairs show; None if that is not known.
    samples: draws of the bootstrap, at most 200.
  """
  scores, same = found.scores[mine], found.same[mine]
  far = 1e-3 if int((~same).sum()) >= 1000 else 1e-2
  bar = curves.at_far(counts.count(scores, same), far).threshold
  quantities, shown = [], []
  for name, values in qualities.items():
    worth = quality.of_pairs(values[sides[0]], values[sides[1]])
    curve = quality.error_versus_reject(scores, same, worth, threshold=bar)
    shown.append({"name": name, "rejected": curve.rejected, "frr": curve.frr})
    quantities.append(
      _area(name, curve, (scores, same, worth, bar), who, far, samples)
    )
  return quantities, {"reject": {"far": far, "qualities": shown}}


def _area(
  name: str,
  curve: quality.Reject,
  pairs: tuple[np.ndarray, np.ndarray, np.ndarray, float],
  who: people_intervals.Compared | None,
  far: float,
  samples: int,
) -> results.Quantity:
  key, label = f"edc_area_{name}", f"Area under the EDC, {name}"
  try:
    value = quality.area(curve)
  except ValueError as error:
    return results.Quantity(key, label, np.nan, convention=f"not told: {error}")
  ends = _interval(pairs, who, min(samples, _SAMPLES))
  how = "people" if who is not None else "pairs, taken as independent"
  interval = (
    f"bootstrap of {how}" if ends else "none, of so many or so few pairs"
  )
  return results.Quantity(
    key,
    label,
    value,
    ends.low if ends else None,
    ends.high if ends else None,
    convention=f"mean FNMR while 0 … {100 * quality.UNTIL:.0f} % of pairs are set"
    f" aside, at the threshold of FMR {far:g} of all; without discard"
    f" {100 * curve.frr[0]:.2f} %; quality of a pair: that of its worse image,"
    f" {face_quality.CONVENTIONS[name]}; interval: {interval}, the threshold kept",
  )


def _interval(
  pairs: tuple[np.ndarray, np.ndarray, np.ndarray, float],
  who: people_intervals.Compared | None,
  samples: int,
) -> intervals.Interval | None:
  scores, same, worth, bar = pairs
  if len(scores) > _MOST_PAIRS:
    return None
  values = []
  for often in itertools.islice(_draws(same, who), samples):
    rows = np.repeat(np.arange(len(scores)), often)
    try:
      curve = quality.error_versus_reject(
        scores[rows], same[rows], worth[rows], threshold=bar
      )
      values.append(quality.area(curve))
    except ValueError:
      continue  # of one kind, or too few of one
  if len(values) < _LEAST * samples:
    return None
  return intervals.percentiles(values)


def _draws(same: np.ndarray, who: people_intervals.Compared | None):
  """How often each pair counts, draw by draw."""
  if who is not None:
    yield from people_bootstrap.multiplicities(who)
  rng = np.random.default_rng(0)
  kinds = [np.flatnonzero(kind) for kind in (same, ~same)]
  while True:
    drawn = [kind[rng.integers(0, len(kind), len(kind))] for kind in kinds]
    yield np.bincount(np.concatenate(drawn), minlength=len(same))
