"""Two nets, or two ways to train them, on the same comparisons."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import rich.box
import rich.table
import rich.text

from facejax.evaluation import error_rates
from facejax.metrics import counts as counts_lib
from facejax.metrics import curves, paired, people_bootstrap, people_intervals
from facejax.metrics import verification as metrics

Statistic = Callable[[counts_lib.Counts], float]
LEVEL = 0.05
_FMRS = {"1e-1": 0.1} | error_rates.FMRS
_BOOTSTRAP = (
  "standard error over people: {samples:,} draws of people, the same ones for"
  " all nets"
)
_PAIRS = "whom the pairs show is not known: they are taken as independent"


class NetScores(NamedTuple):
  """What a net makes of pairs.

  Attributes:
    run: the folder of the net.
    values: cosines, float64 [pairs].
  """

  run: str
  values: np.ndarray


class SharedPairs(NamedTuple):
  """What all nets are asked.

  Attributes:
    same: bool [pairs].
    fold: int [pairs].
    who: whom they show; None if that is not known.
  """

  same: np.ndarray
  fold: np.ndarray
  who: people_intervals.Compared | None


class ComparedFigure(NamedTuple):
  """A figure of both sides.

  Attributes:
    key: a name for programs.
    label: a name for people.
    first: of each run of the first side.
    second: of each run of the second side.
    found: the difference of their means.
    p_value: of all figures together (Holm); that of this alone is in `found`.
    lower_is_better: whether it is an error.
    convention: how it came about.
  """

  key: str
  label: str
  first: Sequence[float]
  second: Sequence[float]
  found: paired.Difference
  p_value: float
  lower_is_better: bool
  convention: str

  @property
  def better(self) -> str:
    """ "A" or "B"; "" where no difference is shown."""
    if self.p_value >= LEVEL:
      return ""
    return "B" if (self.found.value > 0) == self.lower_is_better else "A"


def compare(
  first: Sequence[NetScores],
  second: Sequence[NetScores],
  pairs: SharedPairs,
  *,
  samples: int = 1000,
) -> list[ComparedFigure]:
  """Accuracy, FNMR at FMRs, EER and AUC of two sides, the first to be quoted.

  Args:
    first: one net, or several of one recipe.
    second: likewise.
    pairs: what they were asked.
    samples: draws of people for each figure but accuracy.

  Raises:
    ValueError: as `metrics.verification`.
  """
  # Pairs of nobody known: each is a person of its own.
  alone = np.arange(len(pairs.same))
  who = pairs.who or people_intervals.compared(alone, alone)
  rows = [_accuracy(first, second, pairs, who)]
  statistics = _statistics(int((~pairs.same).sum()))
  sides = [
    _draws(side, pairs, who, statistics, samples=samples)
    for side in (first, second)
  ]
  (ours, our_draws), (theirs, their_draws) = sides
  variances = (our_draws - their_draws).variance().tolist()
  for k, (key, label) in enumerate(statistics):
    found = paired.difference(
      ours[k], theirs[k], variance=variances[k], people=who.people
    )
    errors, note = key != "area_under_curve", _how(key, samples)
    rows.append(
      ComparedFigure(key, label, ours[k], theirs[k], found, 1.0, errors, note)
    )
  adjusted = paired.holm([row.found.p_value for row in rows])
  return [
    row._replace(p_value=p) for row, p in zip(rows, adjusted, strict=True)
  ]


def _how(key: str, samples: int) -> str:
  """The convention of a figure that is bootstrapped."""
  note = _BOOTSTRAP.format(samples=samples)
  if not key.startswith("fnmr"):
    return note
  return f"FNMR at the threshold of each net where FMR is not above; {note}"


def notes(
  first: Sequence[NetScores], second: Sequence[NetScores], pairs: SharedPairs
) -> list[str]:
  """What a reader must know of the rows."""
  count, least = max(len(first), len(second)), min(len(first), len(second))
  out = [
    f"A - B over the same {len(pairs.same):,} pairs; interval 95 % and p, the chance"
    " of such a difference if there were none, by Student's t; Holm: p for all"
    f" figures together; below {LEVEL} one side is called better",
  ]
  if pairs.who is None:
    out.append(_PAIRS)
  else:
    out.append(
      f"Pairs that share one of {pairs.who.people:,} people are taken as"
      " dependent"
    )
  if count == 1:
    out.append(
      "Two nets are compared, not two recipes: another seed may make as much of a"
      " difference. Give several runs of each with --a and --b"
    )
  else:
    which = "each side" if least > 1 else "the side that has several"
    out.append(
      f"The runs of {which} vary, and that is in the intervals: it is asked"
      " whether the recipes differ"
    )
  return out


def table(rows: Sequence[ComparedFigure], title: str) -> rich.table.Table:
  """The rows for the console; their conventions are the caption."""
  labels: dict[str, list[str]] = {}
  for row in rows:
    labels.setdefault(row.convention, []).append(row.label)
  out = rich.table.Table(
    title=rich.text.Text(title),
    caption=rich.text.Text(
      "\n".join(f"{', '.join(names)}: {how}" for how, names in labels.items())
    ),
    caption_justify="left",
    box=rich.box.SIMPLE_HEAD,
    show_edge=False,
    padding=(0, 1, 0, 0),  # so that several runs a side fit 80 columns
    min_width=78,
  )
  out.add_column("(%)", no_wrap=True)
  for header in ("A", "B", "A - B", "95 % interval", "p", "Holm", "better"):
    out.add_column(header, justify="right", no_wrap=True)
  for row in rows:
    low, high = (100 * end for end in row.found.interval)
    out.add_row(
      rich.text.Text(row.label),
      _mean(row.first),
      _mean(row.second),
      f"{100 * row.found.value:+.2f}",
      f"{low:+.2f} … {high:+.2f}",
      _chance(row.found.p_value),
      _chance(row.p_value),
      row.better or "-",
    )
  return out


def _chance(p_value: float) -> str:
  return f"{p_value:.3f}" if p_value >= 0.001 else "<.001"


def _mean(values: Sequence[float]) -> str:
  text = f"{100 * np.mean(values):.2f}"
  return (
    f"{text}±{100 * np.std(values, ddof=1):.2f}" if len(values) > 1 else text
  )


def _accuracy(
  first: Sequence[NetScores],
  second: Sequence[NetScores],
  pairs: SharedPairs,
  who: people_intervals.Compared,
) -> ComparedFigure:
  """Pair by pair, with McNemar's test beside it for two nets."""
  sides = [
    [
      metrics.ten_fold_accuracy(one.values, pairs.same, pairs.fold)
      for one in side
    ]
    for side in (first, second)
  ]
  right = [np.mean([one.right for one in side], axis=0) for side in sides]
  _, number, sizes = np.unique(
    pairs.fold, return_inverse=True, return_counts=True
  )
  weights = 1 / (len(sizes) * sizes[number])
  values = [[one.mean for one in side] for side in sides]
  found = paired.difference(
    *values,
    variance=people_intervals.variance(
      right[0] - right[1], who, weights=weights
    ),
    people=who.people,
  )
  note = (
    "mean over folds, threshold of each from the others (convention facenet);"
    " standard error over people: sums over pairs that share one (Fogliato et al.)"
  )
  if len(first) == len(second) == 1:
    exact = paired.mcnemar(sides[0][0].right, sides[1][0].right)
    note += (
      f"; A alone is right about {exact.first:,} pairs, B alone about"
      f" {exact.second:,}: McNemar's exact test, pairs independent, p ="
      f" {exact.p_value:.3g}"
    )
  first_values, second_values = values
  return ComparedFigure(
    "accuracy", "Accuracy", first_values, second_values, found, 1.0, False, note
  )


def _statistics(impostors: int) -> dict[tuple[str, str], Statistic]:
  """By key and label; FNMR where the rule of 30 has enough impostor pairs."""
  out: dict[tuple[str, str], Statistic] = {
    (f"fnmr_at_fmr_{name}", f"FNMR@{name}"): error_rates.fnmr_statistic(fmr)
    for name, fmr in _FMRS.items()
    if not error_rates.too_few(fmr, impostors, name="FMR", what="pairs")
  }
  out["equal_error_rate", "EER"] = curves.equal_error_rate
  out["area_under_curve", "AUC"] = curves.area
  return out


def _draws(
  side: Sequence[NetScores],
  pairs: SharedPairs,
  who: people_intervals.Compared,
  statistics: dict[tuple[str, str], Statistic],
  *,
  samples: int,
) -> tuple[list[list[float]], people_bootstrap.Resampled]:
  """Each figure of each run, and what their mean over runs varies by."""
  drawn = [
    people_bootstrap.bootstrap(
      one.values, pairs.same, who, [*statistics.values()], samples=samples
    )
    for one in side
  ]
  figures = np.transpose([one.values for one in drawn]).tolist()
  return figures, people_bootstrap.mean(drawn)
