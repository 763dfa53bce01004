"""Does a quality tell which comparisons will fail?

The length of a feature is such a quality: clear faces have long ones.
"""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from facejax.metrics import checks, counts, curves

Threshold = Literal["fixed", "refit"]


class Reject(NamedTuple):
  """Error against reject, by rising share of rejected pairs, [points] each."""

  rejected: np.ndarray  # share of the pairs that are set aside
  frr: np.ndarray  # false reject rate of the same pairs that stay
  far: np.ndarray  # false accept rate of the different pairs that stay
  thresholds: np.ndarray


def of_pairs(left: npt.ArrayLike, right: npt.ArrayLike) -> np.ndarray:
  """Quality of pairs, that of the worse image: min(left, right), [pairs].

  >>> of_pairs([21.0, 30.0], [25.0, 12.0]).tolist()
  [21.0, 12.0]
  """
  return np.minimum(np.asarray(left), np.asarray(right))


def error_versus_reject(
  scores: npt.ArrayLike,
  same: npt.ArrayLike,
  quality: npt.ArrayLike,
  *,
  far: float = 1e-3,
  step: float = 0.05,
  threshold: Threshold = "fixed",
) -> Reject:
  """False rejects that remain when the pairs of least quality are set aside.

  A quality that foresees failures makes the curve fall; one that knows nothing
  leaves it level. Pairs of equal quality stay or go together: those go whose
  quality is below that of the first pair to stay.

  Args:
    scores: similarities, [pairs].
    same: bool, [pairs].
    quality: higher is better, [pairs]; see `of_pairs`.
    far: the false accept rate that sets the threshold, in [0, 1].
    step: share of all pairs from one point to the next, in (0, 1).
    threshold: "fixed" keeps that of all pairs; "refit" takes, at each point,
      that of the pairs which are left.

  Returns:
    Points as long as some same and some different pair is left.

  Raises:
    ValueError: if the pairs are empty, not finite or of one kind, or an option
      is out of range.

  References:
    Grother, Tabassi, *Performance of Biometric Quality Measures*, 2007.

  >>> curve = error_versus_reject(
  ...   [0.9, 0.3, 0.8, 0.4], [1, 1, 1, 0], [5, 1, 4, 9], far=0.0, step=0.25
  ... )
  >>> curve.rejected.tolist(), curve.frr.round(3).tolist()
  ([0.0, 0.25, 0.5], [0.333, 0.0, 0.0])
  """
  scores, same = checks.pairs(scores, same)
  quality = np.asarray(quality, np.float64)
  if quality.shape != scores.shape or not np.isfinite(quality).all():
    raise ValueError(
      f"quality must be finite, one for each {scores.shape} pair"
    )
  if not 0 < step < 1:
    raise ValueError(f"step is {step}; use a share within (0, 1)")
  if threshold not in ("fixed", "refit"):
    raise ValueError(f'threshold {threshold!r}; use "fixed" or "refit"')
  order = np.argsort(quality, kind="stable")
  scores, same, quality = scores[order], same[order], quality[order]
  bar = curves.at_far(counts.count(scores, same), far).threshold
  points = []
  for first in _firsts(quality, step):
    mine, kinds = scores[first:], same[first:]
    if kinds.all() or not kinds.any():
      break
    if threshold == "refit":
      bar = curves.at_far(counts.count(mine, kinds), far).threshold
    accepted = mine >= bar
    frr, fpr = 1 - accepted[kinds].mean(), accepted[~kinds].mean()
    points.append((first / len(scores), frr, fpr, bar))
  return Reject(*np.array(points).T)


def _firsts(quality: np.ndarray, step: float) -> np.ndarray:
  """The first pair to stay at each point; quality rises."""
  places = [
    checks.allowed(share, len(quality)) for share in np.arange(0, 1, step)
  ]
  return np.unique(np.searchsorted(quality, quality[places], side="left"))
