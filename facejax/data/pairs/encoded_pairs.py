"""Verification pairs of encoded images, as packs and lists of pairs give them."""

import dataclasses

import numpy as np

from facejax.data import encoded


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedPairs:
  """Pairs of encoded images for verification in folds.

  Attributes:
    files: The images.
    first: int32 [n], the index of each pair's first image in `files`.
    second: int32 [n], that of its second image.
    same: bool [n], whether both show the same person.
    fold: int32 [n], the fold of each pair, counted from 0.
  """

  files: encoded.EncodedImages
  first: np.ndarray
  second: np.ndarray
  same: np.ndarray
  fold: np.ndarray

  def __len__(self) -> int:
    return len(self.same)


def folds_in_order(count: int, folds: int = 10) -> np.ndarray:
  """Returns the fold of each of `count` pairs, int32 [count].

  Cut in file order into parts as equal as can be, the larger ones first, which
  is what scikit-learn's `KFold(folds, shuffle=False)` does and InsightFace
  evaluates by. Fewer pairs than folds are a fold each.

  >>> folds_in_order(7, 3).tolist()
  [0, 0, 0, 1, 1, 2, 2]
  """
  folds = max(1, min(folds, count))
  sizes = np.full(folds, count // folds)
  sizes[: count % folds] += 1
  return np.repeat(np.arange(folds, dtype=np.int32), sizes)
