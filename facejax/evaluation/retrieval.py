"""Retrieval of a set of people, as figures: precision at 1 and R, MAP@R."""

import numpy as np

from facejax.metrics import intervals, retrieval
from facejax.runs import results

_HOW = (
  "every image searches all others, by cosine; ties count against the person;"
  " mean over images of people with two or more"
)


def quantities(
  vectors: np.ndarray, labels: np.ndarray
) -> list[results.Quantity]:
  """Precision at 1, R-precision and MAP@R; none where nobody has two images.

  Args:
    vectors: embeddings of length 1, [images, dim].
    labels: the person of each, int [images].
  """
  if len(np.unique(labels)) == len(labels):
    return []
  found = retrieval.search(vectors, labels)
  rows = (
    ("precision_at_1", "Precision at 1", found.first, "the nearest image"),
    ("r_precision", "R-precision", found.r_precision, "share of the nearest R, R the person's other images"),
    ("map_at_r", "MAP@R", found.map_at_r, "the same with the order within R (Musgrave et al. 2020)"),
  )  # fmt: skip
  people = labels[found.queries]
  return [
    results.Quantity(
      key,
      label,
      float(values.mean()),
      *_interval(values, people),
      convention=f"{what}; {_HOW}; interval: bootstrap of people",
    )
    for key, label, values, what in rows
  ]


def _interval(values: np.ndarray, people: np.ndarray) -> intervals.Interval:
  """Of the mean, over samples of whole people."""
  _, person = np.unique(people, return_inverse=True)
  sums, counts = np.bincount(person, values), np.bincount(person)
  return intervals.bootstrap(
    lambda drawn: sums[drawn].sum() / counts[drawn].sum(), len(sums)
  )
