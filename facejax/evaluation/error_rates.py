"""Error rates by the names of NIST and ISO/IEC 19795, where they are resolved.

FMR is the share of impostor comparisons that match, FNMR that of genuine ones
that do not: the FAR and 1 - TAR of papers. FPIR is the share of strangers who
are taken for somebody, FNIR that of enrolled people who are not found.

The rule of 30: a rate is told where 30 errors or more are expected; then the
true one lies within 30 % of it for nine in ten sets of independent comparisons.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from facejax.data.aligning import enrolment
from facejax.metrics import counts as counts_lib
from facejax.metrics import (
  curves,
  gallery,
  identification,
  intervals,
  people_intervals,
)
from facejax.runs import results

Quantity = results.Quantity

AVERAGED = (
  "interval: Newcombe's of Wilson's, adjusted for probes that share people"
)
FPIRS = (0.003, 0.01, 0.1)
FMRS = {f"1e-{k}": 10.0**-k for k in range(2, 7)}
LEAST = 30
_ADJUSTED = "interval: Wilson's, adjusted for {what} that share people"
_PLAIN = (
  "interval: Wilson's, of {what} taken as independent: whom they show is not"
  " known"
)


def ends(
  values: np.ndarray,
  who: people_intervals.Compared | None,
  *,
  what: str = "pairs",
) -> tuple[intervals.Interval, str]:
  """The interval of a share, and how it came about.

  Args:
    values: whether each comparison counts, bool [comparisons].
    who: whom they compare; None if that is not known.
    what: they are, in the plural.
  """
  if who is None:
    share, n = float(np.mean(values)), len(values)
    return intervals.wilson(share * n, n), _PLAIN.format(what=what)
  return people_intervals.wilson(values, who), _ADJUSTED.format(what=what)


def of_share(
  key: str,
  label: str,
  values: np.ndarray,
  who: people_intervals.Compared | None,
  *,
  convention: str,
  what: str = "pairs",
) -> Quantity:
  """A share of comparisons as a figure, with its counts."""
  interval, how = ends(values, who, what=what)
  rate = intervals.Rate(int(np.count_nonzero(values)), len(values))
  note = f"{convention}; {how};"
  return results.of_rate(key, label, rate, note, interval=interval)


def too_few(rate: float, trials: int, *, name: str, what: str) -> str | None:
  """Why a rate is not told; None if it can be.

  >>> too_few(1e-3, 3000, name="FMR", what="impostor pairs")
  '3,000 impostor pairs are too few: 3 errors are expected, 30 are the least (rule of 30), of 30,000 impostor pairs'
  >>> too_few(1e-2, 3000, name="FMR", what="impostor pairs")
  """
  # Of 0.01 × 3,000 no rounding may take the last.
  expected = rate * trials * (1 + 1e-9)
  if expected >= LEAST:
    return None
  if expected < 1:
    return (
      f"{trials:,} {what} are too few: they resolve no {name} below 1 / n ="
      f" {1 / max(trials, 1):.2g}"
    )
  return (
    f"{trials:,} {what} are too few: {expected:.3g} errors are expected,"
    f" {LEAST} are the least (rule of 30), of {LEAST / rate:,.0f} {what}"
  )


def not_told(key: str, label: str, why: str) -> Quantity:
  """A figure that is not told, and why."""
  return Quantity(key, label, math.nan, convention=f"not told: {why}")


def fnmr_statistic(fmr: float) -> Callable[[counts_lib.Counts], float]:
  """FNMR at an FMR, as a statistic of counts for a bootstrap."""
  return lambda tally: 1 - curves.at_far(tally, fmr).tar.value


def resolved(impostors: int) -> dict[str, float]:
  """The targets of FMR that so many impostor pairs resolve, by name."""
  return {
    name: fmr
    for name, fmr in FMRS.items()
    if too_few(fmr, impostors, name="FMR", what="impostor pairs") is None
  }


def fnmr(
  tally: counts_lib.Counts,
  scores: np.ndarray,
  who: people_intervals.Compared | None,
  drawn: Mapping[str, intervals.Interval],
) -> list[Quantity]:
  """FNMR at every target of FMR, or why it is not told.

  Args:
    tally: of all pairs.
    scores: of the genuine pairs.
    who: whom these show.
    drawn: by target, the interval of a bootstrap of people.
  """
  out = []
  for name, fmr in FMRS.items():
    key, label = f"fnmr_at_fmr_{name}", f"FNMR at FMR {name}"
    impostors = tally.totals()[1]
    why = too_few(fmr, impostors, name="FMR", what="impostor pairs")
    if why is not None:
      out.append(not_told(key, label, why))
      continue
    point = curves.at_far(tally, fmr)
    note = (
      f"ISO/IEC 19795-1: genuine pairs below cosine {point.threshold:.4f}, where"
      f" FMR is {point.far.value:.3g}"
    )
    if name in drawn:
      low, high = (100 * end for end in drawn[name])
      note += (
        "; bootstrap of people, the threshold chosen anew:"
        f" {low:.2f} … {high:.2f}"
      )
    missed = scores < point.threshold
    out.append(of_share(key, label, missed, who, convention=note))
  return out


def fnir(
  found: Sequence[gallery.Search],
  people: np.ndarray,
  *,
  also: Sequence[float] = (),
) -> list[Quantity]:
  """FNIR at targets of FPIR, or why it is not told.

  Args:
    found: of each gallery, with probes of both kinds.
    people: the person of each probe, [probes].
    also: further targets.
  """
  out = []
  strangers = min(int((~one.mated).sum()) for one in found)
  what = "probes of strangers"
  for fpir in sorted({*FPIRS, *also}):
    key, label = f"fnir_at_fpir_{fpir:g}", f"FNIR at FPIR {fpir:g}"
    why = too_few(fpir, strangers, name="FPIR", what=what) if fpir else None
    if why is not None:
      out.append(not_told(key, label, why))
      continue
    value, ends = identification.tpir_of_galleries(found, fpir, people=people)
    note = (
      "NIST, ISO/IEC 19795-1: mates that are not found at rank 1, or score below"
      f" the threshold; mean over {len(found)} galleries, {strangers:,} {what} or"
      f" more; {AVERAGED}"
    )
    high, low = (1 - end for end in ends)
    out.append(Quantity(key, label, 1 - value, low, high, convention=note))
  return out


def failure_to_enrol(faces: str) -> list[Quantity]:
  """Share of photos that gave no face, of a folder that was aligned here.

  Args:
    faces: the folder of faces; [] where nobody counted, as of packs.

  Raises:
    ValueError: if what was counted is damaged.
  """
  counted = enrolment.read(faces)
  if counted is None:
    return []
  label = "Failure to enrol"
  note = (
    "ISO/IEC 19795-1: photos that could not be read or in which no face was found"
    " when they were aligned; they are in no other figure; interval: Wilson's;"
  )
  rate = intervals.Rate(counted.failed, counted.tried)
  return [results.of_rate("failure_to_enrol", label, rate, note)]
