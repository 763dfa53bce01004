"""The figures of merit of a set of pairs, each with convention and interval."""

from collections.abc import Callable

import numpy as np

from facejax.evaluation import error_rates, verification
from facejax.metrics import counts as counts_lib
from facejax.metrics import (
  curves,
  intervals,
  people_bootstrap,
  people_intervals,
  validation,
)
from facejax.metrics import verification as metrics
from facejax.runs import results

Quantity = results.Quantity
Compared = people_intervals.Compared

FLIP = "image and mirror image summed"
_FARS = {"1e-1": 0.1, "1e-2": 0.01, "1e-3": 0.001, "1e-4": 1e-4}
_FARS |= {"1e-5": 1e-5, "1e-6": 1e-6}
_PEOPLE = "interval: bootstrap of people"
_PAIRS = "interval: bootstrap of pairs, taken as independent"
_RULES = {
  "facenet": "threshold of each fold the first best of squared L2 0, 0.01 …"
  " 3.99 on the others, accept below",
  "sphereface": "threshold of each fold the mean of the best of cosines -1,"
  " -0.9999 … 1 on the others",
  "exact": "threshold of each fold the middle of the best interval on the"
  " others",
}


def accuracies(
  found: verification.Verification,
  features_of_pairs: tuple[np.ndarray, np.ndarray] | None,
  who: Compared | None = None,
) -> list[Quantity]:
  """Accuracy over folds under each honest convention, and at a threshold.

  Args:
    found: of a set of pairs.
    features_of_pairs: not normalised, for SphereFace's convention.
    who: whom the pairs show; None if that is not known.
  """
  n, out = len(found.same), []
  for name in ("facenet", "sphereface", "exact"):
    how = FLIP
    if name == "sphereface" and features_of_pairs is not None:
      how = "features of image and mirror image joined, less the mean of the"
      how += " other folds"
      folds = metrics.centred_accuracy(
        *features_of_pairs, found.same, found.fold
      )
    else:
      folds = metrics.ten_fold_accuracy(
        found.scores, found.same, found.fold, convention=name
      )
    ends, interval = _of_folds(folds.right, found.fold, who)
    out.append(
      Quantity(
        f"accuracy_{name}",
        f"Accuracy, {name}",
        folds.mean,
        *ends,
        convention=f"± population std over folds (standard error"
        f" {100 * folds.standard_error:.2f}); {how}; cosine; {_RULES[name]};"
        f" {interval}",
        spread=folds.std,
      )
    )
  note = "mean over the folds of convention facenet, as a cosine"
  threshold = found.metrics["threshold"]
  out.append(
    Quantity("threshold", "Threshold", threshold, unit="", convention=note)
  )
  out += _at_given(found, np.ones(n, bool), who)
  return out + _validation(found, who)


def _of_folds(
  values: np.ndarray, fold: np.ndarray, who: Compared | None
) -> tuple[intervals.Interval, str]:
  """The interval of a mean over folds, each of which counts alike."""
  _, number, sizes = np.unique(fold, return_inverse=True, return_counts=True)
  weights = 1 / (len(sizes) * sizes[number])
  if who is None:
    share, n = float(weights @ values), len(values)
    ends = intervals.wilson(min(share, 1.0) * n, n)
  else:
    ends = people_intervals.wilson(values, who, weights=weights)
  return ends, error_rates.ends(values, who)[1]


def _at_given(
  found: verification.Verification, mine: np.ndarray, who: Compared | None
) -> list[Quantity]:
  """Of some pairs, which `who` is of."""
  given = found.metrics.get("given_threshold")
  if given is None:
    return []
  return [
    error_rates.of_share(
      "accuracy_at_given_threshold",
      "Accuracy at a given threshold",
      ((found.scores >= given) == found.same)[mine],
      who,
      convention=f"cosine {given:.4f}, chosen on other pairs",
    )
  ]


def one_fold(
  found: verification.Verification,
  mine: np.ndarray,
  accepted: np.ndarray,
  threshold: float,
  who: Compared | None = None,
) -> list[Quantity]:
  """The same of one fold: its pairs are `mine`, and `who` is of these."""
  right = (accepted == found.same)[mine]
  note = f"{FLIP}; cosine; {_RULES['facenet']}"
  label = "Accuracy of one fold, facenet"
  how = "of the other folds, convention facenet, as a cosine"
  return [
    error_rates.of_share("accuracy_fold", label, right, who, convention=note),
    Quantity("threshold", "Threshold", threshold, unit="", convention=how),
    *_at_given(found, mine, who),
  ]


def rates(
  tally: counts_lib.Counts,
  scores: np.ndarray,
  same: np.ndarray,
  who: Compared | None = None,
  *,
  samples: int,
) -> list[Quantity]:
  """TAR at every FAR that the pairs resolve, EER, AUC, and FNMR at FMRs.

  Args:
    tally: of all pairs.
    scores: of each, [pairs].
    same: bool, [pairs].
    who: whom they show; None if that is not known.
    samples: draws of each bootstrap.
  """
  out, genuine = [], scores[same].astype(np.float64)
  mates = who and who.of(same)
  impostors = tally.totals()[1]
  for name, far in _FARS.items():
    if far * impostors >= 1:
      point = curves.at_far(tally, far)
      note = (
        f"largest TAR with FAR not above, no interpolation: cosine"
        f" {point.threshold:.4f}, FAR {point.far.value:.3g}"
      )
      if far * impostors < error_rates.LEAST:
        note += (
          f", {point.far.successes:,} of {impostors:,}: below the rule of 30"
        )
      key, label = f"tar_at_far_{name}", f"TAR at FAR {name}"
      passed = genuine >= point.threshold
      out.append(
        error_rates.of_share(key, label, passed, mates, convention=note)
      )
  drawn, how = _drawn(tally, scores, same, who, samples=samples)
  for key, label, function, unit, note in (
    ("equal_error_rate", "Equal error rate", curves.equal_error_rate, "%", "FAR = FRR, points of the ROC joined by lines"),
    ("area_under_curve", "Area under the ROC", curves.area, "", "P(genuine > impostor) + P(equal) / 2"),
  ):  # fmt: skip
    note, value = f"{note}; {how}", function(tally)
    out.append(
      Quantity(key, label, value, *drawn.pop(key), unit=unit, convention=note)
    )
  return out + error_rates.fnmr(tally, genuine, mates, drawn)


def _drawn(
  tally: counts_lib.Counts,
  scores: np.ndarray,
  same: np.ndarray,
  who: Compared | None,
  *,
  samples: int,
) -> tuple[dict[str, intervals.Interval], str]:
  """Intervals of EER, AUC and, where people are known, FNMR, by a bootstrap."""
  statistics: dict[str, Callable[[counts_lib.Counts], float]] = {
    "equal_error_rate": curves.equal_error_rate,
    "area_under_curve": curves.area,
  }
  if who is not None:
    more = {
      name: error_rates.fnmr_statistic(fmr)
      for name, fmr in error_rates.resolved(tally.totals()[1]).items()
    }
    found = people_bootstrap.bootstrap(
      scores,
      same,
      who,
      [*statistics.values(), *more.values()],
      samples=samples,
    )
    keys = enumerate([*statistics, *more])
    return {key: found.interval(k) for k, key in keys}, _PEOPLE
  return {
    key: counts_lib.interval(tally, function, samples=samples)
    for key, function in statistics.items()
  }, _PAIRS


def _validation(
  found: verification.Verification, who: Compared | None
) -> list[Quantity]:
  """FaceNet's VAL@FAR where the pairs outside of every fold resolve it."""
  same, fold, out = found.same, found.fold, []
  kinds = [np.unique(fold[kind], return_counts=True) for kind in (same, ~same)]
  if not np.array_equal(kinds[0][0], kinds[1][0]):
    return out
  different = kinds[1][1]
  number = np.unique(fold, return_inverse=True)[1]
  for name, far in list(_FARS.items())[:3]:
    if far * (different.sum() - different.max()) < 1:
      continue
    value = validation.validation_at_far(found.scores, same, fold, far=far)
    accepted = 2 - 2 * found.scores <= value.thresholds[number]
    ends, how = _of_folds(accepted[same], fold[same], who and who.of(same))
    out.append(
      Quantity(
        f"val_at_far_{name}",
        f"VAL at FAR {name}",
        value.mean,
        *ends,
        convention="FaceNet's: ± standard error over folds; largest squared L2 with FAR not above on the other"
        f" folds, FAR {value.far:.3g} on the tested ones; {how}",
        spread=value.standard_error,
      )
    )
  return out
