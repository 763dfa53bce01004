"""Writes state dicts as `torch.save` does, without PyTorch.

A .pth file is a zip archive of a pickle, which says what tensors there are,
and of their numbers. `torch.load(path, weights_only=True)` opens it.
"""

import io
import math
import pathlib
import pickle
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

_FOLDER = "archive"
# The time of every entry: the same weights make the same file.
_TIME = (1980, 1, 1, 0, 0, 0)


def write(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes float32 arrays as an ordered dictionary of tensors.

  Args:
    path: the file.
    arrays: by name, in the order that they are to have.
  """
  entries = {
    "data.pkl": _pickle(arrays),
    "byteorder": b"little",
    **{
      f"data/{i}": np.ascontiguousarray(array, "<f4").tobytes()
      for i, array in enumerate(arrays.values())
    },
    "version": b"3\n",
  }
  with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
    for name, data in entries.items():
      archive.writestr(zipfile.ZipInfo(f"{_FOLDER}/{name}", _TIME), data)


def _pickle(arrays: Mapping[str, np.ndarray]) -> bytes:
  """The program that makes the dictionary; of protocol 2, as PyTorch's are."""
  out = io.BytesIO()
  out.write(pickle.PROTO + b"\x02")
  out.write(_ordered_dictionary())
  out.write(pickle.MARK)
  for i, (name, array) in enumerate(arrays.items()):
    out.write(_text(name) + _tensor(str(i), array))
  out.write(pickle.SETITEMS + pickle.STOP)
  return out.getvalue()


def _tensor(key: str, array: np.ndarray) -> bytes:
  """torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, {})."""
  strides = [math.prod(array.shape[i + 1 :]) for i in range(array.ndim)]
  storage = _tuple(
    _text("storage"),
    _name("torch", "FloatStorage"),
    _text(key),
    _text("cpu"),
    _integer(array.size),
  )
  arguments = _tuple(
    storage + pickle.BINPERSID,
    _integer(0),
    _tuple(*map(_integer, array.shape)),
    _tuple(*map(_integer, strides)),
    pickle.NEWFALSE,
    _ordered_dictionary(),
  )
  called = _name("torch._utils", "_rebuild_tensor_v2")
  return called + arguments + pickle.REDUCE


def _ordered_dictionary() -> bytes:
  called = _name("collections", "OrderedDict")
  return called + pickle.EMPTY_TUPLE + pickle.REDUCE


def _name(module: str, name: str) -> bytes:
  return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _tuple(*items: bytes) -> bytes:
  return pickle.MARK + b"".join(items) + pickle.TUPLE


def _text(text: str) -> bytes:
  data = text.encode()
  return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
  if value < 2**31:
    return pickle.BININT + struct.pack("<i", value)
  data = pickle.encode_long(value)
  return pickle.LONG1 + struct.pack("<B", len(data)) + data
