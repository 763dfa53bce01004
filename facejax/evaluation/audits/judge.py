"""All findings about the labels of a set, by embeddings alone.

Twice: suspected images leave the centres that the second pass compares with, and
people who are one are compared as one.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from facejax.evaluation.audits import (
  embedded_set,
  same_person,
  two_people,
  wrong_labels,
)
from facejax.metrics import fault_thresholds
from facejax.runtime import command_line

_PASSES = 2


@dataclasses.dataclass(frozen=True)
class AuditOptions:
  """What is asked for.

  Attributes:
    precision: the share of what is found that shall be faults.
    margin: of a wrong label; None chooses, as of the others.
    same: log-likelihood ratio of one person under two names.
    apart: cosine of two clusters of a name up to which they are two people.
    outlier: cosine with the own up to which an image is nobody's.
    seed: of halves and strangers.
  """

  precision: float = 0.9
  margin: float | None = None
  same: float | None = None
  apart: float | None = None
  outlier: float | None = None
  seed: int = 0


def add_flags(parser: command_line.Parser) -> None:
  """Adds the flags of `AuditOptions`, but for the seed, and of copies."""
  share: Any = command_line.number(float, 0, 1)
  cosine: Any = command_line.number(float, -1, 1)
  ratio: Any = command_line.number(float, -1e6, 1e6)
  bits: Any = command_line.number(int, 0, 256)
  for flag, kind, text in (
    ("--precision", share, "estimated share of findings that are right (0.9)"),
    (
      "--margin",
      command_line.number(float, -2, 2),
      "by how much another person is nearer to a wrong label",
    ),
    ("--same", ratio, "log-likelihood ratio of one person under two names"),
    ("--apart", cosine, "leave out second people, from this cosine down"),
    (
      "--outlier",
      cosine,
      "cosine with the own up to which an image is nobody's",
    ),
    ("--copy-bits", bits, "bits of 256 in which copies differ at most"),
    ("--copy-cosine", cosine, "cosine of the embeddings of copies at least"),
  ):
    own = flag in ("--precision", "--apart")
    chosen = "" if own else " (chosen by the set)"
    default = 0.9 if flag == "--precision" else None
    parser.add_argument(
      flag, type=kind, default=default, metavar="X", help=text + chosen
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Judgement:
  """What was found.

  Attributes:
    groups: int32 [people], who each person is.
    pairs: people who are each other's best: first those that the first pass has
      put together, then those of the second.
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
  images: embedded_set.EmbeddedSet, options: AuditOptions = AuditOptions()
) -> Judgement:
  """Judges a set.

  Raises:
    ValueError: if it has fewer than two people.
  """
  if len(np.unique(images.labels)) < 2:
    raise ValueError("there are fewer than two people: nobody to compare with")
  start = _Pass(
    np.arange(images.people, dtype=np.int32), np.zeros(len(images), bool)
  )
  last = _passed(images, _passed(images, start, options), options)
  margins = last.margins
  assert margins is not None
  # Nearer to who turned out to be the same person is no fault.
  labels = last.groups[images.labels]
  suspects = last.suspects & (last.groups[margins.who] != labels)
  now = images.relabelled(last.groups)
  cuts, made = two_people.cuts(now, suspects, seed=options.seed)
  thresholds = {
    **last.thresholds,
    "two_people": fault_thresholds.choose(
      np.asarray([cut.score for cut in cuts]),
      made,
      precision=options.precision,
      given=None if options.apart is None else -options.apart,
    ),
    "outliers": two_people.outliers(
      margins,
      suspects,
      precision=options.precision,
      given=None if options.outlier is None else -options.outlier,
    ),
  }
  unlike = -np.nan_to_num(margins.own, nan=np.inf)
  return Judgement(
    groups=last.groups,
    pairs=last.pairs,
    margins=margins,
    suspects=suspects,
    lead=wrong_labels.lead_for_names(
      margins, suspects, precision=options.precision
    ),
    outliers=~suspects & (unlike >= thresholds["outliers"].score),
    cuts=cuts,
    thresholds=thresholds,
  )


class _Pass(NamedTuple):
  """What is known after a pass, and what the next one begins with."""

  groups: np.ndarray
  suspects: np.ndarray
  margins: wrong_labels.Margins | None = None
  pairs: same_person.Pairs = same_person.NO_PAIRS
  thresholds: Mapping[str, fault_thresholds.FaultThreshold] = {}


def _passed(
  images: embedded_set.EmbeddedSet, before: _Pass, options: AuditOptions
) -> _Pass:
  """Compares images with people, and people with people."""
  now = images.relabelled(before.groups)
  weights = _weights(before.suspects)
  margins = wrong_labels.margins(now, weights, seed=options.seed)
  wrong = wrong_labels.suspected(
    margins, precision=options.precision, given=options.margin
  )
  suspects = margins.margin >= wrong.score
  known = same_person.people(now, _weights(suspects))
  pairs = same_person.pairs(known, mesh=images.mesh)
  # With those that are put together already, or what is left looks like faults.
  done = before.pairs.among(before.groups)
  both = same_person.Pairs(*map(np.concatenate, zip(done, pairs, strict=True)))
  same = fault_thresholds.choose(
    both.scores,
    same_person.made(now, _weights(suspects), seed=options.seed),
    precision=options.precision,
    given=options.same,
  )
  more = same_person.merged(pairs, same, images.people)
  return _Pass(
    more[before.groups],
    suspects,
    margins,
    both,
    {"wrong_labels": wrong, "same_person": same},
  )


def _weights(suspects: np.ndarray) -> np.ndarray:
  """What images say of their people."""
  return np.where(suspects, embedded_set.LEAST, 1.0)
