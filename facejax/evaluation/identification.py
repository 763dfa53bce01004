"""Identification on any set of people: whose image is this, or nobody's?

Closed set: the first images of every person are the gallery, all others are
probes. Open set: half of the people are enrolled and the others are strangers,
then the other way around; all probes search both galleries (NIST; IJB's G1 and
G2), and the two shares are averaged.
"""

from typing import Any

import numpy as np

from facejax.evaluation import error_rates, pair_results, thumbnails
from facejax.metrics import gallery, identification, people_intervals
from facejax.runs import results

_RANKS = 50
_BLOCK = 1024
_FPIRS = np.geomspace(1e-4, 1, 60)


def quantities(
  vectors: np.ndarray,
  labels: np.ndarray,
  *,
  enrolled: int = 1,
  fpir: float = 0.01,
  seed: int = 0,
) -> tuple[list[results.Quantity], dict[str, Any], list[str]]:
  """Rank-k, CMC, and TPIR at FPIR over two galleries.

  Args:
    vectors: embeddings of length 1, [images, dim].
    labels: the person of each, int [images].
    enrolled: images of each person in the gallery, the first ones.
    fpir: the target of the open set.
    seed: of the halves.

  Returns:
    Figures, curves and notes.

  Raises:
    ValueError: if nobody has an image to spare, or there are too few people.
  """
  known = split(labels, enrolled)
  probes = ~known
  if not probes.any() or len(np.unique(labels)) < 4:
    raise ValueError(
      f"{len(labels)} images of {len(np.unique(labels))} people: identification"
      f" needs four people or more, and some with more than {enrolled} images"
    )
  people = f"gallery: the first {enrolled} image(s) of each person"
  found = gallery.search(
    vectors[probes], labels[probes], vectors[known], labels[known]
  )
  ranks = min(_RANKS, len(np.unique(labels)))
  mated = labels[probes][found.mated]
  out = [
    error_rates.of_share(
      f"rank_{k}",
      f"Rank-{k}",
      found.ranks[found.mated] <= k,
      people_intervals.compared(mated, mated),
      convention=f"closed set; {people}; best cosine of each person; ties count"
      " against the mate",
      what="probes",
    )
    for k in (1, 5, 10)
    if k < ranks
  ]
  cmc = identification.cumulative_match(found, ranks)
  curves = {"cmc": {"rank": np.arange(1, ranks + 1), "rate": cmc}}
  opened = _galleries(vectors, labels, known, seed)
  figure, notes = _open_set(opened, fpir, labels[probes])
  out += [figure, *error_rates.fnir(opened, labels[probes], also=(fpir,))]
  return out, curves | _open_curves(opened, figure.value), notes


def split(labels: np.ndarray, enrolled: int) -> np.ndarray:
  """Which images are the gallery: the first ones of each person, bool.

  >>> split(np.array([3, 3, 5, 3]), 1).tolist()
  [True, False, True, False]
  """
  order = np.argsort(labels, kind="stable")
  _, starts, sizes = np.unique(
    labels[order], return_index=True, return_counts=True
  )
  place = np.empty(len(labels), int)
  place[order] = np.arange(len(labels)) - np.repeat(starts, sizes)
  return place < enrolled


def mistaken(
  vectors: np.ndarray,
  labels: np.ndarray,
  *,
  enrolled: int,
  read: thumbnails.Read,
  count: int,
) -> results.Exhibit:
  """Probes for whom somebody else scores best, beside that person."""
  known = np.flatnonzero(split(labels, enrolled))
  probes = np.flatnonzero(~split(labels, enrolled))
  worst: list[tuple[float, int, int]] = []
  errors = 0
  for start in range(0, len(probes), _BLOCK):
    rows = probes[start : start + _BLOCK]
    scores = vectors[rows] @ vectors[known].T
    mine = labels[rows][:, None] == labels[known]
    others = np.where(mine, -np.inf, scores)
    gap = others.max(1) - np.where(mine, scores, -np.inf).max(1)
    errors += int((gap >= 0).sum())
    best = known[others.argmax(1)]
    worst += list(zip(gap.tolist(), rows.tolist(), best.tolist(), strict=True))
    worst = sorted(worst, reverse=True)[:count]
  comparisons = [
    results.Comparison(
      float(vectors[row] @ vectors[other]), gap >= 0, read(row), read(other)
    )
    for gap, row, other in worst
  ]
  return results.Exhibit(
    "Probes most like somebody else",
    f"Left the probe, right the person outside of its own who scores best;"
    f" {errors:,} of {len(probes):,} probes are named wrongly at rank 1.",
    comparisons,
  )


def _galleries(vectors, labels, known, seed: int) -> list[gallery.Search]:
  people = np.unique(labels)
  order = np.random.default_rng(seed).permutation(people)
  halves = np.split(order, [len(order) // 2])
  probes = ~known
  searches = []
  for half in halves:
    entries = known & np.isin(labels, half)
    searches.append(
      gallery.search(
        vectors[probes], labels[probes], vectors[entries], labels[entries]
      )
    )
  return searches


def _open_set(
  found: list[gallery.Search], fpir: float, people: np.ndarray
) -> tuple[results.Quantity, list[str]]:
  value, interval = identification.tpir_of_galleries(found, fpir, people=people)
  fewest = min(int((~one.mated).sum()) for one in found)
  notes = []
  if fewest * fpir < 1:
    notes.append(
      f"FPIR {fpir:g} of {fewest} probes of strangers lets none of them pass:"
      " the figure is that at FPIR 0"
    )
  quantity = results.Quantity(
    f"tpir_at_fpir_{fpir:g}",
    f"TPIR at FPIR {100 * fpir:g} %",
    value,
    *interval,
    convention="open set, NIST: mate at rank 1 and not below the threshold,"
    " which lets that share of strangers pass; mean over two galleries of half"
    f" the people each, {fewest:,} probes of strangers or more;"
    f" {error_rates.AVERAGED}",
  )
  return quantity, notes


def _open_curves(found: list[gallery.Search], value: float) -> dict[str, Any]:
  fewest = min(int((~one.mated).sum()) for one in found)
  targets = np.unique(np.r_[0, _FPIRS[_FPIRS * fewest >= 1]])
  tpir = [identification.tpir_of_galleries(found, t)[0] for t in targets[1:]]
  mates = np.concatenate([one.mates[one.mated] for one in found])
  best = np.concatenate([one.best[~one.mated] for one in found])
  scores = np.r_[best, mates]
  mated = np.arange(len(scores)) >= len(best)
  kinds = "best of strangers", "mates"
  shown = pair_results.histogram(scores, mated, kinds, None)
  return shown | {"open_set": {"fpir": targets[1:], "tpir": tpir}}
