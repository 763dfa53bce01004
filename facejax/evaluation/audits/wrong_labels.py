"""Images that lie nearer to another person than to their own.

Each image is compared with the centre of its person without itself and with the
centres of all others. The space in which they are compared is fitted to one half
of the images for the other half: what it knows of an image's label would
flatter the label.
"""

from typing import NamedTuple

import numpy as np

from facejax.evaluation.audits import embedded_set
from facejax.metrics import fault_thresholds
from facejax.vectors import nearest

_QUERIES = 65_536


class Margins(NamedTuple):
  """How images lie to their own and to other people.

  Attributes:
    own: float32 [images], cosine to the centre of their person without them;
      nan where there is nobody else.
    other: float32 [images], cosine to the nearest other person.
    who: int32 [images], that person.
    second: float32 [images], cosine to the next one.
    stranger: float32 [images], cosine to a person drawn at random; nan where
      that is their own.
    made: float32 [images], what `margin` were if they bore the stranger's name;
      nan likewise.
  """

  own: np.ndarray
  other: np.ndarray
  who: np.ndarray
  second: np.ndarray
  stranger: np.ndarray
  made: np.ndarray

  @property
  def margin(self) -> np.ndarray:
    """By how much others are nearer; -inf where the own are not known."""
    return np.nan_to_num(self.other - self.own, nan=-np.inf)


def margins(
  images: embedded_set.EmbeddedSet, weights: np.ndarray, *, seed: int
) -> Margins:
  """Compares all images with all people.

  Args:
    images: the set; at least two people.
    weights: how much each image says of its person, in [LEAST, 1].
    seed: of the halves and of the strangers.
  """
  rng = np.random.default_rng(seed)
  count = len(images)
  fold = rng.permutation(count) % 2
  drawn = rng.random(count)
  columns = [np.full(count, np.nan, np.float32) for _ in Margins._fields]
  found = Margins(*columns)._replace(who=np.full(count, -1, np.int32))
  for half in (0, 1):
    space = images.space(np.where(fold == half, 1e-9, weights))
    sums = images.moments(space, weights).sums
    sizes = np.bincount(images.labels, minlength=images.people)
    there = np.flatnonzero(sizes)
    centres = embedded_set.units(sums[there])
    search = nearest.Nearest(centres, mesh=images.mesh)
    mine = np.flatnonzero(fold == half)
    for start in range(0, len(mine), _QUERIES):
      rows = mine[start : start + _QUERIES]
      here = space.unit(images.vectors[rows])
      labels = images.labels[rows]
      rest = sums[labels] - weights[rows, None] * here
      own = np.where(sizes[labels] > 1, _cosines(rest, here), np.nan)
      hits = search(here.astype(np.float32), min(3, len(there)))
      part = _compared(there[hits.rows], hits.scores, labels, own)
      chosen = (drawn[rows] * len(there)).astype(int)
      far = np.sum(centres[chosen] * here, axis=1)
      part = _strange(part, there[chosen], far, labels)
      for column, values in zip(found, part, strict=True):
        column[rows] = values
  return found


def _cosines(rest: np.ndarray, here: np.ndarray) -> np.ndarray:
  """Cosine of each image with the others of its person."""
  length = np.maximum(np.linalg.norm(rest, axis=1), 1e-30)
  return (np.sum(rest * here, axis=1) / length).astype(np.float32)


def _compared(
  who: np.ndarray, cosine: np.ndarray, labels: np.ndarray, own: np.ndarray
) -> Margins:
  """The two nearest others of each image, of the three nearest people."""
  # Those of others first, in their order: of three they are two or more.
  order = np.argsort(who == labels[:, None], axis=1, kind="stable")
  who = np.take_along_axis(who, order, axis=1)
  cosine = np.take_along_axis(cosine, order, axis=1)
  none = own * np.nan
  second = cosine[:, 1] if cosine.shape[1] > 2 else none
  return Margins(own, cosine[:, 0], who[:, 0], second, none, none)


def _strange(
  part: Margins, who: np.ndarray, cosine: np.ndarray, labels: np.ndarray
) -> Margins:
  """With what each image would look like under a name that is not its own."""
  best = np.where(part.who == who, part.second, part.other)
  made = np.fmax(best, part.own) - cosine
  same = who == labels
  return part._replace(
    stranger=np.where(same, np.nan, cosine), made=np.where(same, np.nan, made)
  )


def suspected(
  found: Margins, *, precision: float, given: float | None
) -> fault_thresholds.FaultThreshold:
  """From which margin on a label is taken for wrong."""
  known = np.isfinite(found.own)
  made = found.made[known & np.isfinite(found.made)]
  return fault_thresholds.choose(
    found.margin[known], made, precision=precision, given=given
  )


def lead_for_names(
  found: Margins, suspects: np.ndarray, *, precision: float
) -> float:
  """From which lead on the nearest person is the right one.

  Of images that are not suspected the label is known, and the lead of the
  nearest person over the next is either their own's or a wrong one's.

  Args:
    found: of all images.
    suspects: bool [images].
    precision: the share of right names that is asked for.

  Returns:
    The lowest lead; inf where none is enough.
  """
  use = ~suspects & np.isfinite(found.own)
  own, other = found.own[use], found.other[use]
  second = np.fmax(found.second[use], own)
  right = own >= other
  lead = np.where(right, own - other, other - second)
  order = np.argsort(-lead, kind="stable")
  share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
  enough = np.flatnonzero(share >= precision)
  return float(lead[order[enough[-1]]]) if len(enough) else np.inf
