"""What the head of a run says of the names of a set.

Prototypes are pushed apart in training, also those of one person under two names;
where two still lie far nearer than others do, both names are worth a look. They
decide nothing: centres do.
"""

import os
from typing import Any

import jax
import numpy as np

from facejax.evaluation.audits import embedded_set
from facejax.runs import classes
from facejax.vectors import nearest

# Robust deviations above the median of the nearest.
_FAR = 6.0
# Images that make a second sub-centre worth a look.
_FEWEST = 2
_MAD = 1.4826


def told(
  run: str | os.PathLike[str],
  names: list[str],
  images: embedded_set.EmbeddedSet,
  *,
  mesh: jax.sharding.Mesh,
  most: int,
) -> dict[str, Any]:
  """The nearest pairs of prototypes of people of a set, as JSON has them.

  Args:
    run: its folder.
    names: of the people of the set.
    images: the set.
    mesh: the devices.
    most: pairs that are listed.

  Returns:
    `known`, how many names the head has, and, of two or more, `threshold` and
    `pairs`, [person, person, cosine] each. Of a head with sub-centres also
    `second_subcentres`: [person, images nearest to the second, cosine to the
    first], those with most images first.
  """
  known = classes.read(run)
  matched = classes.matched(known or [], names)
  there = np.flatnonzero(matched >= 0)
  form = classes.prototypes_of(run, mesh=mesh) if len(there) > 1 else None
  if form is None:
    return {"known": len(there)}
  found = classes.read_prototypes(run, step=form[0], mesh=mesh)
  if found is None or not np.issubdtype(found.dtype, np.floating):
    return {"known": len(there)}
  rows = np.asarray(found)[matched[there]].astype(np.float32)
  more = {}
  if rows.ndim == 3:
    second = second_subcentres(rows, there, images)[:most]
    more["second_subcentres"] = [
      [names[p], n, round(c, 4)] for p, n, c in second
    ]
    # Of sub-centres the nearest pair of any counts: each is a row.
    there, rows = (
      np.repeat(there, rows.shape[1]),
      rows.reshape(-1, rows.shape[2]),
    )
  first, second, cosines = pairs(embedded_set.units(rows), there, mesh=mesh)
  threshold = outlying(cosines)
  use = cosines >= threshold
  return {
    "known": len(np.unique(there)),
    "threshold": threshold,
    "pairs": [
      [names[a], names[b], round(float(c), 4)]
      for a, b, c in zip(first[use], second[use], cosines[use], strict=True)
    ][:most],
    **more,
  }


def second_subcentres(
  rows: np.ndarray, people: np.ndarray, images: embedded_set.EmbeddedSet
) -> list[tuple[int, int, float]]:
  """People of whom two images or more are nearest to a second sub-centre.

  Args:
    rows: float32 [people, k, dim], the sub-centres of some people.
    people: which, int [people], in order.
    images: the set.

  Returns:
    The person, how many images, and the cosine of both sub-centres; those with
    most images first.
  """
  units = embedded_set.units(rows.reshape(-1, rows.shape[2])).reshape(
    rows.shape
  )
  place = np.full(images.people, -1)
  place[people] = np.arange(len(people))
  counts = np.zeros(rows.shape[:2], int)
  for block in images.blocks():
    mine = place[images.labels[block]]
    use = mine >= 0
    vectors = images.vectors[block][use]
    cosines = np.einsum("nkd,nd->nk", units[mine[use]], vectors)
    np.add.at(counts, (mine[use], cosines.argmax(axis=1)), 1)
  order = np.argsort(-counts, axis=1, kind="stable")
  found = []
  for k in range(len(people)):
    first, second = order[k, :2] if rows.shape[1] > 1 else (0, 0)
    if first != second and counts[k, second] >= _FEWEST:
      cosine = float(units[k, first] @ units[k, second])
      found.append((int(people[k]), int(counts[k, second]), cosine))
  return sorted(found, key=lambda row: (-row[1], row[0]))


def pairs(
  units: np.ndarray, people: np.ndarray, *, mesh: jax.sharding.Mesh | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Each person's nearest other, every pair once, the nearest pair first.

  Args:
    units: float32 [rows, dim], of length 1.
    people: the person of each, int [rows].
    mesh: the devices.

  Returns:
    int [pairs] twice, and cosines.
  """
  own = np.bincount(people).max()
  search = nearest.Nearest(units, mesh=mesh)
  found = search(units, int(min(own + 1, len(units))))
  other = people[found.rows] != people[:, None]
  place = other.argmax(axis=1)
  every = np.flatnonzero(other.any(axis=1))
  who = people[found.rows[every, place[every]]]
  cosines = found.scores[every, place[every]]
  order = np.argsort(-cosines, kind="stable")
  both = np.sort(np.stack([people[every], who], axis=1), axis=1)[order]
  _, once = np.unique(both, axis=0, return_index=True)
  once = np.sort(once)
  return both[once, 0], both[once, 1], cosines[order][once]


def outlying(cosines: np.ndarray) -> float:
  """The median plus six robust deviations of the nearest cosines."""
  if not len(cosines):
    return 1.0
  middle = np.median(cosines)
  spread = _MAD * np.median(np.abs(cosines - middle))
  return float(middle + _FAR * spread)
