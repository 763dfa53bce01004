"""The worst cases of an audit, with pictures, for a sheet."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from facejax.data import sources
from facejax.evaluation import thumbnails
from facejax.evaluation.audits import decisions as decisions_lib
from facejax.evaluation.audits import embedded_set, judge
from facejax.runs import results
from facejax.runtime import text_lines

# Pictures of a person beside the one in question.
_SHOWN = 4


class CaseSide(NamedTuple):
  """Some pictures and whose they are said to be."""

  title: str
  faces: Sequence[results.Thumbnail]


class Case(NamedTuple):
  """One finding."""

  caption: str
  sides: Sequence[CaseSide]


class Findings(NamedTuple):
  """Findings of one kind, the worst first."""

  title: str
  lead: str
  cases: Sequence[Case]


class Sheet(NamedTuple):
  """What is needed to show findings.

  Attributes:
    images: the set.
    found: about its labels.
    decided: what is to be done.
    names: of people.
    read: makes a thumbnail of an image, by its place among the embeddings.
    most: cases of each kind.
  """

  images: embedded_set.EmbeddedSet
  found: judge.Judgement
  decided: decisions_lib.Decisions
  names: Sequence[str]
  read: Callable[[int], results.Thumbnail]
  most: int

  def sections(self) -> list[Findings]:
    """All kinds, in the order of the summary."""
    return [
      self._same(),
      self._wrong(),
      self._two(),
      self._outliers(),
      self._copies(),
    ]

  def _person(self, person: int, *, but: int = -1) -> CaseSide:
    """Some images of a person: those most like the others."""
    rows = np.flatnonzero(self.images.labels == person)
    rows = rows[rows != but]
    own = np.nan_to_num(self.found.margins.own[rows], nan=-1)
    best = rows[np.argsort(-own, kind="stable")[:_SHOWN]]
    name = text_lines.printable(self.names[person])
    return CaseSide(f"{name}, {len(rows):,} images", self._read(best))

  def _read(self, rows: np.ndarray) -> list[results.Thumbnail]:
    return [self.read(int(row)) for row in rows[:_SHOWN]]

  def _same(self) -> Findings:
    groups = self.found.groups
    pairs = list(zip(*self.found.pairs, strict=True))[: self.most]
    shown = [
      Case(
        f"log-likelihood ratio {score:.1f}"
        + ("" if groups[a] == groups[b] else ", below the threshold"),
        [self._person(int(a)), self._person(int(b))],
      )
      for a, b, score in pairs
    ]
    into = len(self.decided.merge)
    lead = f"{into:,} names are put together with another (merge.csv)."
    return Findings("One person under two names", lead, shown)

  def _wrong(self) -> Findings:
    margins, groups = self.found.margins, self.found.groups
    given = {k: who for k, who, _ in self.decided.relabel}
    rows = np.flatnonzero(groups[margins.who] != groups[self.images.labels])
    rows = rows[np.argsort(-margins.margin[rows], kind="stable")][: self.most]
    shown = []
    for k in rows.tolist():
      done = "relabelled" if k in given else self.decided.exclude.get(k)
      shown.append(
        Case(
          f"margin {margins.margin[k]:.2f}, {done or 'below the threshold'}",
          [
            CaseSide("the image", [self.read(k)]),
            self._person(int(self.images.labels[k]), but=k),
            self._person(int(margins.who[k])),
          ],
        )
      )
    lead = (
      f"{int(self.found.suspects.sum()):,} images lie nearer to another person"
      f" than to their own; {len(given):,} of them get that name (relabel.csv)."
    )
    return Findings("Wrong labels", lead, shown)

  def _two(self) -> Findings:
    limit = self.found.thresholds["two_people"].score
    cuts = sorted(self.found.cuts, key=lambda cut: -cut.score)[: self.most]
    shown = []
    for cut in cuts:
      mine = np.flatnonzero(self.images.labels == cut.person)
      rest = np.setdiff1d(mine, cut.others)
      name = text_lines.printable(self.names[cut.person])
      below = "" if cut.score >= limit else ", above the threshold"
      shown.append(
        Case(
          f"{name}: cosine {-cut.score:.2f} between{below}",
          [
            CaseSide("most images", self._read(rest)),
            CaseSide("others", self._read(cut.others)),
          ],
        )
      )
    lead = (
      f"{len(self.found.two()):,} names look like two people's; with --apart the"
      " smaller clusters are left out."
    )
    return Findings("Two people under one name", lead, shown)

  def _outliers(self) -> Findings:
    own = np.nan_to_num(self.found.margins.own, nan=2)
    rows = np.argsort(np.where(self.found.suspects, 2, own), kind="stable")
    shown = [
      Case(
        f"cosine {own[k]:.2f} with the own"
        + ("" if self.found.outliers[k] else ", above the threshold"),
        [
          CaseSide("the image", [self.read(k)]),
          self._person(int(self.images.labels[k]), but=k),
        ],
      )
      for k in rows[: self.most].tolist()
    ]
    count = int(self.found.outliers.sum())
    lead = f"{count:,} images are like nobody's, their own included."
    return Findings("Outliers", lead, shown)

  def _copies(self) -> Findings:
    pairs = self.decided.copies
    labels, names = self.images.labels, self.names
    shown = [
      Case(
        "left out: " + (self.read(i if i in self.decided.exclude else j).name),
        [
          CaseSide(text_lines.printable(names[int(labels[k])]), [self.read(k)])
          for k in (i, j)
        ],
      )
      for i, j in pairs[: self.most]
    ]
    lead = f"{len(pairs):,} pairs of pictures of two people are one picture."
    return Findings("Copies", lead, shown)


def thumbnail_of(
  source: sources.Source, kept: np.ndarray
) -> Callable[[int], results.Thumbnail]:
  """Makes thumbnails by the place among the images that could be read."""
  read = thumbnails.face(source)
  return lambda row: read(int(kept[row]))
