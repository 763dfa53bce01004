"""Verification packs: pairs and their images in one file.

Two formats are read and written:

`.bin`, of InsightFace: a pickle of (list of encoded images, list of bool), the
images of pair i at 2 i and 2 i + 1. It has no folds: ten in file order are
meant. Being a pickle it is never unpickled here, see `unpickle`.

`.npz`, of facejax: numpy arrays, which `numpy.load` opens without pickles.
`images` uint8, all files one after another, and `ends` int64, where each ends;
`names` uint8, the name of each image and a zero byte; `first` and `second`
int32, `same` bool and `fold` int32 for each pair; `version` int32, one number.
"""

import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from facejax.data.pairs import encoded_pairs
from facejax.runtime import (
  file_kinds,
  pickle_machine,
  pickle_values,
  text_lines,
)

MAX_BYTES = 4 * 1024**3
SUFFIXES = (".bin", ".npz")
VERSION = 1
_ZIP = b"PK\x03\x04"
ARRAYS = {
  "version": "int32",
  "images": "uint8",
  "ends": "int64",
  "names": "uint8",
  "first": "int32",
  "second": "int32",
  "same": "bool",
  "fold": "int32",
}


class PackedImages:
  """Images in memory; an `encoded.EncodedImages` that pickles whole."""

  def __init__(self, blob: np.ndarray, ends: np.ndarray, names: Sequence[str]):
    """Takes them as they are.

    Args:
      blob: uint8, all images one after another.
      ends: int64 [n], where each ends.
      names: `identity/file` of each.
    """
    self._blob = blob
    self._ends = np.concatenate([np.zeros(1, np.int64), ends])
    self._names = names
    owners = [name.rpartition("/")[0] for name in names]
    number = {owner: k for k, owner in enumerate(dict.fromkeys(owners))}
    self.class_names = list(number)
    self.labels = np.asarray([number[owner] for owner in owners], np.int32)

  @property
  def num_classes(self) -> int:
    return len(self.class_names)

  def __len__(self) -> int:
    return len(self._names)

  def encoded(self, index: int) -> bytes:
    if not 0 <= index < len(self):
      raise IndexError(f"image {index} of {len(self)}")
    return self._blob[self._ends[index] : self._ends[index + 1]].tobytes()

  def name(self, index: int) -> str:
    return self._names[index]


def is_pack(path: str | os.PathLike[str]) -> bool:
  """Returns whether a file is a pack, by its first bytes or else its suffix."""
  if not os.path.isfile(path):
    return False
  with open(path, "rb") as file:
    head = file.read(len(_ZIP))
  # Text in UTF-8 begins with neither.
  return (
    head == _ZIP
    or head[:1] == pickle.PROTO
    or os.path.splitext(path)[1].lower() in SUFFIXES
  )


def read_pack(path: str | os.PathLike[str]) -> encoded_pairs.EncodedPairs:
  """Reads a `.bin` of InsightFace or a `.npz` of facejax, whatever it is called.

  The images are kept in memory, and those that occur more than once only once.
  They are not decoded. A `.bin` does not say who they show: all are listed
  under one identity, called like the pack.

  Args:
    path: The file, of at most 4 GiB.

  Returns:
    The pairs in the order of the file.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: It is no pack, damaged, or a pickle that asks for code.
  """
  if not os.path.isfile(path):
    raise FileNotFoundError(f"there is no pack {os.fspath(path)!r}")
  file_kinds.refuse(path, "a pack of pairs", ("npz", "zip", "pickle"))
  size = os.path.getsize(path)
  if size > MAX_BYTES:
    raise ValueError(
      f"{os.fspath(path)!r} has {size:,} bytes, more than the {MAX_BYTES:,}"
      " that a pack may have, for it is kept in memory"
    )
  with open(path, "rb") as file:
    zipped = file.read(len(_ZIP)) == _ZIP
    file.seek(0)
    try:
      return _read_npz(file, size) if zipped else _read_bin(file)
    except _BadPackError as error:
      message = f"the pack {os.fspath(path)!r} {error}"
    except pickle_values.UnpickleError as error:
      message = f"{os.fspath(path)!r} is no pack of images: it {error}"
  raise ValueError(message)


class _BadPackError(ValueError):
  """What is wrong with a pack, without its name."""


def _read_bin(file: BinaryIO) -> encoded_pairs.EncodedPairs:
  stem = text_lines.printable(os.path.splitext(os.path.basename(file.name))[0])
  pack = pickle_machine.read(file.read())
  if not isinstance(pack, list | tuple) or len(pack) != 2:
    raise _BadPackError("does not hold two lists, of images and of labels")
  same = _same(pack[1])
  members = pack[0]
  if not isinstance(members, list | tuple) or len(members) != 2 * len(same):
    held = len(members) if isinstance(members, list | tuple) else "no list of"
    raise _BadPackError(
      f"holds {held} images for {len(same)} pairs; two are needed for each"
    )
  place: dict[bytes, int] = {}
  order = [
    place.setdefault(_file(member, k), len(place))
    for k, member in enumerate(members)
  ]
  return encoded_pairs.EncodedPairs(
    files=PackedImages(
      np.frombuffer(b"".join(place), np.uint8),
      np.cumsum([len(data) for data in place], dtype=np.int64),
      [f"{stem}/{k:06d}" for k in range(len(place))],
    ),
    first=np.asarray(order[0::2], np.int32),
    second=np.asarray(order[1::2], np.int32),
    same=same,
    fold=encoded_pairs.folds_in_order(len(same)),
  )


def _same(labels: Any) -> np.ndarray:
  if isinstance(labels, pickle_values.Array) and len(labels.shape) == 1:
    labels = pickle_values.integers(labels)
  if not isinstance(labels, list | tuple) or not labels:
    raise _BadPackError("has no list that says which pairs are genuine")
  for k, label in enumerate(labels):
    if not isinstance(label, int) or label not in (0, 1):
      raise _BadPackError(f"does not say by 0 or 1 whether pair {k} is genuine")
  return np.asarray(labels, bool)


def _file(member: Any, index: int) -> bytes:
  """Returns the bytes of an encoded image, kept as bytes or as an array."""
  if isinstance(member, bytes):
    return member
  if not isinstance(member, pickle_values.Array) or member.dtype != "u1":
    raise _BadPackError(f"has something other than bytes for image {index}")
  if max(member.shape) != len(member.data):
    raise _BadPackError(
      f"has pixels of shape {member.shape} for image {index}, not an image file"
    )
  return member.data


def _read_npz(file: BinaryIO, size: int) -> encoded_pairs.EncodedPairs:
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    # The readers of zip files and of arrays raise anything on damaged bytes.
    try:
      with zipfile.ZipFile(file) as archive:
        arrays = {
          name: _array(archive, name, np.dtype(dtype), size)
          for name, dtype in ARRAYS.items()
        }
    except _BadPackError:
      raise
    except (Exception, RecursionError) as error:
      raise _BadPackError(
        f"is no pack of facejax, or damaged ({type(error).__name__}: {error})"
      ) from None
  names = bytes(arrays["names"]).decode("utf-8", "backslashreplace")
  _check(arrays, names.count("\0"))
  return encoded_pairs.EncodedPairs(
    files=PackedImages(
      arrays["images"], arrays["ends"], names.split("\0")[:-1]
    ),
    **{name: arrays[name] for name in ("first", "second", "same", "fold")},
  )


def _array(
  archive: zipfile.ZipFile, name: str, dtype: np.dtype, size: int
) -> np.ndarray:
  """Reads one array, without believing any size that it claims."""
  member = archive.getinfo(f"{name}.npy")
  stored = member.compress_type == zipfile.ZIP_STORED
  if not stored or max(member.file_size, member.compress_size) > size:
    raise _BadPackError(
      f"holds {name} compressed, or claims too much for it; packs are not"
      " compressed, for images are so already"
    )
  data = archive.read(member)
  header = io.BytesIO(data)
  if np.lib.format.read_magic(header) != (1, 0):
    raise _BadPackError(f"holds {name} in a version of .npy that is not 1.0")
  shape, _, found = np.lib.format.read_array_header_1_0(header)
  length = (len(data) - header.tell()) // dtype.itemsize
  if found != dtype or shape != (length,):
    raise _BadPackError(
      f"holds {name} as {found} {shape}; expected {dtype} ({length},)"
    )
  return np.frombuffer(data, dtype, length, header.tell())


def _check(arrays: dict[str, np.ndarray], names: int) -> None:
  """Compares the arrays with each other."""
  if arrays["version"].tolist() != [VERSION]:
    raise _BadPackError(
      f"is of version {arrays['version'].tolist()[:1]}; this facejax reads"
      f" version {VERSION}"
    )
  ends = arrays["ends"]
  steps = np.diff(ends, prepend=0)
  if not len(ends) or steps.min() < 0 or ends[-1] != len(arrays["images"]):
    raise _BadPackError("says that images end where none can")
  if names != len(ends) or arrays["names"][-1:].tolist() != [0]:
    raise _BadPackError(f"has {names} names for {len(ends)} images")
  pairs = len(arrays["same"])
  limits = {"first": len(ends), "second": len(ends), "fold": max(pairs, 1)}
  for name, limit in limits.items():
    values = arrays[name]
    if len(values) != pairs or not pairs:
      raise _BadPackError(f"has {len(values)} of {name} for {pairs} pairs")
    if values.min() < 0 or values.max() >= limit:
      raise _BadPackError(f"has values of {name} outside 0..{limit - 1}")
  if arrays["same"].view(np.uint8).max() > 1:
    raise _BadPackError("does not say by 0 or 1 which pairs are genuine")
