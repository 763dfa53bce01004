"""Thresholds that are set on some pairs, and what they do on others."""

import numpy as np

from facejax.data.pairs import pairs as pair_sets
from facejax.evaluation import error_rates, pair_people, verification
from facejax.metrics import counts as counts_lib
from facejax.metrics import curves
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
  scores, same = found.scores[mine], found.same[mine]
  who = pair_people.known(pairs)
  who = who and who.of(mine)
  tally = counts_lib.count(chosen_on.scores, chosen_on.same)
  out = []
  what = f"impostor pairs of {chosen_on.name}"
  for name, fmr in _FMRS.items():
    titles = {
      kind: f"{kind} at the threshold of FMR {name} on {chosen_on.name}"
      for kind in ("FMR", "FNMR")
    }
    keys = {kind: f"transferred_{kind.lower()}_at_{name}" for kind in titles}
    impostors = tally.totals()[1]
    why = error_rates.too_few(fmr, impostors, name="FMR", what=what)
    if why is not None:
      # Lower ones are no better off.
      return [*out, error_rates.not_told(keys["FMR"], titles["FMR"], why)]
    point = curves.at_far(tally, fmr)
    note = (
      f"at cosine {point.threshold:.4f}, which was set at FMR {fmr:g} on"
      f" {chosen_on.name} (there it is {point.far.value:.3g}) and is taken as it is"
    )
    false = (scores >= point.threshold)[~same]
    missed = (scores < point.threshold)[same]
    few = error_rates.too_few(
      fmr, len(false), name="FMR", what="impostor pairs"
    )
    if few is None:
      out.append(
        error_rates.of_share(
          *(keys["FMR"], titles["FMR"], false, who and who.of(~same)),
          convention=note,
        )
      )
    else:
      out.append(error_rates.not_told(keys["FMR"], titles["FMR"], few))
    out.append(
      error_rates.of_share(
        *(keys["FNMR"], titles["FNMR"], missed, who and who.of(same)),
        convention=note,
      )
    )
  return out
