"""Verification pairs: which two images, the same person or not, which fold."""

import dataclasses
import os
from collections.abc import Iterator

import numpy as np

from facejax.data import encoded, orientation, sources
from facejax.data.pairs import listed, packs, protocols
from facejax.runtime import text_lines


@dataclasses.dataclass(frozen=True, eq=False)
class PairSet:
  """Pairs of images for verification in folds.

  Attributes:
    name: What reports call the set.
    source: The images.
    first: int32 [n], the index of each pair's first image in `source`.
    second: int32 [n], that of its second image.
    same: bool [n], whether both show the same person.
    fold: int32 [n], the fold of each pair, counted from 0.
  """

  name: str
  source: sources.Source
  first: np.ndarray
  second: np.ndarray
  same: np.ndarray
  fold: np.ndarray

  def __len__(self) -> int:
    return len(self.same)


def open_pairs(
  path: str | os.PathLike[str],
  *,
  image_size: tuple[int, int],
  root: str | os.PathLike[str] = "",
  crop: float = 1.0,
  exif: orientation.Exif = "apply",
  protocol: protocols.Protocol | None = None,
  name: str | None = None,
) -> PairSet:
  """Opens verification pairs: a pack, or a list of pairs and its images.

  Every image is decoded once, because an evaluation set must be whole.

  Args:
    path: A pack (`packs`), or a list of pairs (`protocols`), by its content.
    image_size: Height and width that the images are brought to.
    root: The folder of the images of a list; a pack has its own.
    crop: Share of the centre of each image that is kept, in (0, 1].
    exif: Whether images are turned as their EXIF says.
    protocol: Whose list it is; None guesses.
    name: What reports call the set; default the file's name without suffix.

  Returns:
    The pairs in the order of the file.

  Raises:
    FileNotFoundError: The file, the folder or an image does not exist.
    ValueError: The pack is damaged or asks for code, a line is malformed, or
      an image cannot be decoded.
  """
  if packs.is_pack(path):
    pairs = packs.read_pack(path)
  elif os.path.exists(path) and not root:
    raise ValueError(
      f"{os.fspath(path)!r} is no pack; for a list of pairs name the folder of"
      " its images"
    )
  else:
    pairs = listed.listed_pairs(path, root, protocol)
  source = encoded.Decoded(
    pairs.files, image_size=image_size, crop=crop, exif=exif
  )
  for index in range(len(source)):
    source[index]
  stem = os.path.splitext(os.path.basename(os.fspath(path)))[0]
  return PairSet(
    name=name or text_lines.printable(stem),
    source=source,
    first=pairs.first,
    second=pairs.second,
    same=pairs.same,
    fold=pairs.fold,
  )


def random_pairs(
  source: sources.Source,
  *,
  num_pairs: int,
  folds: int = 10,
  seed: int = 0,
  name: str = "random pairs",
) -> PairSet:
  """Draws pairs from a labelled source, half of them of the same person.

  No pair occurs twice, in either order, and no image is paired with itself.
  Genuine pairs are spread evenly over the people who have two images or more;
  impostor pairs are uniform over all pairs of images of different people. Each
  person lies in one fold only, as in LFW, wherever each fold then has enough
  pairs; otherwise the pairs are drawn from all people and dealt to the folds.

  Args:
    source: The images; only the labels are read.
    num_pairs: How many pairs, even and at least twice the number of folds.
    folds: How many folds; each holds as many genuine as impostor pairs.
    seed: The same seed gives the same pairs.
    name: What reports call the set.

  Returns:
    The pairs, fold by fold, in each the genuine pairs first.

  Raises:
    ValueError: `num_pairs` does not fit the folds, or the source is too small.

  References:
    Huang, Ramesh, Berg, Learned-Miller. Labeled Faces in the Wild: A Database
    for Studying Face Recognition in Unconstrained Environments. 2007.
  """
  if folds < 1 or num_pairs % 2 or num_pairs < 2 * folds:
    raise ValueError(
      f"num_pairs={num_pairs} must be even and at least {2 * max(folds, 1)},"
      f" one genuine and one impostor pair for each of folds={folds}"
    )
  labels = np.asarray(source.labels)
  half = num_pairs // 2
  sizes = np.diff(half * np.arange(folds + 1) // folds)
  rng = np.random.default_rng([seed, num_pairs, folds])
  groups = _split_people(labels, folds, rng)
  if all(
    min(_capacity(labels[group])) >= size
    for group, size in zip(groups, sizes, strict=True)
  ):
    drawn = [
      (_genuine(labels, group, size, rng), _impostor(labels, group, size, rng))
      for group, size in zip(groups, sizes, strict=True)
    ]
  else:
    drawn = _dealt(labels, sizes, rng)
  pairs = np.concatenate([part for parts in drawn for part in parts])
  return PairSet(
    name=name,
    source=source,
    first=pairs[:, 0].astype(np.int32),
    second=pairs[:, 1].astype(np.int32),
    same=np.tile([True, False], folds).repeat(sizes.repeat(2)),
    fold=np.arange(folds, dtype=np.int32).repeat(2 * sizes),
  )


def fitting(
  labels: np.ndarray, *, at_most: int, folds: int = 10, apart: bool = False
) -> tuple[int, int]:
  """Returns how many pairs `random_pairs` can draw, and in how many folds.

  As many as there are, or fewer if then no person lies in two folds: at least
  half as many. Where the pairs of a kind are fewer than the folds, each makes a
  fold with one of the other kind.

  Args:
    labels: The person of each image.
    at_most: The most pairs that are wanted.
    folds: How many folds are wanted.
    apart: Whether nobody may lie in two folds, whatever that costs.

  Raises:
    ValueError: There are not two pairs of each kind, or `apart` not one of each
      kind in every fold.

  >>> fitting(np.repeat(np.arange(20), 5), at_most=2000)
  (400, 10)
  >>> fitting(np.repeat(np.arange(2), 2), at_most=2000)
  (4, 2)
  """
  genuine, impostor = _capacity(labels)
  half = min(genuine, impostor, at_most // 2)
  if half < 2:
    raise ValueError(
      f"{len(labels)} images of {len(np.unique(labels))} people make {genuine}"
      f" genuine and {impostor} impostor pairs; two of each are the least"
    )
  folds = min(folds, half)
  # Who lies in which fold is drawn; how many images of whom is not.
  groups = _split_people(labels, folds, np.random.default_rng(0))
  most = folds * min(min(_capacity(labels[group])) for group in groups)
  if apart and not most:
    raise ValueError(
      f"{len(labels)} images of {len(np.unique(labels))} people are too few for"
      f" {folds} folds without a person in two of them: each needs two people,"
      " one of them with two images"
    )
  if apart or half <= 2 * most:
    half = min(half, most)
  return 2 * half, folds


def _dealt(
  labels: np.ndarray, sizes: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Draws from all people at once, for folds that must share people."""
  everyone, half = np.arange(len(labels)), int(sizes.sum())
  genuine, impostor = _capacity(labels)
  if min(genuine, impostor) < half:
    raise ValueError(
      f"{len(labels)} images of {len(np.unique(labels))} people make"
      f" {genuine} genuine and {impostor} impostor pairs, too few for"
      f" {half} of each; ask for at most {2 * min(genuine, impostor)} pairs"
    )
  cuts = np.cumsum(sizes)[:-1]
  return zip(
    np.split(rng.permutation(_genuine(labels, everyone, half, rng)), cuts),
    np.split(rng.permutation(_impostor(labels, everyone, half, rng)), cuts),
    strict=True,
  )


def _split_people(
  labels: np.ndarray, folds: int, rng: np.random.Generator
) -> list[np.ndarray]:
  """Deals people to folds, largest first; returns the images of each fold."""
  people, person, counts = np.unique(
    labels, return_inverse=True, return_counts=True
  )
  order = np.lexsort((rng.permutation(len(people)), -counts))
  fold = np.empty(len(people), int)
  fold[order] = np.arange(len(people)) % folds
  return [np.flatnonzero(fold[person] == k) for k in range(folds)]


def _capacity(labels: np.ndarray) -> tuple[int, int]:
  """Returns how many genuine and how many impostor pairs there are."""
  counts = np.unique(labels, return_counts=True)[1]
  genuine = int((counts * (counts - 1) // 2).sum())
  return genuine, len(labels) * (len(labels) - 1) // 2 - genuine


def _genuine(
  labels: np.ndarray, group: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray:
  """Draws pairs [size, 2] of the same person, evenly over the people."""
  members = np.split(
    group[np.argsort(labels[group], kind="stable")],
    np.cumsum(np.unique(labels[group], return_counts=True)[1])[:-1],
  )
  capacity = np.asarray([len(m) * (len(m) - 1) // 2 for m in members])
  quota = np.zeros_like(capacity)
  while (missing := size - quota.sum()) > 0:
    quota[rng.permutation(np.flatnonzero(quota < capacity))[:missing]] += 1
  return np.concatenate(
    [
      members[k][_unrank(rng.choice(capacity[k], quota[k], replace=False))]
      for k in np.flatnonzero(quota)
    ]
  )


def _impostor(
  labels: np.ndarray, group: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray:
  """Draws pairs [size, 2] of different people, uniform over the images."""
  total = len(group) * (len(group) - 1) // 2
  tries = 2 * size
  while True:
    ranks = rng.choice(total, min(tries, total), replace=False)
    pairs = group[_unrank(ranks)]
    pairs = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]]
    if len(pairs) >= size:
      return pairs[:size]
    tries *= 2


def _unrank(ranks: np.ndarray) -> np.ndarray:
  """Turns k = b (b - 1) / 2 + a, 0 <= a < b, into rows of (a, b).

  >>> _unrank(np.arange(4)).tolist()
  [[0, 1], [0, 2], [1, 2], [0, 3]]
  """
  second = ((1 + np.sqrt(1 + 8 * ranks.astype(float))) // 2).astype(np.int64)
  return np.stack([ranks - second * (second - 1) // 2, second], axis=-1)
