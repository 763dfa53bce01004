"""Diagnostics of features: how tight people are, and how far apart.

Small features of many images are cheap here; what compares all images with all
others works in blocks, so memory stays bounded while time grows with the square
of the number of images.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facejax.metrics import checks

_CELLS = 1 << 24  # cosines that are held at once


class AngularFisher(NamedTuple):
  """Scatter within and between people, in cosine."""

  within: float  # S_w
  between: float  # S_b
  score: float  # S_w / S_b; lower is better


class Angles(NamedTuple):
  """The columns of ArcFace's Table 3, in degrees; nan without prototypes."""

  intra: float
  inter: float
  prototype_to_centre: float  # W-EC
  prototype_inter: float  # W-Inter


class OpenSetCosines(NamedTuple):
  """The worst angles of a set, in degrees, and the images that have them."""

  largest_intra: float
  smallest_inter: float
  intra_pair: tuple[int, int]
  inter_pair: tuple[int, int]

  @property
  def margin(self) -> float:
    """smallest_inter - largest_intra; above 0 the criterion holds."""
    return self.smallest_inter - self.largest_intra


def angular_fisher_score(
  features: npt.ArrayLike, people: npt.ArrayLike
) -> AngularFisher:
  """Angular Fisher score, SphereFace's measure of separation.

      S_w = Σ_i Σ_{x of i} (1 - cos(x, m_i)),   S_b = Σ_i n_i (1 - cos(m_i, m))

  with the mean m_i of the features of person i and the mean m of all features,
  neither normalised. Where people surround the origin m is nearly zero and the
  score unsteady.

  Args:
    features: not normalised, [images, dim].
    people: the person of each, [images].

  Raises:
    ValueError: if shapes do not fit, a value is not finite, there is one person
      only, or a feature or a mean is zero.

  References:
    Liu et al., *SphereFace: Deep Hypersphere Embedding for Face Recognition*,
    2017, appendix.

  >>> x = [[1, 0.1], [1, -0.1], [0.1, 1], [-0.1, 1]]
  >>> round(angular_fisher_score(x, [0, 0, 1, 1]).score, 4)
  0.0169
  """
  x = checks.vectors(features, "features").astype(np.float64, copy=False)
  person, names = _people(people, len(x))
  means = _means(x, person)
  sizes = np.bincount(person)
  u, centres = checks.units(x, "features"), checks.units(means, "class means")
  mean = checks.units(x.mean(axis=0, keepdims=True), "the mean feature")[0]
  within = (1 - np.einsum("nd,nd->n", u, centres[person])).sum()
  between = (sizes * (1 - centres @ mean)).sum()
  if len(names) < 2 or not between > 0:
    raise ValueError(
      f"the means of {len(names)} people have one direction; there is nothing "
      "between them"
    )
  return AngularFisher(float(within), float(between), float(within / between))


def class_angles(
  features: npt.ArrayLike,
  people: npt.ArrayLike,
  *,
  prototypes: npt.ArrayLike | None = None,
) -> Angles:
  """Angles within and between people, as in ArcFace's Table 3.

  With the centre c_i, the mean of the features of person i at length 1,

      intra    mean over images x of angle(x, centre of its person)
      inter    mean over people of the smallest angle(c_i, c_j), j ≠ i
      W-EC     mean over people of angle(W_i, c_i)
      W-Inter  mean over prototypes of the smallest angle(W_i, W_j), j ≠ i

  Args:
    features: of any length, [images, dim].
    people: the person of each, [images]; with prototypes, the row of each.
    prototypes: [classes, dim], of any length.

  Raises:
    ValueError: if shapes do not fit, a vector is zero or not finite, there is
      one person only, or a person has no prototype.

  References:
    Deng et al., *ArcFace: Additive Angular Margin Loss for Deep Face
    Recognition*, 2019.

  >>> x = [[1, 0], [1, 1], [-1, 1], [-1, 0]]
  >>> angles = class_angles(x, [0, 0, 1, 1])
  >>> round(angles.intra, 1), round(angles.inter, 1)
  (22.5, 135.0)
  """
  u = checks.units(features, "features")
  person, names = _people(people, len(u))
  if len(names) < 2:
    raise ValueError("there is one person only; angles between need two")
  centres = checks.units(_means(u, person), "centres")
  to_centre = between = float("nan")
  if prototypes is not None:
    w = checks.units(prototypes, "prototypes")
    rows = names.astype(np.int64)
    if rows.min() < 0 or rows.max() >= len(w) or w.shape[1] != u.shape[1]:
      raise ValueError(
        f"prototypes have shape {w.shape}; people {rows.min()} … {rows.max()} "
        f"with {u.shape[1]} dimensions need a row each"
      )
    to_centre = float(_angles(w[rows], centres).mean())
    between = float(_angles(w, w[_nearest(w)]).mean())
  return Angles(
    intra=float(_angles(u, centres[person]).mean()),
    inter=float(_angles(centres, centres[_nearest(centres)]).mean()),
    prototype_to_centre=to_centre,
    prototype_inter=between,
  )


def open_set_criterion(
  features: npt.ArrayLike, people: npt.ArrayLike
) -> OpenSetCosines:
  """The largest angle within a person and the smallest between two.

  SphereFace's criterion for open sets is that the first be below the second:
  one threshold then decides every pair. Compares all pairs, in blocks.

  Args:
    features: of any length, [images, dim].
    people: the person of each, [images].

  Raises:
    ValueError: if shapes do not fit, a vector is zero or not finite, nobody has
      two images, or there is one person only.

  References:
    Liu et al., *SphereFace: Deep Hypersphere Embedding for Face Recognition*,
    2017, section 3.

  >>> worst = open_set_criterion([[1, 0], [1, 1], [0, 1]], [4, 4, 5])
  >>> worst.inter_pair, round(worst.margin, 6) == 0
  ((1, 2), True)
  """
  u = checks.units(features, "features")
  person, names = _people(people, len(u))
  if len(names) < 2 or len(names) == len(u):
    raise ValueError(
      f"{len(u)} images of {len(names)} people; the criterion needs two people "
      "and two images of one"
    )
  rows = max(1, _CELLS // len(u))
  lowest, highest = (np.inf, (0, 0)), (-np.inf, (0, 0))
  for start in range(0, len(u), rows):
    cosines = u[start : start + rows] @ u[start:].T
    same = person[start : start + rows, None] == person[start:]
    later = np.tri(*cosines.shape, dtype=bool)
    np.logical_not(later, out=later)  # each pair once, nobody with themselves
    within = np.where(same & later, cosines, np.inf)
    between = np.where(~same & later, cosines, -np.inf)
    lowest = min(lowest, _where(within, within.argmin(), start))
    highest = max(highest, _where(between, between.argmax(), start))
  pairs = np.array([lowest[1], highest[1]])
  intra, inter = _angles(u[pairs[:, 0]], u[pairs[:, 1]]).tolist()
  return OpenSetCosines(intra, inter, lowest[1], highest[1])


def _where(
  values: np.ndarray, flat: np.intp, start: int
) -> tuple[float, tuple[int, int]]:
  row, column = np.unravel_index(flat, values.shape)
  return float(values[row, column]), (start + int(row), start + int(column))


def _people(
  people: npt.ArrayLike, images: int
) -> tuple[np.ndarray, np.ndarray]:
  labels = checks.labels(people, images, "people")
  names, person = np.unique(labels, return_inverse=True)
  return person, names


def _means(x: np.ndarray, person: np.ndarray) -> np.ndarray:
  order = np.argsort(person, kind="stable")
  sizes = np.bincount(person)
  starts = np.r_[0, np.cumsum(sizes)[:-1]]
  return np.add.reduceat(x[order], starts) / sizes[:, None].astype(x.dtype)


def _angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Angles of unit vectors in degrees; the arccosine is blunt near 0."""
  apart, along = np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1)
  return np.degrees(2 * np.arctan2(apart, along))


def _nearest(u: np.ndarray) -> np.ndarray:
  """The other row with the largest cosine, of each row."""
  nearest, rows = np.empty(len(u), int), max(1, _CELLS // len(u))
  for start in range(0, len(u), rows):
    cosines = u[start : start + rows] @ u.T
    here = np.arange(len(cosines))
    cosines[here, start + here] = -np.inf
    nearest[start : start + rows] = cosines.argmax(axis=1)
  return nearest
