"""A threshold to keep with a net, and all that is known of it."""

import argparse
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from facejax.data.pairs import pairs as pair_sets
from facejax.evaluation import (
  calibrated,
  error_rates,
  pair_people,
  verification,
)
from facejax.metrics import counts as counts_lib
from facejax.metrics import curves, people_intervals
from facejax.metrics import verification as metrics
from facejax.runs import card as card_lib
from facejax.runs import thresholds
from facejax.runtime import command_line, distributed

# Shares of strangers of the table, as far down as pairs tell.
_RATES = tuple(
  digit * 10.0**power for power in range(-1, -8, -1) for digit in (5, 2, 1)
)
_FOLDS = (
  "mean of the folds' thresholds, each with the best accuracy on the others"
)
_GIVEN = "chosen on other pairs"


class Keep(NamedTuple):
  """That a threshold is to be kept.

  Attributes:
    fmr: its FMR; None for the threshold of the best accuracy.
  """

  fmr: float | None = None


_BEST = Keep()


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags that keep a threshold."""
  parser.add_argument(
    "--keep-threshold",
    action="store_true",
    help="pairs: keep the threshold in RUN/model.json, for verify and others",
  )
  rate: Any = command_line.number(float, 1e-9, 0.5)
  parser.add_argument(
    "--fmr",
    type=rate,
    help="--keep-threshold at this FMR (that of the best accuracy)",
  )


def of_flags(args: argparse.Namespace, *, takes: bool) -> Keep | None:
  """What the flags of `add_flags` ask for.

  Args:
    args: of the command.
    takes: whether its protocol has all pairs of one list, and of one net.

  Raises:
    ValueError: if the flags do not belong.
  """
  if not args.keep_threshold:
    if args.fmr is not None:
      raise ValueError("--fmr needs --keep-threshold, which it is the FMR of")
    return None
  if not takes:
    raise ValueError(
      "--keep-threshold is for all pairs of one net: leave out --fold and"
      " --gallery-net, and use --protocol pairs, drawn or one of the lists"
    )
  if args.fmr is not None and args.threshold is not None:
    raise ValueError("--threshold and --fmr: give one of them")
  return Keep(args.fmr)


def check(keep: Keep, pairs: pair_sets.PairSet) -> None:
  """Refuses an FMR that the pairs do not resolve.

  Raises:
    ValueError: saying how many impostor pairs it takes.
  """
  if keep.fmr is None:
    return
  impostors = int((~pairs.same).sum())
  why = error_rates.too_few(
    keep.fmr, impostors, name="FMR", what="impostor pairs"
  )
  if why is not None:
    least = error_rates.LEAST / max(impostors, 1)
    advice = f"; use {least:.2g} or more" if least <= 0.5 else ""
    raise ValueError(f"--fmr {keep.fmr:g}: {why}{advice}, or more pairs")


def of_pairs(
  found: verification.Verification,
  pairs: pair_sets.PairSet,
  *,
  keep: Keep = _BEST,
  step: int | None = None,
  data: Mapping[str, str],
) -> thresholds.Threshold:
  """The threshold of verified pairs, with its FMR, table and ratios.

  Args:
    found: what the net made of the pairs.
    pairs: the pairs.
    keep: which threshold.
    step: training steps of the net.
    data: where the pairs lie, and their fingerprint.
  """
  scores, same, figures = found.scores, found.same, found.metrics
  tally, given = counts_lib.count(scores, same), figures.get("given_threshold")
  if keep.fmr is not None:
    cosine = curves.at_far(tally, keep.fmr).threshold
    how = f"the lowest with FMR {keep.fmr:g} or less on these very pairs"
  else:
    cosine = figures["threshold"] if given is None else given
    how = _FOLDS if given is None else _GIVEN
  accuracy = metrics.accuracy_at(scores, same, cosine)
  if keep.fmr is None and given is None:
    accuracy = figures["accuracy"]
  who = pair_people.known(pairs)
  strangers, others = scores[~same], who and who.of(~same)
  ends, interval = error_rates.ends(strangers >= cosine, others)
  return thresholds.Threshold(
    cosine=float(cosine),
    accuracy=float(accuracy),
    pairs=found.name,
    false_matches=float(np.mean(strangers >= cosine)),
    strangers=len(strangers),
    low=ends.low,
    high=ends.high,
    protocol=f"verification; {how}; FMR's {interval}",
    data=dict(data),
    step=step,
    rates=_table(tally, strangers, others),
    ratio=calibrated.line(found),
  )


def write(run: str | os.PathLike[str], threshold: thresholds.Threshold) -> None:
  """Keeps a threshold in the folder of a run; of several processes, one does."""
  if distributed.primary():
    card_lib.keep_threshold(run, threshold)


def _table(
  tally: counts_lib.Counts,
  strangers: np.ndarray,
  who: people_intervals.Compared | None,
) -> tuple[thresholds.MatchRate, ...]:
  """Cosines that 50, 20, 10 … % of strangers reach, as far as 30 of them do."""
  rows: dict[float, thresholds.MatchRate] = {}
  for rate in (*_RATES, error_rates.LEAST / len(strangers)):
    if error_rates.too_few(rate, len(strangers), name="", what="") is not None:
      continue
    point = curves.at_far(tally, min(rate, 0.5))
    if point.far.successes >= error_rates.LEAST:
      ends, _ = error_rates.ends(strangers >= point.threshold, who)
      rows[point.threshold] = thresholds.MatchRate(
        point.threshold, point.far.value, *ends
      )
  return tuple(rows[cosine] for cosine in sorted(rows))
