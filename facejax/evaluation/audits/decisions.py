"""From findings to lists: whom to merge, what to relabel, what to leave out."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from facejax.evaluation.audits import duplicates, embedded_set, judge
from facejax.runtime import csv_files, json_files, whole_files

EXCLUDE, MERGE, RELABEL = "exclude.txt", "merge.csv", "relabel.csv"
SUMMARY = "audit.json"


@dataclasses.dataclass(frozen=True)
class Decisions:
  """What is to be done with a set.

  Attributes:
    merge: person, and who they are in truth, with the score.
    relabel: image, and whom it shows in truth, with the margin.
    exclude: images to leave out, and why.
    copies: pairs of images of different people that are one picture.
  """

  merge: list[tuple[int, int, float]]
  relabel: list[tuple[int, int, float]]
  exclude: dict[int, str]
  copies: list[tuple[int, int]]


def decided(
  images: embedded_set.EmbeddedSet,
  found: judge.Judgement,
  same: duplicates.Duplicates,
  *,
  second_people: bool = False,
) -> Decisions:
  """Decides; each image is left out or relabelled at most once.

  Args:
    images: the set as it is.
    found: about its labels.
    same: pairs of pictures that are one.
    second_people: whether the smaller cluster of two people's names is left out;
      a weak net finds such names where there are none.
  """
  groups = found.groups[images.labels]
  copies = [
    (int(i), int(j))
    for i, j in zip(same.first, same.second, strict=True)
    if groups[i] != groups[j]
  ]
  exclude: dict[int, str] = {}
  margin = found.margins.margin
  for i, j in copies:
    # Who fits their name less is the one who strayed.
    worse = i if (margin[i], i) > (margin[j], j) else j
    exclude[worse] = "copy"
  heads = _heads(images, found.groups)
  relabel = []
  lead = found.margins.other - np.fmax(found.margins.second, found.margins.own)
  for k in np.flatnonzero(found.suspects).tolist():
    if k in exclude:
      continue
    if lead[k] >= found.lead:
      who = int(heads[found.groups[found.margins.who[k]]])
      relabel.append((k, who, float(margin[k])))
    else:
      exclude[k] = "wrong label"
  for k in np.flatnonzero(found.outliers).tolist():
    exclude.setdefault(k, "nobody")
  for cut in found.two() if second_people else ():
    for k in cut.others.tolist():
      exclude.setdefault(k, "second person")
  relabel.sort(key=lambda row: -row[2])
  kept = [row for row in relabel if row[0] not in exclude]
  return Decisions(_merges(found, heads), kept, exclude, copies)


def _heads(images: embedded_set.EmbeddedSet, groups: np.ndarray) -> np.ndarray:
  """The name with the most images of each group, int [people]."""
  counts = np.bincount(images.labels, minlength=images.people)
  heads = np.arange(images.people)
  # The last written is the largest; of equal ones the first name.
  order = np.lexsort((-heads, counts))
  heads[groups[order]] = order
  return heads


def _merges(
  found: judge.Judgement, heads: np.ndarray
) -> list[tuple[int, int, float]]:
  scores = {}
  for a, b, score in zip(*found.pairs, strict=True):
    scores[int(a)] = scores[int(b)] = float(score)
  rows = []
  for person, group in enumerate(found.groups.tolist()):
    if heads[group] != person:
      into = int(heads[group])
      score = scores.get(person, scores.get(into, np.nan))
      rows.append((person, into, score))
  return rows


def write(
  folder: pathlib.Path,
  decisions: Decisions,
  *,
  people: Sequence[str],
  image: Callable[[int], str],
  summary: dict[str, Any],
  tested: Sequence[str] = (),
) -> None:
  """Writes the lists and the summary, each whole or not at all.

  Args:
    folder: there already.
    decisions: what is to be done.
    people: names by number.
    image: the name of an image, PERSON/IMAGE.
    summary: what else audit.json says.
    tested: people to leave out, for they are in a test set.
  """
  merge = [(people[a], people[b], _text(s)) for a, b, s in decisions.merge]
  relabel = [(image(k), people[p], _text(m)) for k, p, m in decisions.relabel]
  reasons = list(decisions.exclude.values())
  csv_files.write(folder / MERGE, ("person", "into", "score"), merge)
  csv_files.write(folder / RELABEL, ("image", "person", "margin"), relabel)
  lines = [f"{person}\ttested\n" for person in tested]
  lines += [
    f"{image(k)}\t{why}\n" for k, why in sorted(decisions.exclude.items())
  ]
  if lines:
    whole_files.write(folder / EXCLUDE, "".join(lines))
  else:
    # An empty list is none; one of before would be wrong.
    (folder / EXCLUDE).unlink(missing_ok=True)
  counts = {why: reasons.count(why) for why in sorted(set(reasons))}
  json_files.write(
    folder / SUMMARY,
    {
      **summary,
      "decided": {
        "merged": len(merge),
        "relabelled": len(relabel),
        "left_out": counts,
        "copies": len(decisions.copies),
      },
    },
  )


def _text(score: float) -> str:
  return f"{score:.4f}" if np.isfinite(score) else ""
