"""What a test set shares with a training set, as lists.

`NAME_people.csv` has everybody tested with the nearest person of the training
set, `NAME_images.csv` the near copies, `NAME_seen.txt` the tested people that
were found, for `--seen` of `facejax.evaluate`, and `NAME_exclude.txt` the people
of the training set, for `--data.exclude` of `facejax.train`.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from facejax.data import encoded
from facejax.evaluation import overlap_by_face
from facejax.runs import results
from facejax.runtime import csv_files, text_lines, whole_files

_PEOPLE = (
  "tested", "trained", "cosine", "deviations", "common_images", "shared",
)  # fmt: skip
_IMAGES = "tested", "trained", "cosine", "differing_bits"


class Shared(NamedTuple):
  """Which of the tested people are in the training set.

  Attributes:
    near: what is near to what.
    copies: near copies, see `overlap_by_face.copies`.
    by_face: whether the centres of each tested person and of the nearest one
      are one person's, bool [tested people].
    images: of each tested person with a person of the training set, how many
      near copies they share: (tested, trained) -> count.
  """

  near: overlap_by_face.Nearby
  copies: Sequence[tuple[int, int, float, int]]
  by_face: np.ndarray
  images: dict[tuple[int, int], int]

  def people(self) -> list[tuple[int, int]]:
    """Tested people with their person of the training set, by either way."""
    nearest = enumerate(self.near.people.tolist())
    by_face = {pair for pair in nearest if self.by_face[pair[0]]}
    return sorted(by_face | set(self.images))


def write(
  place: pathlib.Path,
  name: str,
  found: Shared,
  sets: Sequence[encoded.EncodedImages],
) -> None:
  """Writes the four files, each whole.

  Args:
    place: the folder.
    name: of the result.
    found: what was found.
    sets: the test set and the training set.
  """
  stem = results.stem(name)
  names = [
    [text_lines.printable(str(one)) for one in files.class_names]
    for files in sets
  ]
  place.mkdir(parents=True, exist_ok=True)
  csv_files.write(
    place / f"{stem}_people.csv", _PEOPLE, _people_rows(found, names)
  )
  csv_files.write(
    place / f"{stem}_images.csv",
    _IMAGES,
    [
      (sets[0].name(mine), sets[1].name(theirs), f"{score:.4f}", bits)
      for mine, theirs, score, bits in found.copies
    ],
  )
  for kind, side in (("seen", 0), ("exclude", 1)):
    lines = sorted({names[side][pair[side]] for pair in found.people()})
    head = f"# {name}: people of the two sets that are the same, by face\n"
    text = head + "".join(f"{line}\n" for line in lines)
    whole_files.write(place / f"{stem}_{kind}.txt", text)


def _people_rows(found: Shared, names: Sequence[Sequence[str]]) -> list[tuple]:
  """A row for everybody tested; those that are worth a look come first."""
  rows = []
  near, people = found.near, found.people()
  for mine in np.argsort(-near.deviations[:, 0], kind="stable").tolist():
    nearest = int(near.people[mine])
    others = [theirs for one, theirs in people if one == mine]
    for other in dict.fromkeys([nearest, *others]):
      told = ("", "")
      if other == nearest:
        numbers = near.cosines[mine, 0], near.deviations[mine, 0]
        told = tuple(f"{number:.4f}" for number in numbers)
      common = found.images.get((mine, other), 0)
      shared = "yes" if other in others else "no"
      rows.append((names[0][mine], names[1][other], *told, common, shared))
  return rows
