"""Does a quality tell which comparisons will fail?

Qualities of images, higher is better:

    norm    the length of a feature: clear faces have long ones
    serfiq  how well embeddings agree that differ by what is dropped
    crfiqa  how much nearer a face is to its class than to any other

and what they are worth: the errors that stay when the pairs of least quality
are set aside (EDC), and the area under that curve.
"""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from facejax.metrics import checks, counts, curves

Threshold = Literal["fixed", "refit"]

# The range of the area under the curve.
UNTIL = 0.3


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
  threshold: Threshold | float = "fixed",
) -> Reject:
  """False rejects that remain when the pairs of least quality are set aside.

  A quality that foresees failures makes the curve fall; one that knows nothing
  leaves it level. Pairs of equal quality stay or go together: those go whose
  quality is below that of the first pair to stay.

  Args:
    scores: similarities, [pairs].
    same: bool, [pairs].
    quality: higher is better, [pairs]; see `of_pairs`.
    far: the false accept rate that sets the threshold, in [0, 1], unless it is
      given.
    step: share of all pairs from one point to the next, in (0, 1).
    threshold: "fixed" keeps that of all pairs; "refit" takes, at each point,
      that of the pairs which are left; a number is taken as it is.

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
  given = not isinstance(threshold, str)
  if not given and threshold not in ("fixed", "refit"):
    raise ValueError(
      f'threshold {threshold!r}; use "fixed" or "refit", or a score'
    )
  order = np.argsort(quality, kind="stable")
  scores, same, quality = scores[order], same[order], quality[order]
  if given:
    bar = float(threshold)
  else:
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


def area(curve: Reject, *, until: float = UNTIL) -> float:
  """Mean false reject rate of a curve over shares 0 … until set aside.

  The area under the EDC, over the length of its range, so that it is a rate and
  the curve's first point the one to compare it with: lower is better, and a
  quality that knows nothing has about the first point. Points are joined by
  lines.

  Args:
    curve: of `error_versus_reject`.
    until: end of the range, in (0, 1). Beyond a third hardly anybody would set
      pairs aside.

  Raises:
    ValueError: if the range is out of bounds, or the curve ends within it.

  References:
    Schlett, Rathgeb, Tapia, Busch, *Considerations on the Evaluation of
    Biometric Quality Assessment Algorithms*, 2023.

  >>> curve = Reject(*np.array([[0, 0.2, 0.4], [0.1, 0.05, 0], [0] * 3, [0] * 3]))
  >>> round(area(curve, until=0.2), 4), round(area(curve, until=0.3), 4)
  (0.075, 0.0625)
  """
  if not 0 < until < 1:
    raise ValueError(f"until is {until}; use a share within (0, 1)")
  if curve.rejected[-1] < until:
    raise ValueError(
      f"the curve ends where {curve.rejected[-1]:.3g} are set aside: too few pairs"
      f" of one kind, or equal qualities, for an area until {until:g}"
    )
  inside = curve.rejected < until
  places = np.r_[curve.rejected[inside], until]
  rates = np.interp(places, curve.rejected, curve.frr)
  return float(np.trapezoid(rates, places) / until)


def dropout_agreement(draws: npt.ArrayLike) -> np.ndarray:
  """SER-FIQ: how well embeddings agree that differ by what is dropped, in (0, 1].

      q = 2 sigmoid(-mean over i < j of |x_i - x_j|),  x_i of length 1

  Args:
    draws: embeddings of each image, of any length, [images, draws, dim].

  Returns:
    The quality of each image, [images]; 1 where all draws are one.

  Raises:
    ValueError: if there is one draw only, or a vector is zero or not finite.

  References:
    Terhörst, Kolf, Damer, Kirchbuchner, Kuijper, *SER-FIQ: Unsupervised
    Estimation of Face Image Quality Based on Stochastic Embedding Robustness*,
    2020; as its code has it, with the mean over pairs.

  >>> dropout_agreement([[[1, 0], [2, 0]], [[1, 0], [0, 3]]]).round(4).tolist()
  [1.0, 0.3911]
  """
  draws = np.asarray(draws)
  if draws.ndim != 3 or draws.shape[1] < 2:
    raise ValueError(
      f"draws have shape {draws.shape}; use [images, draws, dim], two draws or"
      " more"
    )
  found = []
  for one in draws:
    x = checks.units(one, "draws")
    first, second = np.triu_indices(len(x), 1)
    squared = np.maximum(2 - 2 * (x @ x.T)[first, second], 0)
    found.append(2 / (1 + np.exp(np.sqrt(squared).mean())))
  return np.array(found)


def certainty_ratio(
  target: npt.ArrayLike, nearest: npt.ArrayLike, *, eps: float = 1e-9
) -> np.ndarray:
  """CR-FIQA's ratio: how much nearer a face is to its class than to others.

      CR = cos to the own class / (largest cos to another class + 1 + eps)

  Only images of classes that have prototypes have one.

  Args:
    target: cosine to the own class's prototype, [images].
    nearest: cosine to the nearest other one, [images].
    eps: keeps the denominator above 0.

  Raises:
    ValueError: if shapes differ, or a value is no cosine.

  References:
    Boutros, Fang, Klemt, Fu, Damer, *CR-FIQA: Face Image Quality Assessment by
    Learning Sample Relative Classifiability*, 2023.

  >>> certainty_ratio([0.6, 0.6], [0.2, -0.5]).round(6).tolist()
  [0.5, 1.2]
  """
  target, nearest = (np.asarray(x, np.float64) for x in (target, nearest))
  if target.shape != nearest.shape:
    raise ValueError(
      f"target has shape {target.shape}, nearest {nearest.shape}"
    )
  if not ((np.abs(target) <= 1 + 1e-6) & (np.abs(nearest) <= 1 + 1e-6)).all():
    raise ValueError("target and nearest must be cosines, from -1 to 1")
  return target / (np.maximum(nearest, -1) + 1 + eps)


def _firsts(quality: np.ndarray, step: float) -> np.ndarray:
  """The first pair to stay at each point; quality rises."""
  places = [
    checks.allowed(share, len(quality)) for share in np.arange(0, 1, step)
  ]
  return np.unique(np.searchsorted(quality, quality[places], side="left"))
