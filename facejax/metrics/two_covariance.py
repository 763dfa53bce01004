"""How embeddings of a set vary within a person and between people.

The model of Ioffe (2006) and of Prince and Elder (2007), with two covariances:
an image is x = y + e, with y ~ N(mean, between) once a person and
e ~ N(0, within) once an image. In the space where `within` is the identity and
`between` diagonal, two sets of images of n and m images with means a and b, one
person's or two people's, are told apart by sums over dimensions.

References:
  Ioffe, Probabilistic linear discriminant analysis, 2006.
  Prince and Elder, Probabilistic linear discriminant analysis for inferences
  about identity, 2007.
  Garcia-Romero and Espy-Wilson, Analysis of i-vector length normalization in
  speaker recognition systems, 2011: scaling to length 1 before it.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

_SHRINK = 0.05
_LEAST = 1e-3


class PersonMoments(NamedTuple):
  """Sums over images, which add up over blocks.

  Attributes:
    counts: float64 [people], images of each, by their weights.
    sums: float64 [people, dim].
    products: float64 [dim, dim], of all images.
  """

  counts: np.ndarray
  sums: np.ndarray
  products: np.ndarray


def moments(
  vectors: np.ndarray, labels: np.ndarray, weights: np.ndarray, people: int
) -> PersonMoments:
  """The sums of a block.

  Args:
    vectors: [images, dim].
    labels: the person of each, int [images], below `people`.
    weights: of each image, 0 and more, [images].
    people: how many there are.
  """
  vectors = np.asarray(vectors, np.float64)
  rows = np.arange(len(labels))
  member = sparse.csr_array(
    (np.asarray(weights, np.float64), (labels, rows)),
    shape=(people, len(labels)),
  )
  return PersonMoments(
    np.bincount(labels, weights=weights, minlength=people),
    np.asarray(member @ vectors),
    (vectors * weights[:, None]).T @ vectors,
  )


class TwoCovariance(NamedTuple):
  """The space of the model.

  Attributes:
    mean: [dim], of all images.
    matrix: [dim, dim]; (x - mean) @ matrix lies in the space.
    between: [dim], variance of people, the largest first.
    within: [dim], variance of the images of a person, about 1.
  """

  mean: np.ndarray
  matrix: np.ndarray
  between: np.ndarray
  within: np.ndarray

  def unit(self, vectors: np.ndarray) -> np.ndarray:
    """Vectors in the space at length 1, float64 [n, dim]."""
    found = (np.asarray(vectors, np.float64) - self.mean) @ self.matrix
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.maximum(length, 1e-12)


def fit(found: PersonMoments) -> TwoCovariance:
  """The model of some images.

  `within` is shrunk towards a multiple of the identity, by 5 % or, of few
  images, by more.

  Args:
    found: their sums.
  """
  counts, sums, products = found
  total = max(counts.sum(), 1e-9)
  mean = sums.sum(axis=0) / total
  there = counts > 1e-3
  n, centres = counts[there], sums[there] / counts[there, None]
  freedom = max(total - len(n), 1e-9)
  scatter = products - (centres * n[:, None]).T @ centres
  dim = len(mean)
  shrink = max(_SHRINK, dim / (dim + freedom))
  level = max(np.trace(scatter) / freedom / dim, 1e-12)
  within = (1 - shrink) * scatter / freedom + shrink * level * np.eye(dim)
  values, axes = np.linalg.eigh(within)
  white = axes / np.sqrt(np.maximum(values, 1e-12 * level))
  often = n > 1.5
  if not often.any():
    often = np.ones_like(n, bool)
  spread = (centres[often] - mean) @ white
  noise = white.T @ (scatter / freedom) @ white
  between = spread.T @ spread / often.sum() - noise * np.mean(1 / n[often])
  values, axes = np.linalg.eigh(between)
  axes = axes[:, ::-1]
  own = np.einsum("ij,jk,ki->i", axes.T, noise, axes)
  return TwoCovariance(
    mean,
    white @ axes,
    np.maximum(values[::-1], 0),
    np.maximum(own, _LEAST),
  )


def log_likelihood_ratio(
  model: TwoCovariance,
  first: tuple[np.ndarray, np.ndarray],
  second: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
  """How much likelier two sets of images are one person's than two people's.

  With v = between + within / n and w = between + within / m, natural logarithms,
  summed over dimensions:
  log(v w / (v w - between^2)) / 2 + a^2 / 2v + b^2 / 2w
  - (w a^2 - 2 between a b + v b^2) / 2 (v w - between^2).

  Args:
    model: of images in its space.
    first: means [pairs, dim], in the space, and images [pairs].
    second: likewise.

  Returns:
    float64 [pairs].
  """
  (a, n), (b, m) = first, second
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  v = model.between + model.within / np.asarray(n, np.float64)[:, None]
  w = model.between + model.within / np.asarray(m, np.float64)[:, None]
  left = v * w - model.between**2
  joint = (w * a * a - 2 * model.between * a * b + v * b * b) / left
  return 0.5 * np.sum(
    np.log(v * w / left) + a * a / v + b * b / w - joint, axis=1
  )
