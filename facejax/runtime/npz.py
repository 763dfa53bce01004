"""NumPy's .npz files, of which one member need not fit in memory."""

import math
import os
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
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


class Member:
  """One array of an archive, whose rows are read in order, block by block.

  Nothing is mapped and nothing but a block is held, compressed or not.

  Attributes:
    shape: of the array.
    dtype: of the array.
  """

  def __init__(self, path: str | os.PathLike[str], name: str):
    """Reads its header.

    Raises:
      KeyError: there is no such member.
      ValueError: it is damaged, stored column by column, or holds objects of
        Python.
      zipfile.BadZipFile: the archive is damaged.
    """
    self._path, self._name = path, f"{name}.npy"
    with zipfile.ZipFile(path) as archive, archive.open(self._name) as file:
      self.shape, self.dtype = _row_header(file)

  def blocks(self, rows: int) -> Iterator[np.ndarray]:
    """Yields arrays [rows, …], the last one what is left.

    Raises:
      ValueError: the member is cut short.
    """
    width = math.prod(self.shape[1:]) * self.dtype.itemsize
    with (
      zipfile.ZipFile(self._path) as archive,
      archive.open(self._name) as file,
    ):
      _row_header(file)
      for start in range(0, self.shape[0], rows):
        count = min(rows, self.shape[0] - start)
        data = file.read(count * width)
        if len(data) < count * width:
          raise ValueError(f"{self._name} is cut short")
        block = np.frombuffer(data, self.dtype)
        yield block.reshape(count, *self.shape[1:])


def _row_header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
  version = np.lib.format.read_magic(file)
  if version not in ((1, 0), (2, 0)):
    raise ValueError(f"a header of version {version}, not 1.0 or 2.0")
  read = (
    np.lib.format.read_array_header_1_0
    if version == (1, 0)
    else np.lib.format.read_array_header_2_0
  )
  shape, column_major, dtype = read(file)
  if dtype.hasobject:
    raise ValueError("it holds objects of Python (pickle)")
  if column_major and len(shape) > 1:
    raise ValueError(
      "it is stored column by column; save numpy.ascontiguousarray of it"
    )
  return shape, dtype
