"""Figures of merit of `facejax.metrics.counts`: what error rates trade off.

Of the pairs of one person and those of two people, accepted from t upwards,

    tar(t) = |{same: score >= t}| / |same|              true accept rate
    far(t) = |{different: score >= t}| / |different|    false accept rate

Every function takes counts, and raises ValueError if they lack one kind of
pair.
"""

import statistics
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facejax.metrics import checks, counts, intervals


class Det(NamedTuple):
  """Detection error trade-off, by falling threshold, [points] each."""

  far: np.ndarray
  frr: np.ndarray  # false reject rate, 1 - tar
  thresholds: np.ndarray


class OperatingPoint(NamedTuple):
  """What one threshold accepts."""

  threshold: float  # accept scores that reach it
  tar: intervals.Rate
  far: intervals.Rate


def at_far(accepted: counts.Counts, far: float) -> OperatingPoint:
  """The point with the largest TAR whose FAR is at most `far`.

  No interpolation: some threshold reaches these very rates. On exact counts the
  threshold is the lowest such number, just above the best score that is barred.
  With n different pairs, targets below 1 / n all mean "no false accept".

  Raises:
    ValueError: as `counts.Counts.roc`, and if `far` is no rate.

  >>> accepted = counts.count([0.9, 0.5, 0.4, 0.1], [True, False, True, False])
  >>> point = at_far(accepted, 0.5)
  >>> point.tar.value, point.far.value, round(point.threshold, 9)
  (1.0, 0.5, 0.1)
  """
  same, different = accepted.totals()
  allowed = checks.allowed(checks.share(far, "far"), different)
  points = int(np.searchsorted(accepted.different, allowed, side="right"))
  if points == len(accepted.thresholds):
    threshold = -np.inf
  elif accepted.exact:
    threshold = np.nextafter(accepted.thresholds[points], np.inf)
  else:
    threshold = accepted.thresholds[points - 1] if points else np.inf
  passed = accepted.same[points - 1], accepted.different[points - 1]
  true, false = (int(count) if points else 0 for count in passed)
  return OperatingPoint(
    threshold=float(threshold),
    tar=intervals.Rate(true, same),
    far=intervals.Rate(false, different),
  )


def equal_error_rate(accepted: counts.Counts) -> float:
  """Where false accepts are as frequent as false rejects, far = 1 - tar.

  Points of the ROC are joined by straight lines (the rates that mixing two
  neighbouring thresholds reaches).

  >>> equal_error_rate(counts.count([0.9, 0.5, 0.4, 0.1], [1, 0, 1, 0]))
  0.5
  """
  far, tar, _ = accepted.roc()
  excess = far + tar - 1  # rises from -1 to 1
  above = int(np.argmax(excess >= 0))
  below = above - 1
  weight = excess[above] / (excess[above] - excess[below])
  return float(weight * far[below] + (1 - weight) * far[above])


def area(accepted: counts.Counts) -> float:
  """Area under the ROC, P(same > different) + P(same = different) / 2.

  >>> area(counts.count([0.9, 0.5, 0.5, 0.1], [True, True, False, False]))
  0.875
  """
  far, tar, _ = accepted.roc()
  return float(np.trapezoid(tar, far))


def detection_error_tradeoff(accepted: counts.Counts) -> Det:
  """False rejects against false accepts, frr(t) = 1 - tar(t).

  Thin the counts first for a plot; `normal_deviates` scales its axes.

  Raises:
    ValueError: as `counts.Counts.roc`.

  References:
    Martin et al., *The DET curve in assessment of detection task performance*,
    1997.

  >>> detection_error_tradeoff(counts.count([0.9, 0.5], [True, False])).frr.tolist()
  [1.0, 0.0, 0.0]
  """
  far, tar, thresholds = accepted.roc()
  return Det(far, 1 - tar, thresholds)


def normal_deviates(rates: npt.ArrayLike) -> np.ndarray:
  """Quantiles of the standard normal at rates: the axes of a DET plot.

  Args:
    rates: in [0, 1], any shape; the ends become -infinity and infinity.

  >>> normal_deviates([0, 0.5, 0.975]).round(2).tolist()
  [-inf, 0.0, 1.96]
  """
  rates = np.asarray(rates, np.float64)
  if not ((rates >= 0) & (rates <= 1)).all():
    raise ValueError("rates must lie in [0, 1]")
  quantile = statistics.NormalDist().inv_cdf
  ends = {0.0: -np.inf, 1.0: np.inf}
  values = [ends[p] if p in ends else quantile(p) for p in rates.flat]
  return np.reshape(values, rates.shape)
