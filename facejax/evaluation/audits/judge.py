"""All findings about the labels of a set, by embeddings alone.

Twice: suspected images leave the centres that the second pass compares with, and
people who are one are compared as one.
"""

import dataclasses
from typing import Any

import numpy as np

from facejax.evaluation.audits import (
  embedded_set,
  same_person,
  two_people,
  wrong_labels,
)
from facejax.metrics import fault_thresholds
from facejax.vectors import nearest

_PASSES = 2


@dataclasses.dataclass(frozen=True)
class Options:
  """What is asked for.

  Attributes:
    precision: the share of what is found that shall be faults.
    margin: of a wrong label; None chooses, as of the others.
    same: log-likelihood ratio of one person under two names.
    apart: the same of two people under one name.
    outlier: cosine with the own below which an image is nobody's.
    seed: of halves and strangers.
  """

  precision: float = 0.9
  margin: float | None = None
  same: float | None = None
  apart: float | None = None
  outlier: float | None = None
  seed: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Judgement:
  """What was found.

  Attributes:
    groups: int32 [people], who each person is.
    pairs: people who are each other's best.
    margins: of all images, to groups of people.
    suspects: bool [images], whose label is taken for wrong.
    lead: from which on the nearest person's name is given to a suspect.
    outliers: bool [images], who is like nobody of their name.
    cuts: names in two clusters each.
    thresholds: of wrong labels, same people, two people and outliers.
  """

  groups: np.ndarray
  pairs: same_person.Pairs
  margins: wrong_labels.Margins
  suspects: np.ndarray
  lead: float
  outliers: np.ndarray
  cuts: list[two_people.Cut]
  thresholds: dict[str, fault_thresholds.FaultThreshold]

  def told(self) -> dict[str, Any]:
    """Counts and thresholds, as JSON has them."""
    lead = self.lead if np.isfinite(self.lead) else None
    return {
      "thresholds": {k: v.told() for k, v in self.thresholds.items()},
      "lead_for_names": lead,
      "people": len(self.groups),
      "merged": int(np.sum(self.groups != np.arange(len(self.groups)))),
      "wrong_labels": int(self.suspects.sum()),
      "outliers": int(self.outliers.sum()),
      "two_people": len(self.two()),
    }

  def two(self) -> list[two_people.Cut]:
    """The names that are taken for two people's, the surest first."""
    limit = self.thresholds["two_people"].score
    found = [cut for cut in self.cuts if cut.score >= limit]
    return sorted(found, key=lambda cut: -cut.score)


def judged(
  images: embedded_set.EmbeddedSet, options: Options = Options()
) -> Judgement:
  """Judges a set.

  Raises:
    ValueError: if it has fewer than two people.
  """
  if len(np.unique(images.labels)) < 2:
    raise ValueError("there are fewer than two people: nobody to compare with")
  weights = np.ones(len(images))
  groups = np.arange(images.people, dtype=np.int32)
  for _ in range(_PASSES):
    now = images.relabelled(groups)
    margins = wrong_labels.margins(now, weights, seed=options.seed)
    wrong = wrong_labels.suspected(
      margins, precision=options.precision, given=options.margin
    )
    suspects = margins.margin >= wrong.score
    weights = np.where(suspects, embedded_set.LEAST, 1.0)
    known, pairs, same = _same(now, weights, options)
    more = same_person.merged(pairs, same, images.people)
    groups = more[groups]
  # Nearer to who turned out to be the same person is no fault.
  final = images.relabelled(groups)
  suspects &= groups[margins.who] != final.labels
  cuts, made = two_people.cuts(now, known, suspects, seed=options.seed)
  apart = fault_thresholds.choose(
    np.asarray([cut.score for cut in cuts]),
    made,
    precision=options.precision,
    given=options.apart,
  )
  nobody = two_people.outliers(
    margins,
    suspects,
    precision=options.precision,
    given=None if options.outlier is None else -options.outlier,
  )
  thresholds = {
    "wrong_labels": wrong,
    "same_person": same,
    "two_people": apart,
    "outliers": nobody,
  }
  return Judgement(
    groups,
    pairs,
    margins,
    suspects,
    wrong_labels.lead_for_names(margins, suspects, precision=options.precision),
    ~suspects & (-np.nan_to_num(margins.own, nan=np.inf) >= nobody.score),
    cuts,
    thresholds,
  )


def _same(
  images: embedded_set.EmbeddedSet, weights: np.ndarray, options: Options
) -> tuple[
  same_person.People, same_person.Pairs, fault_thresholds.FaultThreshold
]:
  """People who are one, of those that are not yet taken for that."""
  known = same_person.people(images, weights, seed=options.seed)
  if len(known.numbers) < 2:
    none = same_person.Pairs(*(np.empty(0, int) for _ in range(3)))
    return known, none, fault_thresholds.choose(np.empty(0), np.empty(0))
  search = nearest.Nearest(known.units, mesh=images.mesh)
  pairs = same_person.pairs(known, search)
  made = same_person.made(known, search, seed=options.seed)
  threshold = fault_thresholds.choose(
    pairs.scores, made, precision=options.precision, given=options.same
  )
  return known, pairs, threshold
