"""People of a set who are never trained on, and pairs of their images."""

import hashlib
import logging
from collections.abc import Callable

import numpy as np

from facejax.data import encoded, images, sources, subsets
from facejax.data.pairs import pairs as pairs_lib

logger = logging.getLogger(__name__)

# What reports call the pairs.
NAME = "held_out"
_NAMED_IN_LOG = 3


def able(files: encoded.EncodedImages) -> list[str]:
  """Returns the names of those who have two images or more, in their order.

  Raises:
    ValueError: A label names none of the identities.
  """
  sources.check_labels(files)
  counts = np.bincount(files.labels, minlength=files.num_classes)
  names = (files.class_names[k] for k in np.flatnonzero(counts > 1).tolist())
  return list(dict.fromkeys(names))


def people(
  files: encoded.EncodedImages, *, share: float, seed: int
) -> list[str]:
  """Returns the names of a share of those who have two images or more.

  Each person's name and the seed are a lot, and the lowest lots are held out:
  who else is there, and in what order, only moves the last place.

  Args:
    files: The whole set.
    share: Of these people, in [0, 1).
    seed: The same seed gives the same people.
  """
  found = able(files)

  def lot(name: str) -> bytes:
    text = f"{seed} {name}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).digest()

  return sorted(found, key=lot)[: round(share * len(found))]


def pairs(
  files: encoded.EncodedImages,
  decoded: Callable[[encoded.EncodedImages], sources.Source],
  *,
  at_most: int,
  seed: int,
  skip: bool = True,
) -> pairs_lib.PairSet:
  """Draws pairs, half of them genuine, of images that can be read.

  Args:
    files: Images of the people held out.
    decoded: Makes them a source.
    at_most: The most pairs.
    seed: The same seed gives the same pairs.
    skip: Whether others are drawn in place of images that cannot be read.

  Raises:
    ValueError: There are not two pairs of each kind.
    images.BadImageError: An image cannot be read, and `skip` is False.
  """
  while True:
    source = decoded(files)
    count, folds = pairs_lib.fitting(source.labels, at_most=at_most)
    found = pairs_lib.random_pairs(
      source, num_pairs=count, folds=folds, seed=seed, name=NAME
    )
    bad = []
    for index in np.unique([found.first, found.second]).tolist():
      try:
        source[index]
      except images.BadImageError:
        if not skip:
          raise
        bad.append(index)
    if not bad:
      return found
    logger.warning(
      "left out of the pairs of people held out, as they cannot be read: %d"
      " images, such as %s",
      *(len(bad), ", ".join(map(files.name, bad[:_NAMED_IN_LOG]))),
    )
    files = subsets.Subset(files, without_images=bad)
