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
_MAD = 1.4826


def told(
  run: str | os.PathLike[str],
  names: list[str],
  *,
  mesh: jax.sharding.Mesh,
  most: int,
) -> dict[str, Any]:
  """The nearest pairs of prototypes of people of a set, as JSON has them.

  Args:
    run: its folder.
    names: of the people of the set.
    mesh: the devices.
    most: pairs that are listed.

  Returns:
    `known`, how many names the head has, and, of two or more, `threshold` and
    `pairs`, [person, person, cosine] each.
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
  if rows.ndim == 3:
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
  }


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
