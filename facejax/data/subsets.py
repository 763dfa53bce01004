"""Parts and unions of sets of images."""

import bisect
import difflib
import itertools
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from facejax.data import encoded

_NAMED = 3


class Subset:
  """Some identities of a set, renumbered without gaps; `EncodedImages`.

  Identities and images keep their order.
  """

  def __init__(
    self,
    files: encoded.EncodedImages,
    *,
    only: Iterable[str] | None = None,
    without: Iterable[str] = (),
    without_images: Sequence[int] = (),
    min_images: int = 1,
  ):
    """Chooses.

    Args:
      files: The whole set.
      only: Names of the identities to keep; None keeps all.
      without: Names to leave out, such as those of a test set. Names that do
        not occur are no error.
      without_images: Images to leave out, by their place in the whole set.
      min_images: Identities with fewer images are left out.

    Raises:
      ValueError: A name of `only` does not occur, or nothing is left.
    """
    names = np.asarray(files.class_names, dtype=object)
    keep = np.ones(len(names), bool)
    if only is not None:
      keep = np.isin(names, listed(only, files.class_names, where="the images"))
    barred = set(without)
    keep &= np.fromiter((name not in barred for name in names), bool)
    whole = np.ones(len(files), bool)
    whole[np.asarray(without_images, int)] = False
    counts = np.bincount(files.labels[whole], minlength=len(names))
    keep &= counts >= min_images
    if not keep.any():
      raise ValueError(
        f"none of the {len(names):,} identities is left: of those listed, or"
        f" not left out, none has {min_images} or more images"
      )
    self.files = files
    self.class_names = names[keep].tolist()
    renumbered = (np.cumsum(keep) - 1).astype(np.int32)
    self._places = np.flatnonzero(keep[files.labels] & whole)
    self.labels = renumbered[files.labels[self._places]]

  @property
  def num_classes(self) -> int:
    return len(self.class_names)

  def __len__(self) -> int:
    return len(self.labels)

  def _place(self, index: int) -> int:
    if not 0 <= index < len(self):
      raise IndexError(f"image {index} of {len(self)}")
    return int(self._places[index])

  def encoded(self, index: int) -> bytes:
    return self.files.encoded(self._place(index))

  def name(self, index: int) -> str:
    return self.files.name(self._place(index))


class Joined:
  """Several sets one after another; `EncodedImages`.

  Identities of the same name in two sets count as two people, unless
  `by_name`: sets number or name their people each in a way of its own.
  """

  def __init__(
    self, parts: Sequence[encoded.EncodedImages], *, by_name: bool = False
  ):
    """Joins.

    Args:
      parts: The sets.
      by_name: The same name in two sets is the same person.

    Raises:
      ValueError: There is no set.
    """
    if not parts:
      raise ValueError("there is nothing to join: give at least one set")
    self.parts = tuple(parts)
    self._ends = list(itertools.accumulate(len(part) for part in parts))
    if by_name:
      self.class_names = list(
        dict.fromkeys(name for part in parts for name in part.class_names)
      )
    else:
      self.class_names = [n for part in parts for n in part.class_names]
    self.labels = np.concatenate(list(self._labels(by_name)))

  def _labels(self, by_name: bool) -> Iterable[np.ndarray]:
    number = {name: k for k, name in enumerate(self.class_names)}
    first = 0
    for part in self.parts:
      if by_name:
        ids = [number[name] for name in part.class_names]
      else:
        ids = range(first, first + part.num_classes)
      first += part.num_classes
      yield np.asarray(ids, np.int32)[part.labels]

  @property
  def num_classes(self) -> int:
    return len(self.class_names)

  def __len__(self) -> int:
    return self._ends[-1]

  def _find(self, index: int) -> tuple[encoded.EncodedImages, int]:
    if not 0 <= index < len(self):
      raise IndexError(f"image {index} of {len(self)}")
    k = bisect.bisect_right(self._ends, index)
    return self.parts[k], index - (self._ends[k - 1] if k else 0)

  def encoded(self, index: int) -> bytes:
    part, place = self._find(index)
    return part.encoded(place)

  def name(self, index: int) -> str:
    part, place = self._find(index)
    return part.name(place)


def listed(
  wanted: Iterable[str], names: Collection[str], *, where: str
) -> list[str]:
  """Returns the wanted names in order of `names`, or says which are missing.

  Args:
    wanted: Names of identities.
    names: Those that there are.
    where: What the message calls the place of `names`.

  Raises:
    ValueError: A name does not occur; the message has the nearest that does.
  """
  unique = set(wanted)
  missing = sorted(unique.difference(names))
  if missing:
    hints = []
    for name in itertools.islice(missing, _NAMED):
      close = difflib.get_close_matches(name, names, n=1)
      hints.append(f"{name!r}" + (f" (is it {close[0]!r}?)" if close else ""))
    raise ValueError(
      f"{len(missing)} of {len(unique)} listed identities do not occur in"
      f" {where!r}: {', '.join(hints)}{', …' * (len(missing) > len(hints))}"
    )
  return [name for name in names if name in unique]
