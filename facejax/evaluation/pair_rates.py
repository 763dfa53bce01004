"""Rates of wrong answers among pairs: FaceNet's by folds, and at a threshold."""

import numpy as np

from facejax.metrics import validation

FAR_TARGETS = {"1e-1": 0.1, "1e-2": 0.01, "1e-3": 0.001}


def of_strangers(
  scores: np.ndarray, same: np.ndarray, threshold: float
) -> dict[str, float]:
  """What a threshold means to strangers: how many of them it takes for one person.

  Returns:
    The false match rate FMR, the share of impostor pairs whose score reaches the
    threshold, and how many there are of these pairs.
  """
  strangers = scores[~same]
  return {
    "false_match_rate": float(np.mean(strangers >= threshold)),
    "impostor_pairs": len(strangers),
  }


def of_folds(
  scores: np.ndarray, same: np.ndarray, fold: np.ndarray
) -> dict[str, float]:
  """FaceNet's VAL@FAR where the pairs outside of every fold resolve it.

  Without some kind of pair in some fold there is none.
  """
  different, counts = np.unique(fold[~same], return_counts=True)
  if not np.array_equal(different, np.unique(fold[same])):
    return {}
  least = counts.sum() - counts.max()
  rates = {}
  for name, far in FAR_TARGETS.items():
    if far * least >= 1:
      result = validation.validation_at_far(scores, same, fold, far=far)
      rates[f"val_at_far_{name}"] = result.mean
      rates[f"val_at_far_{name}_standard_error"] = result.standard_error
      rates[f"val_at_far_{name}_far"] = result.far
  return rates
