"""Tensors of a file, which are read when they are asked for."""

import dataclasses
import math
import struct
from collections.abc import Callable

import ml_dtypes
import numpy as np

# By the names of PyTorch's storages.
STORAGES = {
  "FloatStorage": np.dtype(np.float32),
  "DoubleStorage": np.dtype(np.float64),
  "HalfStorage": np.dtype(np.float16),
  "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
  "LongStorage": np.dtype(np.int64),
  "IntStorage": np.dtype(np.int32),
  "ShortStorage": np.dtype(np.int16),
  "CharStorage": np.dtype(np.int8),
  "ByteStorage": np.dtype(np.uint8),
  "BoolStorage": np.dtype(np.bool_),
}
_MAX_RANK = 32


@dataclasses.dataclass(frozen=True)
class Storage:
  """Numbers in a row that tensors are views of.

  Attributes:
    dtype: of each.
    count: how many.
    read: reads their bytes.
  """

  dtype: np.dtype
  count: int
  read: Callable[[], bytes]


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A view of a storage that lies within it.

  Attributes:
    storage: what it is a view of.
    start: where it begins.
    shape: its sizes.
    strides: steps between neighbours along each axis, in elements.

  Raises:
    ValueError: if it would reach beyond its storage, or repeats elements.
  """

  storage: Storage
  start: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]

  def __post_init__(self):
    numbers = (self.start, *self.shape, *self.strides)
    if (
      len(self.shape) != len(self.strides)
      or len(self.shape) > _MAX_RANK
      or not all(type(n) is int and 0 <= n < 2**62 for n in numbers)
    ):
      raise ValueError("a tensor's shape or strides are no such thing")
    size = math.prod(self.shape)
    steps = zip(self.shape, self.strides, strict=True)
    last = self.start + sum((length - 1) * stride for length, stride in steps)
    count = self.storage.count
    if size > count or self.start > count or (size and last >= count):
      raise ValueError(
        f"a tensor of shape {self.shape} reaches beyond its {count:,} numbers"
      )

  def numpy(self) -> np.ndarray:
    """Its elements.

    Raises:
      ValueError: if the file holds another number of them.
    """
    data, dtype = self.storage.read(), self.storage.dtype
    if len(data) != self.storage.count * dtype.itemsize:
      raise ValueError(
        f"{len(data):,} bytes are there for {self.storage.count:,} numbers of"
        f" {dtype}"
      )
    flat = np.frombuffer(data, dtype)[self.start :]
    strides = [stride * dtype.itemsize for stride in self.strides]
    view = np.lib.stride_tricks.as_strided(flat, self.shape, strides)
    return np.array(view, order="C")


def read_float(data: bytes) -> float:
  """A float of eight bytes, the largest first, as pickles have them."""
  return struct.unpack(">d", data)[0]
