"""The figures of merit of a set of pairs, each with convention and interval."""

import numpy as np

from facejax.evaluation import verification
from facejax.metrics import counts as counts_lib
from facejax.metrics import curves, intervals, validation
from facejax.metrics import verification as metrics
from facejax.runs import results

Quantity = results.Quantity

FLIP = "image and mirror image summed"
_FARS = {"1e-1": 0.1, "1e-2": 0.01, "1e-3": 0.001, "1e-4": 1e-4}
_FARS |= {"1e-5": 1e-5, "1e-6": 1e-6}
_BINOMIAL = "interval: Wilson's"
_BOOTSTRAP = "interval: bootstrap of pairs"
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
) -> list[Quantity]:
  """Accuracy over folds under each honest convention, and at a threshold."""
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
    out.append(
      Quantity(
        f"accuracy_{name}",
        f"Accuracy, {name}",
        folds.mean,
        *intervals.wilson(folds.mean * n, n),
        convention=f"± population std over folds (standard error"
        f" {100 * folds.standard_error:.2f}); {how}; cosine; {_RULES[name]};"
        f" {_BINOMIAL}",
        spread=folds.std,
      )
    )
  note = "mean over the folds of convention facenet, as a cosine"
  threshold = found.metrics["threshold"]
  out.append(
    Quantity("threshold", "Threshold", threshold, unit="", convention=note)
  )
  out += _at_given(found, np.ones(n, bool))
  return out + _validation(found)


def _at_given(
  found: verification.Verification, mine: np.ndarray
) -> list[Quantity]:
  given = found.metrics.get("given_threshold")
  if given is None:
    return []
  value = metrics.accuracy_at(found.scores[mine], found.same[mine], given)
  n = int(mine.sum())
  return [
    Quantity(
      "accuracy_at_given_threshold",
      "Accuracy at a given threshold",
      value,
      *intervals.wilson(value * n, n),
      convention=f"cosine {given:.4f}, chosen on other pairs; {_BINOMIAL}",
    )
  ]


def one_fold(
  found: verification.Verification,
  mine: np.ndarray,
  accepted: np.ndarray,
  threshold: float,
) -> list[Quantity]:
  right = int((accepted == found.same)[mine].sum())
  note = f"{FLIP}; cosine; {_RULES['facenet']}; {_BINOMIAL};"
  rate = intervals.Rate(right, int(mine.sum()))
  label = "Accuracy of one fold, facenet"
  how = "of the other folds, convention facenet, as a cosine"
  return [
    results.of_rate("accuracy_fold", label, rate, note),
    Quantity("threshold", "Threshold", threshold, unit="", convention=how),
    *_at_given(found, mine),
  ]


def rates(tally: counts_lib.Counts, *, samples: int) -> list[Quantity]:
  """TAR at every FAR that the pairs resolve, EER and AUC."""
  out = []
  for name, far in _FARS.items():
    if far * tally.totals()[1] >= 1:
      point = curves.at_far(tally, far)
      note = (
        f"largest TAR with FAR not above, no interpolation: cosine"
        f" {point.threshold:.4f}, FAR {point.far.value:.3g}; {_BINOMIAL};"
      )
      label = f"TAR at FAR {name}"
      out.append(results.of_rate(f"tar_at_far_{name}", label, point.tar, note))
  for key, label, function, unit, note in (
    ("equal_error_rate", "Equal error rate", curves.equal_error_rate, "%", "FAR = FRR, points of the ROC joined by lines"),
    ("area_under_curve", "Area under the ROC", curves.area, "", "P(genuine > impostor) + P(equal) / 2"),
  ):  # fmt: skip
    ends = counts_lib.interval(tally, function, samples=samples)
    note = f"{note}; {_BOOTSTRAP}"
    value = function(tally)
    out.append(Quantity(key, label, value, *ends, unit=unit, convention=note))
  return out


def _validation(found: verification.Verification) -> list[Quantity]:
  """FaceNet's VAL@FAR where the pairs outside of every fold resolve it."""
  same, fold, out = found.same, found.fold, []
  kinds = [np.unique(fold[kind], return_counts=True) for kind in (same, ~same)]
  if not np.array_equal(kinds[0][0], kinds[1][0]):
    return out
  different = kinds[1][1]
  for name, far in list(_FARS.items())[:3]:
    if far * (different.sum() - different.max()) < 1:
      continue
    value = validation.validation_at_far(found.scores, same, fold, far=far)
    genuine = int(same.sum())
    out.append(
      Quantity(
        f"val_at_far_{name}",
        f"VAL at FAR {name}",
        value.mean,
        *intervals.wilson(value.mean * genuine, genuine),
        convention="FaceNet's: ± standard error over folds; largest squared L2 with FAR not above on the other"
        f" folds, FAR {value.far:.3g} on the tested ones; {_BINOMIAL}",
        spread=value.standard_error,
      )
    )
  return out
