"""How far scores can be read as likelihood ratios: Cllr, and what is reliable."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from facejax.evaluation import error_rates, verification
from facejax.metrics import calibration, people_bootstrap, people_intervals
from facejax.metrics import counts as counts_lib
from facejax.metrics import intervals as intervals_lib
from facejax.runs import results, thresholds

_LINE = (
  "log likelihood ratios by logistic regression on the cosine, fitted on the other"
  " folds, both kinds weighing alike; bits, 0 is perfect and 1 says nothing"
)
_CLLR = (
  ("cllr", "Cllr", _LINE, calibration.cllr_of_counts),
  (
    "min_cllr",
    "minCllr",
    "of the same ratios after PAV on these very pairs, what their order alone"
    " costs; Cllr less this is the cost of calibration; bits",
    calibration.min_cllr_of_counts,
  ),
)
_PEOPLE = "interval: bootstrap of people, about the figure, the lines kept"
_PAIRS = (
  "interval: bootstrap of pairs, taken as independent, about the figure, the"
  " lines kept"
)


def figures(
  found: verification.Verification,
  mine: np.ndarray,
  who: people_intervals.Compared | None,
  *,
  samples: int,
) -> tuple[list[results.Quantity], dict[str, dict[str, Any]]]:
  """Cllr and minCllr, cross-fitted over folds, and the curve of reliability.

  Args:
    found: of all pairs.
    mine: which of them are tested, bool [pairs].
    who: whom these show; None if that is not known.
    samples: draws of each bootstrap.
  """
  try:
    llrs = calibration.cross_fitted(found.scores, found.same, found.fold)
  except ValueError as error:
    told = [
      error_rates.not_told(key, label, str(error)) for key, label, *_ in _CLLR
    ]
    return told, {}
  llrs, same = llrs[mine], found.same[mine]
  tally = counts_lib.count(llrs, same)
  functions = [function for *_, function in _CLLR]
  drawn = _drawn(tally, llrs, same, who, functions, samples=samples)
  how = _PAIRS if who is None else _PEOPLE
  quantities = [
    results.Quantity(
      key,
      label,
      function(tally),
      *drawn[k],
      unit="",
      convention=f"Brümmer and du Preez: {note}; {how}",
    )
    for k, (key, label, note, function) in enumerate(_CLLR)
  ]
  shown = calibration.reliability(llrs, same)._asdict()
  return quantities, {"reliability": shown}


def line(found: verification.Verification) -> thresholds.RatioLine | None:
  """The line of all pairs, to keep with a net; None where none is best."""
  try:
    fit = calibration.logistic(found.scores, found.same)
    llrs = calibration.cross_fitted(found.scores, found.same, found.fold)
  except ValueError:
    return None
  same = int(found.same.sum())
  ten = float(np.log(10))
  return thresholds.RatioLine(
    slope=fit.slope / ten,
    intercept=fit.intercept / ten,
    low=-float(np.log10(same)),
    high=float(np.log10(len(found.same) - same)),
    cllr=calibration.cllr(llrs, found.same),
  )


def _drawn(
  tally: counts_lib.Counts,
  llrs: np.ndarray,
  same: np.ndarray,
  who: people_intervals.Compared | None,
  functions: list[Callable[[counts_lib.Counts], float]],
  *,
  samples: int,
) -> list[intervals_lib.Interval]:
  """Intervals about the figures.

  PAV finds more to do in draws, where pairs are repeated, than in the pairs: its
  draws lie too low, and are moved to where the figure is.
  """
  if who is None:
    out = []
    for function in functions:
      values = counts_lib.draws(tally, function, samples=samples)
      shift = function(tally) - values.mean()
      ends = intervals_lib.percentiles(values + shift)
      out.append(intervals_lib.Interval(max(ends.low, 0.0), ends.high))
    return out
  found = people_bootstrap.bootstrap(
    llrs, same, who, functions, samples=samples
  )
  shift = (found.values - found.people.mean(axis=1))[:, None]
  found = dataclasses.replace(found, people=found.people + shift)
  ends = [found.interval(k) for k in range(len(functions))]
  return [intervals_lib.Interval(max(one.low, 0.0), one.high) for one in ends]
