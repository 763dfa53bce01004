"""What a cosine says of two faces: one rule, for a pair and for a search.

Two faces show one person if their cosine reaches a threshold. Where no
threshold is known nothing is decided: the most alike of a gallery may be
anybody.
"""

import numpy as np

from facejax.runtime import typing

UNKNOWN, UNDECIDED = "unknown", "undecided"
# What to do where nothing is decided.
ADVICE = "pass --threshold"
NOT_OF_PEOPLE = (
  "this net was trained on generated faces and knows nothing of people's: train"
  " on photographs, or take dlib_resnet29"
)


def same_person(
  cosines: typing.ArrayLike | float, threshold: float | None
) -> np.ndarray | None:
  """Which cosines, of any shape, reach the threshold; None: undecided.

  >>> same_person([0.1, 0.3], 0.3).tolist()
  [False, True]
  >>> same_person([0.1, 0.3], None) is None
  True
  """
  return None if threshold is None else np.asarray(cosines) >= threshold


def answer(name: str | None, threshold: float | None) -> str:
  """Who somebody is said to be.

  Args:
    name: of the face that was found; None if none reached the threshold.
    threshold: that was asked for.

  >>> answer("ada", 0.3), answer(None, 0.3), answer("ada", None)
  ('ada', 'unknown', 'undecided')
  """
  if threshold is None:
    return UNDECIDED
  return UNKNOWN if name is None else name
