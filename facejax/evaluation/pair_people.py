"""Who is on the images of pairs, where that is known.

Intervals need it: pairs that share a person are not independent. Sets of images
by person say it, and lists whose files are called by people; packs do not.
"""

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from facejax.data.pairs import pairs as pair_sets
from facejax.data.pairs import templates
from facejax.metrics import people_intervals
from facejax.runtime import text_lines

# AgeDB's files: number, name, age, sex.
_AGEDB = re.compile(r"\d+_(.+)_\d+_[a-z]")


def known(pairs: pair_sets.PairSet) -> people_intervals.Compared | None:
  """Whom each pair compares; None if it cannot be told.

  Labels of the images are taken, or else the names of their files, if by them
  every genuine pair shows one person and every other pair two.
  """
  found = _sides(pairs)
  return None if found is None else people_intervals.compared(*found)


def named(pairs: pair_sets.PairSet) -> tuple[np.ndarray, np.ndarray] | None:
  """The names of whom each pair compares, [pairs] each; None likewise."""
  found = _sides(pairs)
  if found is None or found[0].dtype.kind == "U":
    return found
  names = np.asarray(list(pairs.source.class_names))
  return names[found[0]], names[found[1]]


def _sides(pairs: pair_sets.PairSet) -> tuple[np.ndarray, np.ndarray] | None:
  """The same, as labels if these tell, or as names."""
  chosen, place = np.unique(
    np.concatenate([pairs.first, pairs.second]), return_inverse=True
  )
  labels = np.asarray(pairs.source.labels)[chosen]
  for names in (labels, np.asarray(people_of(pairs.source, chosen))):
    first, second = np.split(names[place], 2)
    if np.array_equal(first == second, pairs.same):
      return first, second
  return None


def of_templates(
  enrolled: Sequence[templates.Enrolled], pairs: templates.TemplatePairs
) -> people_intervals.Compared | None:
  """Whom pairs of templates show, where lists tell it of all of them.

  Args:
    enrolled: the lists of galleries and of probes.
    pairs: templates to verify.
  """
  if not enrolled:
    return None
  template, place = np.unique(
    np.concatenate([one.template for one in enrolled]), return_index=True
  )
  subject = np.concatenate([one.subject for one in enrolled])[place]
  sides = pairs.first, pairs.second
  if not np.isin(np.concatenate(sides), template).all():
    return None
  first, second = (subject[np.searchsorted(template, side)] for side in sides)
  if not np.array_equal(first == second, pairs.same):
    return None
  return people_intervals.compared(first, second)


def people_of(source: Any, indices: np.ndarray) -> list[str]:
  """The name of the person on each image of a source.

  The first folder on the way to it (`NAME/NAME_0001.jpg`, CFP's
  `001/frontal/01.jpg`); where there is none, the file up to the last `_`, or
  the name in AgeDB's `7_NAME_35_f.jpg`.
  """
  names = [source.name(int(index)).removeprefix("./") for index in indices]
  return [
    text_lines.printable(
      name.partition("/")[0]
      if "/" in name
      else _of_file(os.path.splitext(name)[0]) or name
    )
    for name in names
  ]


def _of_file(stem: str) -> str:
  found = _AGEDB.fullmatch(stem)
  return found[1] if found else stem.rpartition("_")[0]
