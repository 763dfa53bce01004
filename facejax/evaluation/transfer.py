"""Thresholds that are set on some pairs, and what they do on others."""

from collections.abc import Mapping

import numpy as np

from facejax.data.pairs import pairs as pair_sets
from facejax.evaluation import error_rates, pair_people, verification
from facejax.metrics import counts as counts_lib
from facejax.metrics import curves, people_intervals
from facejax.runs import results

_FMRS = {name: error_rates.FMRS[name] for name in ("1e-2", "1e-3", "1e-4")}


def quantities(
  chosen_on: verification.Verification,
  found: verification.Verification,
  pairs: pair_sets.PairSet,
  *,
  fold: int | None = None,
) -> list[results.Quantity]:
  """FMR and FNMR of pairs at thresholds that are set at an FMR on others.

  Both as far as 30 errors or more are expected, of the impostor pairs that set
  the threshold and of those that are judged.

  Args:
    chosen_on: the pairs that set the thresholds.
    found: those that are judged.
    pairs: these themselves, whose people intervals know.
    fold: the one fold of them that is judged; None for all.
  """
  mine = np.ones(len(pairs), bool) if fold is None else found.fold == fold
  who = pair_people.known(pairs)
  judged = found.scores[mine], found.same[mine], who and who.of(mine)
  tally = counts_lib.count(chosen_on.scores, chosen_on.same)
  what = f"impostor pairs of {chosen_on.name}"
  out = []
  for name, fmr in _FMRS.items():
    told = {
      kind: (
        f"transferred_{kind.lower()}_at_{name}",
        f"{kind} at the threshold of FMR {name} on {chosen_on.name}",
      )
      for kind in ("FMR", "FNMR")
    }
    impostors = tally.totals()[1]
    why = error_rates.too_few(fmr, impostors, name="FMR", what=what)
    if why is not None:
      # Lower ones are no better off.
      return [*out, error_rates.not_told(*told["FMR"], why)]
    point = curves.at_far(tally, fmr)
    note = (
      f"at cosine {point.threshold:.4f}, which was set at FMR {fmr:g} on"
      f" {chosen_on.name} (there it is {point.far.value:.3g}) and is taken as it is"
    )
    out += _rates(*judged, point.threshold, fmr, told, note)
  return out


def _rates(
  scores: np.ndarray,
  same: np.ndarray,
  who: people_intervals.Compared | None,
  threshold: float,
  fmr: float,
  told: Mapping[str, tuple[str, str]],
  note: str,
) -> list[results.Quantity]:
  """FMR, if pairs resolve it, and FNMR at a threshold; `told` has their names."""
  false, missed = scores[~same] >= threshold, scores[same] < threshold
  few = error_rates.too_few(fmr, len(false), name="FMR", what="impostor pairs")
  others, mates = who and who.of(~same), who and who.of(same)
  return [
    error_rates.of_share(*told["FMR"], false, others, convention=note)
    if few is None
    else error_rates.not_told(*told["FMR"], few),
    error_rates.of_share(*told["FNMR"], missed, mates, convention=note),
  ]
