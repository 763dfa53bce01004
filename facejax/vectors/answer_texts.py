"""What a search found, told to people: lines, a sum, a table."""

import dataclasses
import os
from typing import Any

import numpy as np

from facejax.runtime import csv_files, progress
from facejax.vectors import embeddings, nearest, verdicts
from facejax.vectors import gallery as gallery_lib


@dataclasses.dataclass(frozen=True, eq=False)
class Told:
  """The answers to some queries.

  Attributes:
    gallery: that was asked.
    asked: the queries.
    found: the nearest faces of each.
    answers: who it is.
    threshold: that was asked for; None where none is known.
    top: how many of the nearest are shown.
  """

  gallery: gallery_lib.Gallery
  asked: embeddings.Embeddings
  found: nearest.Neighbours
  answers: gallery_lib.Answers
  threshold: float | None
  top: int

  def line(self, row: int) -> str:
    """One query."""
    who = self._who(row)
    if self.threshold is not None and self.answers.rows[row] >= 0:
      who += f" ({self.answers.scores[row]:.3f})"
    return f"{self.asked.paths[row]}: {who}; nearest: " + ", ".join(
      f"{name} {score:.3f}" for name, score in self._nearest(row)
    )

  def summary(self, seconds: float) -> str:
    """All queries, and how long they took."""
    asked, named = len(self.asked), int((self.answers.rows >= 0).sum())
    if self.threshold is None:
      outcome = (
        f"{verdicts.UNDECIDED}, no threshold is known ({verdicts.ADVICE})"
      )
      done = "are most like their own person"
    else:
      outcome = (
        f"{named:,} named, {asked - named:,} {verdicts.UNKNOWN} at threshold"
        f" {self.threshold:.3f}"
      )
      done = "named right"
    text = (
      f"{asked:,} queries: {outcome}, among {self.gallery.faces:,} faces in"
      f" {progress.duration(seconds)}"
    )
    right, known = correct(self.gallery, self.asked, self.answers)
    if known:
      text += (
        f"; of {known:,} whose person is in the gallery, {right:,} {done}"
        f" ({right / known:.2%})"
      )
    return text

  def write_table(self, path: str | os.PathLike[str]) -> None:
    """A row a query, whole or not at all."""
    columns = range(1, self.top + 1)
    near = [f"{word}_{k}" for k in columns for word in ("name", "score")]
    header = ["query", "answer", "similarity", "votes", *near]
    csv_files.write(path, header, map(self._cells, range(len(self.asked))))

  def _cells(self, row: int) -> list[Any]:
    score = f"{self.answers.scores[row]:.6f}"
    query, votes = self.asked.paths[row], self.answers.votes[row]
    cells = [query, self._who(row), score, votes]
    for other, cosine in self._nearest(row):
      cells += [other, f"{cosine:.6f}"]
    return cells

  def _who(self, row: int) -> str:
    name = self.gallery.name(int(self.answers.rows[row]))
    return verdicts.answer(name, self.threshold)

  def _nearest(self, row: int) -> list[tuple[str | None, float]]:
    near = (part[row, : self.top] for part in self.found)
    pairs = zip(*near, strict=True)
    return [(self.gallery.name(int(k)), float(s)) for s, k in pairs if k >= 0]


def correct(
  gallery: gallery_lib.Gallery,
  asked: embeddings.Embeddings,
  answers: gallery_lib.Answers,
) -> tuple[int, int]:
  """How many queries were given their own person, of those who are known."""
  number = {name: k for k, name in enumerate(gallery.known.names)}
  ids = np.asarray([*(number.get(n, -1) for n in asked.names), -1])
  truth = ids[asked.labels]
  there = np.isin(truth, gallery.known.labels) & (truth >= 0)
  said = np.where(answers.rows >= 0, gallery.known.labels[answers.rows], -1)
  return int((there & (said == truth)).sum()), int(there.sum())
