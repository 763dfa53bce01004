"""Templates of IJB-B and IJB-C: many stills and video frames, one vector.

A template is a set of media of one person; a still is a medium of one image, a
video one of many frames. With f the feature of an image,

    F  f + feature of the mirror image         (flip)
    N  f as it is, or f / |f| when norms are not kept
    D  f * detector score of the image
    template = Σ over media of (mean of f over the medium), then to length 1

`pool` makes the vectors, `pair_scores` the 1:1 scores; `verification` and
`curves` take it from there, `gallery.search` does 1:N. Of IJB-C's 15.6 million
impostor pairs, FAR 1e-6 lets 15 pass.

References:
  Whitelam et al., *IARPA Janus Benchmark-B Face Dataset*, 2017. Maze et al.,
  *IARPA Janus Benchmark-C: Face Dataset and Protocol*, 2018. The switches are
  those of insightface's public evaluation code.
"""

import itertools
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from facejax.metrics import checks

FlipRule = Literal["sum", "sum_of_units", "concat", "concat_of_units"]

# The targets of the 1:1 protocol.
FAR_TARGETS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)

_IMAGES = 1 << 14
_PAIRS = 1 << 13


class Templates(NamedTuple):
  """Vectors of templates, or of videos, by rising id."""

  ids: np.ndarray  # [templates]
  features: np.ndarray  # [templates, dim]

  def rows(self, ids: npt.ArrayLike) -> np.ndarray:
    """Where templates stand, int [ids]; ValueError if one is not there."""
    ids = np.asarray(ids)
    row = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
    missing = np.flatnonzero(self.ids[row] != ids)
    if missing.size:
      raise ValueError(
        f"{missing.size} of {ids.size} ids have no images; the first is "
        f"{ids[missing[0]]}"
      )
    return row


def fuse_flip(
  original: npt.ArrayLike, mirrored: npt.ArrayLike, *, rule: FlipRule = "sum"
) -> np.ndarray:
  """One feature of an image and its mirror image; not normalised.

      "sum"              a + b          insightface, and all of this package
      "sum_of_units"     a/|a| + b/|b|
      "concat"           [a, b]         SphereFace, CosFace
      "concat_of_units"  [a/|a|, b/|b|]

  Their cosines differ: name the rule with a result.

  Args:
    original: features, [images, dim].
    mirrored: features of the mirror images, [images, dim].
    rule: how to fuse.

  Returns:
    [images, dim], or [images, 2 * dim] from the concatenations.

  Raises:
    ValueError: if the shapes differ, a value is not finite, the rule is
      unknown, or a zero vector is to be normalised.

  >>> fuse_flip([[3, 4]], [[1, 0]], rule="sum_of_units").tolist()
  [[1.6, 0.8]]
  """
  a = checks.vectors(original, "original")
  b = checks.vectors(mirrored, "mirrored")
  if a.shape != b.shape:
    raise ValueError(f"original has shape {a.shape}, mirrored {b.shape}")
  if rule not in get_args(FlipRule):
    raise ValueError(f"rule {rule!r}; use one of {get_args(FlipRule)}")
  if rule.endswith("units"):
    a, b = checks.units(a, "original"), checks.units(b, "mirrored")
  return a + b if rule.startswith("sum") else np.concatenate([a, b], axis=1)


def pool(
  features: npt.ArrayLike,
  template: npt.ArrayLike,
  media: npt.ArrayLike,
  *,
  mirrored: npt.ArrayLike | None = None,
  keep_norms: bool = True,
  detector_scores: npt.ArrayLike | None = None,
) -> Templates:
  """Pools the features of images to templates of length 1.

  Works through some ten thousand images at a time: beside its inputs it holds
  the result and little else.

  Args:
    features: as the network gives them, [images, dim].
    template: the template of each image, [images].
    media: the medium of each image within its template, [images].
    mirrored: features of the mirror images, [images, dim]: switch F.
    keep_norms: switch N; off, every image weighs the same in its medium.
    detector_scores: how sure the detector was of each face, not negative,
      [images]: switch D.

  Raises:
    ValueError: if shapes differ, a value is not finite, a score is negative, or
      the images of a template cancel.

  >>> pooled = pool([[3, 0], [1, 0], [0, 2]], [7, 7, 7], [0, 0, 1])
  >>> pooled.ids.tolist(), pooled.features.round(3).tolist()
  ([7], [[0.707, 0.707]])
  """
  x = checks.vectors(features, "features")
  template = checks.labels(template, len(x), "template")
  media = checks.labels(media, len(x), "media")
  flip = None if mirrored is None else checks.vectors(mirrored, "mirrored")
  if flip is not None and flip.shape != x.shape:
    raise ValueError(f"features have shape {x.shape}, mirrored {flip.shape}")
  weight = None
  if detector_scores is not None:
    weight = np.asarray(detector_scores, x.dtype)
    if weight.shape != (len(x),) or not (weight >= 0).all():
      raise ValueError("detector_scores must be [images] and not negative")
  order = np.lexsort((media, template))
  ids, first = np.unique(template[order], return_index=True)
  pooled = np.empty((len(ids), x.shape[1]), x.dtype)
  for start, stop in _blocks(first, len(x)):
    rows = order[first[start] : first[stop] if stop < len(first) else len(x)]
    y = x[rows] if flip is None else x[rows] + flip[rows]
    y = y if keep_norms else checks.units(y, "features")
    y = y if weight is None else y * weight[rows, None]
    pooled[start:stop] = _sums_of_media(y, template[rows], media[rows])
  lengths = np.linalg.norm(pooled, axis=1, keepdims=True)
  if not lengths.all():
    raise ValueError(
      f"the images of template {ids[np.argmin(lengths)]} cancel; it has no "
      "direction"
    )
  return Templates(ids, pooled / lengths)


def pair_scores(
  features: npt.ArrayLike, left: npt.ArrayLike, right: npt.ArrayLike
) -> np.ndarray:
  """Inner products of pairs of rows, in blocks; cosines of rows of length 1.

  Args:
    features: [rows, dim], such as `Templates.features`.
    left: a row of each pair, int [pairs].
    right: the other row, int [pairs].

  Returns:
    [pairs], float32 of float32 features and float64 otherwise.

  Raises:
    ValueError: if shapes differ or an index is out of range.

  >>> pair_scores([[1, 0], [0.6, 0.8]], [0, 0], [0, 1]).tolist()
  [1.0, 0.6]
  """
  x = checks.vectors(features, "features")
  left, right = np.asarray(left), np.asarray(right)
  if left.ndim != 1 or left.shape != right.shape:
    raise ValueError(f"left has shape {left.shape}, right {right.shape}")
  scores = np.empty(len(left), x.dtype)
  for rows in (left, right):
    if rows.size and not 0 <= rows.min() <= rows.max() < len(x):
      raise ValueError(
        f"rows {rows.min()} … {rows.max()}; there are {len(x)}, from 0"
      )
  for start in range(0, len(left), _PAIRS):
    block = slice(start, start + _PAIRS)
    a, b = x[left[block]], x[right[block]]
    np.einsum("pd,pd->p", a, b, out=scores[block])
  return scores


def _blocks(first: np.ndarray, images: int) -> list[tuple[int, int]]:
  """Runs of templates [start, stop) of some ten thousand images each."""
  cuts = np.searchsorted(first, np.arange(0, images, _IMAGES))
  cuts = np.unique(np.r_[0, cuts, len(first)]).tolist()
  return list(itertools.pairwise(cuts))


def _sums_of_media(
  x: np.ndarray, template: np.ndarray, media: np.ndarray
) -> np.ndarray:
  new_template = np.r_[True, template[1:] != template[:-1]]
  starts = np.flatnonzero(new_template | np.r_[True, media[1:] != media[:-1]])
  sizes = np.diff(starts, append=len(x)).astype(x.dtype)
  means = np.add.reduceat(x, starts) / sizes[:, None]
  return np.add.reduceat(means, np.flatnonzero(new_template[starts]))
