"""NumPy's .npz files, of which one member need not fit in memory."""

import math
import os
import struct
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

# Of a member's own header in the archive: its fixed part, and where in it the
# lengths of the two parts that follow stand.
_FIXED, _LENGTHS = 30, 26


def write(
  path: str | os.PathLike[str],
  members: Mapping[str, np.ndarray],
  *,
  large: str,
  shape: tuple[int, ...],
  blocks: Iterable[np.ndarray],
) -> None:
  """Writes an archive whose first member comes block by block.

  Equal values make equal bytes. Nothing is compressed, so that `mapped` works.

  Args:
    path: the file.
    members: small arrays by their names.
    large: name of the large one, float32.
    shape: its shape.
    blocks: its rows in order.
  """
  header: Any = {"descr": "<f4", "fortran_order": False, "shape": shape}
  with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
    with archive.open(f"{large}.npy", "w", force_zip64=True) as member:
      np.lib.format.write_array_header_1_0(member, header)
      for block in blocks:
        member.write(np.ascontiguousarray(block, "<f4").data)
    for name, values in members.items():
      with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, values, allow_pickle=False)


def mapped(path: str | os.PathLike[str], name: str) -> np.ndarray:
  """A member of an archive, read from the disk only as it is used.

  One that is compressed is read as a whole.

  Raises:
    KeyError: there is no such member.
    ValueError: it is damaged, or holds objects of Python.
    zipfile.BadZipFile: so is the archive.
  """
  with zipfile.ZipFile(path) as archive:
    info = archive.getinfo(f"{name}.npy")
  with open(path, "rb") as file:
    file.seek(info.header_offset)
    lengths = struct.unpack_from("<HH", file.read(_FIXED), _LENGTHS)
    file.seek(sum(lengths), os.SEEK_CUR)
    if info.compress_type == zipfile.ZIP_STORED:
      return _map(path, file, end=file.tell() + info.file_size)
  with np.load(path, allow_pickle=False) as archive:
    return archive[name]


def _map(path, file, *, end: int) -> np.ndarray:
  if np.lib.format.read_magic(file) != (1, 0):
    raise ValueError("a header of another version than 1.0")
  read = np.lib.format.read_array_header_1_0
  shape, column_major, dtype = read(file)
  if dtype.hasobject:
    raise ValueError("it holds objects of Python (pickle)")
  size = dtype.itemsize * math.prod(shape)
  if file.tell() + size > end:
    raise ValueError(f"it is cut short: {size:,} bytes go beyond its end")
  order = "F" if column_major else "C"
  if 0 in shape:
    return np.empty(shape, dtype, order)
  return np.memmap(path, dtype, "r", file.tell(), shape, order)
