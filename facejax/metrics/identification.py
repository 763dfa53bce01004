"""Identification: whose image is this, of a gallery of known people?

Every function but one reads a `gallery.Search`. With a threshold t, as NIST
defines them,

    TPIR(t) = |{mated: rank = 1 and score of the mate >= t}| / |mated|
    FPIR(t) = |{not mated: best score >= t}| / |not mated|

References:
  Grother, Ngan, *Face Recognition Vendor Test: Performance of Face
  Identification Algorithms*, NIST IR 8009, 2014. Maze et al., *IARPA Janus
  Benchmark-C: Face Dataset and Protocol*, 2018.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facejax.metrics import checks, gallery, intervals, people_intervals


class OpenSet(NamedTuple):
  """What a threshold lets through in open-set identification."""

  threshold: float  # name somebody when the score reaches it
  tpir: intervals.Rate
  fpir: intervals.Rate


def rank_k(found: gallery.Search, k: int = 1) -> intervals.Rate:
  """Share of the mated probes whose mate is among the best k people.

  Raises:
    ValueError: if no probe is mated, or `k` is below 1.

  >>> found = gallery.search_scores([[0.8, 0.3], [0.6, 0.5]], [0, 1], [0, 1])
  >>> rank_k(found).value, rank_k(found, 2).value
  (0.5, 1.0)
  """
  if k < 1:
    raise ValueError(f"rank {k}; ranks begin with 1")
  ranks = _mated_ranks(found)
  return intervals.Rate(int(np.count_nonzero(ranks <= k)), len(ranks))


def cumulative_match(found: gallery.Search, ranks: int) -> np.ndarray:
  """Cumulative match characteristic (CMC): `rank_k` of 1 … `ranks`, [ranks].

  Raises:
    ValueError: as `rank_k`.

  >>> found = gallery.search_scores([[0.8, 0.3], [0.6, 0.5]], [0, 1], [0, 1])
  >>> cumulative_match(found, 3).tolist()
  [0.5, 1.0, 1.0]
  """
  if ranks < 1:
    raise ValueError(f"rank {ranks}; ranks begin with 1")
  mine = _mated_ranks(found)
  counts = np.bincount(mine.clip(max=ranks + 1), minlength=ranks + 2)
  return np.cumsum(counts)[1:-1] / len(mine)


def tpir_at_fpir(
  found: gallery.Search, fpir: float, *, rank: int = 1
) -> OpenSet:
  """The largest TPIR whose FPIR is at most `fpir` (NIST, open set).

  The threshold lies just above the best score of a probe that is not mated and
  may not pass; it is -infinity where all of them may.

  Args:
    found: a search with probes of both kinds.
    fpir: the target, in [0, 1].
    rank: mates up to this rank count.

  Raises:
    ValueError: if one kind of probe is missing, or a number is out of range.

  >>> found = gallery.search_scores(
  ...   [[0.8, 0.3], [0.6, 0.5], [0.4, 0.7]], [0, 1, 2], [0, 1]
  ... )
  >>> tpir_at_fpir(found, 0.0).tpir.value
  0.5
  """
  checks.share(fpir, "fpir")
  ranks, strangers = _mated_ranks(found), found.best[~found.mated]
  if not strangers.size:
    raise ValueError(
      "every probe is mated; FPIR needs probes of people outside of the gallery"
    )
  bar = _bar(strangers, fpir)
  found_there = int(np.count_nonzero(_named(found, bar, rank)))
  return OpenSet(
    threshold=float(np.nextafter(bar, np.inf)) if bar > -np.inf else -np.inf,
    tpir=intervals.Rate(found_there, len(ranks)),
    fpir=intervals.Rate(int(np.count_nonzero(strangers > bar)), len(strangers)),
  )


def tpir_of_galleries(
  found: Sequence[gallery.Search],
  fpir: float,
  *,
  rank: int = 1,
  level: float = 0.95,
  people: npt.ArrayLike | None = None,
) -> tuple[float, intervals.Interval]:
  """`tpir_at_fpir` of each gallery, averaged: IJB's G1 and G2.

  The same probes search each gallery; those of people in the other one only are
  the strangers. Each gallery has a threshold of its own, which the interval
  takes as given.

  Args:
    found: of each gallery, the same probes in one order.
    fpir: see `tpir_at_fpir`.
    rank: likewise.
    level: of the interval.
    people: the person of each probe, [probes]; those of one person are then
      dependent, see `people_intervals.wilson`.

  Returns:
    The mean TPIR and its interval, see `intervals.average`.

  Raises:
    ValueError: as `tpir_at_fpir`.

  >>> first = gallery.search_scores([[0.8], [0.4]], [0, 1], [0])
  >>> second = gallery.search_scores([[0.7], [0.6]], [0, 1], [1])
  >>> tpir_of_galleries([first, second], 0.0)[0]
  0.5
  """
  rates = [tpir_at_fpir(one, fpir, rank=rank).tpir for one in found]
  if people is None:
    return intervals.average(rates, level=level)
  ends = []
  for one in found:
    mine = checks.labels(people, len(one.mated), "people")[one.mated]
    named = _named(one, _bar(one.best[~one.mated], fpir), rank)
    who = people_intervals.compared(mine, mine)
    ends.append(people_intervals.wilson(named, who, level=level))
  return intervals.average(rates, level=level, ends=ends)


def closed_set_tpir(
  scores: npt.ArrayLike,
  probe_ids: npt.ArrayLike,
  gallery_ids: npt.ArrayLike,
  fpir: float,
) -> OpenSet:
  """What insightface calls TPIR@FPIR: a closed set, no strangers.

  The threshold is the ceil(fpir * probes)-th largest score of a probe with any
  *other* person; TPIR is the share of mates above it, at whatever rank. Not the
  NIST quantity, and not to be compared with it: for tables of that code only.

  Args:
    scores: similarities, [probes, entries].
    probe_ids: the person of each probe, all of them in the gallery, [probes].
    gallery_ids: the person of each entry, each one once, [entries].
    fpir: the target, in (0, 1].

  Returns:
    The `fpir` field holds those scores with others that pass, of all probes.

  Raises:
    ValueError: if a probe is not mated, a person has two entries, or there are
      too few scores with others.

  >>> closed_set_tpir([[0.8, 0.3], [0.6, 0.5]], [0, 1], [0, 1], 0.5).tpir.value
  0.5
  """
  scores = checks.vectors(scores, "scores")
  found = gallery.search_scores(scores, probe_ids, gallery_ids)
  people = np.unique(np.asarray(gallery_ids))
  if not found.mated.all() or len(people) < scores.shape[1]:
    raise ValueError("every probe needs exactly one entry of its person")
  others = scores[np.asarray(probe_ids)[:, None] != np.asarray(gallery_ids)]
  k = math.ceil(len(scores) * checks.share(fpir, "fpir"))
  if not 1 <= k <= others.size:
    raise ValueError(f"fpir {fpir} asks for score {k} of {others.size}")
  bar = np.partition(others, others.size - k)[others.size - k]
  passed = int(np.count_nonzero(found.mates > bar))
  return OpenSet(
    threshold=float(np.nextafter(bar, np.inf)),
    tpir=intervals.Rate(passed, len(scores)),
    fpir=intervals.Rate(int(np.count_nonzero(others > bar)), len(scores)),
  )


def _mated_ranks(found: gallery.Search) -> np.ndarray:
  ranks = found.ranks[found.mated]
  if not ranks.size:
    raise ValueError(
      "no probe is mated; the gallery holds nobody of the probes"
    )
  return ranks


def _named(found: gallery.Search, bar: float, rank: int) -> np.ndarray:
  """Which mated probes are named rightly, bool [mated].

  Above the bar itself: no float lies between it and the threshold.
  """
  return (found.ranks[found.mated] <= rank) & (found.mates[found.mated] > bar)


def _bar(strangers: np.ndarray, share: float) -> float:
  """The best score that bars all but a share of strangers; -inf bars none."""
  place = strangers.size - 1 - checks.allowed(share, strangers.size)
  return float(np.partition(strangers, place)[place]) if place >= 0 else -np.inf
