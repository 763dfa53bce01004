"""Writing verification packs; `packs` tells the formats."""

import logging
import os
import pickle
from collections.abc import Callable

import numpy as np

from facejax.data.pairs import encoded_pairs, packs
from facejax.runtime import whole_files

logger = logging.getLogger(__name__)

# The oldest that keeps bytes as they are; what Python 3 can read.
_PROTOCOL = 4


def write_pack(
  path: str | os.PathLike[str],
  pairs: encoded_pairs.EncodedPairs,
  *,
  advance: Callable[[int], None] | None = None,
) -> None:
  """Writes pairs and their images to a pack, byte for byte as they are stored.

  Nothing is left at `path` but a whole pack, or what was there before.

  Args:
    path: Where to; the suffix says whether as `.bin` or as `.npz`.
    pairs: The pairs; every image must occur in one of them.
    advance: Told how many more images were read.

  Raises:
    FileNotFoundError: The folder of `path` does not exist.
    ValueError: Another suffix; no pair.
    images.BadImageError: An image cannot be read.
  """
  path = os.fspath(path)
  check_target(path)
  if not len(pairs):
    raise ValueError(f"there is no pair to write to {path!r}")
  files = []
  for k in range(len(pairs.files)):
    files.append(pairs.files.encoded(k))
    if advance is not None:
      advance(1)
  with whole_files.replacing(path) as draft, open(draft, "wb") as file:
    if path.lower().endswith(".npz"):
      np.savez(file, allow_pickle=False, **_arrays(pairs, files))
    else:
      pickle.dump(_lists(pairs, files), file, protocol=_PROTOCOL)


def check_target(path: str) -> None:
  """Checks that a pack can be written there, before any work is done.

  Raises:
    FileNotFoundError: Its folder does not exist.
    ValueError: Its suffix is neither `.bin` nor `.npz`, or it is a folder.
  """
  if os.path.splitext(path)[1].lower() not in packs.SUFFIXES:
    raise ValueError(
      f"{path!r}: a pack is called .bin, for InsightFace and others, or .npz,"
      " which keeps the folds and the names"
    )
  if os.path.isdir(path):
    raise ValueError(f"{path!r} is a folder")
  folder = os.path.dirname(path) or "."
  if not os.path.isdir(folder):
    raise FileNotFoundError(f"there is no folder {folder!r} to write to")


def _arrays(
  pairs: encoded_pairs.EncodedPairs, files: list[bytes]
) -> dict[str, np.ndarray]:
  names = "".join(f"{pairs.files.name(k)}\0" for k in range(len(files)))
  arrays = {
    "version": np.asarray([packs.VERSION]),
    "images": np.frombuffer(b"".join(files), np.uint8),
    "ends": np.cumsum([len(data) for data in files]),
    "names": np.frombuffer(names.encode("utf-8", "replace"), np.uint8),
    "first": pairs.first,
    "second": pairs.second,
    "same": pairs.same,
    "fold": pairs.fold,
  }
  return {name: arrays[name].astype(packs.ARRAYS[name]) for name in arrays}


def _lists(
  pairs: encoded_pairs.EncodedPairs, files: list[bytes]
) -> tuple[list[bytes], list[bool]]:
  """The images of the pairs in turn, fold after fold."""
  order = np.argsort(pairs.fold, kind="stable")
  meant = encoded_pairs.folds_in_order(len(pairs))
  if (np.unique(pairs.fold[order], return_inverse=True)[1] != meant).any():
    logger.warning(
      "a .bin has no room for folds: readers will cut %d pairs into ten equal"
      " folds, and not as the list does; a .npz keeps them",
      len(pairs),
    )
  sides = np.stack([pairs.first, pairs.second], axis=1)[order]
  # The pickle holds an object that occurs again only once.
  return [files[k] for k in sides.ravel()], pairs.same[order].tolist()
