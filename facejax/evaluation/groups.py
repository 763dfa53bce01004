"""How a net treats groups of people, whom a file of the user's tells."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from facejax.data.pairs import pairs as pair_sets
from facejax.evaluation import (
  error_rates,
  pair_people,
  people_table,
  verification,
)
from facejax.metrics import (
  counts,
  curves,
  group_rates,
  people_intervals,
)
from facejax.runs import results

Quantity = results.Quantity

LEAST = 30  # comparisons of each kind that a group must have
_CHANCE = 0.95


def by_columns(
  found: verification.Verification,
  pairs: pair_sets.PairSet,
  people: people_table.People,
  columns: tuple[str, ...],
  *,
  threshold: float | None = None,
  samples: int = 1000,
) -> tuple[list[Quantity], dict[str, Any], list[str]]:
  """Figures by group at one threshold for all, a matrix to draw, and notes.

  Args:
    found: the scores of the pairs.
    pairs: the set.
    people: groups of the people.
    columns: of the grouping.
    threshold: a cosine chosen elsewhere; None takes the one at the lowest FMR
      of 1e-1, 1e-2 … that all impostor pairs resolve by the rule of 30.
    samples: draws of the bootstrap, and of groups that are dealt by chance.

  Raises:
    ValueError: if nobody knows whom the pairs show, or fewer than two groups
      have `LEAST` genuine and impostor pairs.
  """
  sides = pair_people.named(pairs)
  if sides is None:
    raise ValueError(
      f"pair set {pairs.name}: whom its pairs show is not known (a pack has no"
      " names); give a list of pairs with --path"
    )
  what = " x ".join(columns)
  group = {
    name: ", ".join(row[c] for c in columns)
    for name, row in people.rows.items()
    if all(c in row for c in columns)
  }
  names, number = np.unique(np.concatenate(sides), return_inverse=True)
  of_person = np.array([group.get(str(name), "") for name in names])
  threshold, how = _threshold(found, threshold)
  kept, small = _large_enough(of_person[number], found.same)
  notes = _left_out(of_person, small, people.path, what)
  if len(kept) < 2:
    raise ValueError(
      f"--groups {people.path}, {what}: {len(kept)} groups have {LEAST} genuine"
      f" and {LEAST} impostor pairs or more; two are the least."
      f" {' '.join(notes)}"
    )
  mine = np.isin(of_person[number], kept).reshape(2, -1).all(axis=0)
  who = people_intervals.compared(*(side[mine] for side in sides))
  shown = np.unique(np.concatenate([side[mine] for side in sides]))
  by_name = dict(zip(names.tolist(), of_person.tolist(), strict=True))
  decided = group_rates.Decided(
    found.scores[mine] >= threshold,
    found.same[mine],
    who,
    np.searchsorted(kept, [by_name[str(name)] for name in shown]),
    len(kept),
  )
  told = group_rates.table(decided)
  key = "_".join(columns)
  quantities = _by_group(decided, kept, key, what, how)
  quantities += _unequal(decided, told, kept, key, what, samples)
  drawn = {
    "what": what,
    "names": kept,
    "fmr": told.matrix,
    "impostors": told.impostors,
    "fnmr": told.fnmr,
    "genuine": told.genuine,
    "threshold": threshold,
  }
  return quantities, drawn, notes


def add(
  result: results.Result,
  found: verification.Verification,
  pairs: pair_sets.PairSet,
  asked: people_table.Asked,
  *,
  threshold: float | None = None,
  samples: int = 1000,
) -> results.Result:
  """A result of pairs with what `by_columns` finds for each grouping."""
  each = [
    by_columns(
      found, pairs, asked.people, columns, threshold=threshold, samples=samples
    )
    for columns in asked.groupings
  ]
  return dataclasses.replace(
    result,
    quantities=[*result.quantities, *(q for one in each for q in one[0])],
    curves={**result.curves, "groups": {"groupings": [one[1] for one in each]}},
    notes=[*result.notes, *dict.fromkeys(n for one in each for n in one[2])],
  )


def _threshold(
  found: verification.Verification, given: float | None
) -> tuple[float, str]:
  if given is not None:
    return given, f"cosine {given:.4f}, given"
  tally = counts.count(found.scores, found.same)
  fmrs = {"1e-1": 0.1} | error_rates.resolved(tally.totals()[1])
  name, fmr = list(fmrs.items())[-1]
  cosine = curves.at_far(tally, fmr).threshold
  return cosine, f"cosine {cosine:.4f}, FMR {name} of all pairs"


def _large_enough(
  sides: np.ndarray, same: np.ndarray
) -> tuple[list[str], dict[str, str]]:
  """Groups with enough pairs, in order; why others are too small."""
  first, second = sides.reshape(2, -1)
  kept, small = [], {}
  for name in np.unique(sides[sides != ""]).tolist():
    within = (first == name) & (second == name)
    genuine = int((within & same).sum())
    impostors = int(within.sum()) - genuine
    if min(genuine, impostors) >= LEAST:
      kept.append(name)
    else:
      small[name] = f"{genuine} genuine, {impostors} impostor pairs"
  return kept, small


def _left_out(
  of_person: np.ndarray, small: Mapping[str, str], path: str, what: str
) -> list[str]:
  """What of the pairs is in no figure by group."""
  notes = [
    f"Group {name!r} of {what} is too small: {why}; {LEAST} of each kind are the"
    " least, and no rate is told."
    for name, why in small.items()
  ]
  unknown = int((of_person == "").sum())
  if unknown:
    notes.append(
      f"{unknown:,} of {len(of_person):,} people have no {what} in {path}; their"
      " pairs are in no figure by group."
    )
  return notes


def _by_group(
  decided: group_rates.Decided,
  names: Sequence[str],
  key: str,
  what: str,
  how: str,
) -> list[Quantity]:
  """FMR and FNMR within each group."""
  first, second = (
    decided.group[side] for side in (decided.who.first, decided.who.second)
  )
  out = []
  for label, kind, wrong, convention in (
    ("FMR", ~decided.same, decided.accepted, "impostor pairs of the group"),
    ("FNMR", decided.same, ~decided.accepted, "genuine pairs of the group"),
  ):
    for k, name in enumerate(names):
      mine = kind & (first == k) & (second == k)
      out.append(
        error_rates.of_share(
          f"{label.lower()}_{key}_{name}",
          f"{label}, {what} {name}",
          wrong[mine],
          decided.who.of(mine),
          convention=f"{convention}; one threshold for all: {how}",
        )
      )
  return out


def _unequal(
  decided: group_rates.Decided,
  told: group_rates.GroupTable,
  names: Sequence[str],
  key: str,
  what: str,
  samples: int,
) -> list[Quantity]:
  """How unequal the rates of groups are, beside what chance makes of it."""
  draws = group_rates.drawn(decided, samples=samples)
  dealt = list(group_rates.dealt(decided, samples=samples))
  out = []
  for name, label, convention, of in _measures(told, names):
    with np.errstate(all="ignore"):
      chance = np.array([of(table) for table in dealt])
    note = f"{convention}; interval: bootstrap of people"
    again = group_rates.resampled(told, draws, of)
    if again is None:
      note += ", not told: in too many draws a group has no error"
    # What cannot be told of a deal is at least as large as any number.
    limit = np.quantile(
      np.nan_to_num(chance, nan=np.inf), _CHANCE, method="higher"
    )
    if math.isfinite(limit):
      note += f"; groups dealt to people by chance: up to {limit:.3g} in 95 %"
    out.append(
      Quantity(
        f"{name}_{key}",
        f"{label}, {what}",
        of(told),
        *(again.interval(0) if again else (None, None)),
        unit="",
        convention=note,
      )
    )
  return out


def _measures(told: group_rates.GroupTable, names: Sequence[str]):
  """Key, label, convention, and the function of a table, of each measure."""
  for label in ("FMR", "FNMR"):
    kind = label.lower()
    worst, best = (int(f(getattr(told, kind))) for f in (np.argmax, np.argmin))
    # The same two groups in every draw: the interval holds 1 where chance may
    # have made the difference.
    yield (
      f"{kind}_worst_over_best",
      f"{label}, worst over best",
      f"{names[worst]} over {names[best]}, the same two in every draw",
      _of(group_rates.worst_over_best, kind, worst=worst, best=best),
    )
    yield (
      f"{kind}_worst_over_mean",
      f"{label}, worst over geometric mean",
      f"NIST IR 8429; {names[worst]}, the same in every draw",
      _of(group_rates.worst_over_mean, kind, worst=worst),
    )
  yield (
    "garbe",
    "GARBE",
    "Howard et al. 2022, half of FMR's Gini coefficient and half of FNMR's, 0 where"
    " all are equal",
    lambda table: group_rates.garbe(table.fmr, table.fnmr),
  )
  yield (
    "inequity_rate",
    "Inequity rate",
    "NIST IR 8429, root of (worst over best FMR) x (worst over best FNMR), 1 where"
    " all are equal",
    lambda table: group_rates.inequity(table.fmr, table.fnmr),
  )


def _of(measure: Callable[..., float], kind: str, **which: int):
  """A measure of one kind of rate, as a function of a table."""
  return lambda table: measure(getattr(table, kind), **which)
