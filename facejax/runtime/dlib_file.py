"""Reads nets that dlib has stored, and runs nothing of what is in them.

dlib writes a net from the outside in: the loss, a version for each layer down
to the input, then what each layer holds, from the input up to the last one.
Numbers are a byte that counts the bytes of the number behind it, the highest
bit for its sign; floats are a mantissa and an exponent of 2, but the values of
tensors, which are four bytes each.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import NoReturn

import numpy as np

# Larger than any face net, and what a damaged number must not ask for.
_MOST_BYTES = 1 << 30
_MOST_LAYERS = 10_000
_MOST_TEXT = 64
_NEGATIVE, _COUNT = 0x80, 0x0F


@dataclasses.dataclass(frozen=True)
class StoredLayer:
  """What a layer holds.

  Attributes:
    name: such as con_4; the number is that of the format.
    numbers: of its form: of a convolution its filters, height, width, strides
      and padding, of a pooling the last six of these.
    values: what it has learnt, in one row.
  """

  name: str
  numbers: tuple[int, ...] = ()
  values: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.float32)
  )


@dataclasses.dataclass(frozen=True)
class StoredNet:
  """A net for images of colours, as dlib stores it.

  Attributes:
    loss: the name of its loss, and two numbers of it.
    mean: what is taken off red, green and blue before they are divided by 256.
    image_size: (height, width).
    layers: from the input to the output.
  """

  loss: tuple[str, float, float]
  mean: tuple[float, float, float]
  image_size: tuple[int, int]
  layers: tuple[StoredLayer, ...]


def read(path: str | os.PathLike[str]) -> StoredNet:
  """The net of a file.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: if it is no such net, or is damaged; the message says where.
  """
  path = pathlib.Path(path)
  size = path.stat().st_size
  if size > _MOST_BYTES:
    raise ValueError(f"{path}: {size:,} bytes are no face net of dlib's")
  return _Reader(path.read_bytes(), str(path)).net()


class _Reader:
  """Goes through the bytes; every step says what it expected."""

  def __init__(self, data: bytes, name: str):
    self._data, self._name, self._at = data, name, 0

  def net(self) -> StoredNet:
    """All of the file."""
    self._expect(1, "the version of a loss")
    loss = (self._text(), self._float(), self._float())
    # Of each layer from the outermost in, its version alone; 3 is the input's.
    for _ in range(_MOST_LAYERS):
      version = self._integer()
      if version == 3:
        break
      if version not in (1, 2):
        self._fail(f"a layer of version {version}, where 1 or 2 is known")
    else:
      self._fail(f"more than {_MOST_LAYERS:,} layers")
    kind = self._text()
    if kind != "input_rgb_image_sized":
      self._fail(f"an input {kind!r}, where images of one size are known")
    mean = (self._float(), self._float(), self._float())
    size = (self._integer(), self._integer())
    layers = []
    while self._at < len(self._data):
      layers.append(self._layer(first=not layers))
      if len(layers) > _MOST_LAYERS:
        self._fail(f"more than {_MOST_LAYERS:,} layers")
    return StoredNet(loss, mean, size, tuple(layers))

  def _layer(self, *, first: bool) -> StoredLayer:
    name = self._text()
    kinds: Mapping[str, Callable[[str], StoredLayer]] = {
      "con_4": self._convolution,
      "affine_": self._affine,
      "relu_": StoredLayer,
      "add_prev_": StoredLayer,
      "max_pool_2": self._pooling,
      "avg_pool_2": self._pooling,
      "fc_2": self._linear,
    }
    if name not in kinds:
      self._fail(f"a layer {name!r}; there are {', '.join(kinds)}")
    layer = kinds[name](name)
    # Three flags, and what it kept of the last batch.
    self._take(3)
    for _ in range(3):
      self._tensor()
    if first:
      self._integer()
    return layer

  def _convolution(self, name: str) -> StoredLayer:
    values = self._tensor()
    numbers = tuple(self._integer() for _ in range(7))
    self._shapes(2)
    self._rates()
    return StoredLayer(name, numbers, values)

  def _affine(self, name: str) -> StoredLayer:
    values = self._tensor()
    self._shapes(2)
    self._expect(0, "affine layers of channels")
    return StoredLayer(name, (), values)

  def _pooling(self, name: str) -> StoredLayer:
    return StoredLayer(name, tuple(self._integer() for _ in range(6)))

  def _linear(self, name: str) -> StoredLayer:
    outputs, inputs = self._integer(), self._integer()
    values = self._tensor()
    self._shapes(2)
    self._expect(1, "a linear layer without a bias")
    self._rates()
    return StoredLayer(name, (inputs, outputs), values)

  def _shapes(self, count: int) -> None:
    """How a layer's values are divided, which follows from its numbers."""
    for _ in range(5 * count):
      self._integer()

  def _rates(self) -> None:
    """How fast it was trained."""
    for _ in range(4):
      self._float()

  def _tensor(self) -> np.ndarray:
    self._expect(2, "the version of a tensor")
    count = 1
    for _ in range(4):
      side = self._integer()
      if side < 0:
        self._fail(f"a tensor of {side} values")
      count *= side
    # Compared before anything of that size is made.
    if 4 * count > len(self._data) - self._at:
      self._fail(f"{count:,} values, which the file is too short for")
    values = np.frombuffer(self._take(4 * count), "<f4").astype(np.float32)
    if not np.isfinite(values).all():
      self._fail("a tensor with values that are not finite")
    return values

  def _text(self) -> str:
    length = self._integer()
    if not 0 < length <= _MOST_TEXT:
      self._fail(f"a name of {length} bytes")
    try:
      return self._take(length).decode("ascii")
    except UnicodeDecodeError:
      self._fail("a name that is none")

  def _float(self) -> float:
    mantissa, exponent = self._integer(), self._integer()
    if abs(exponent) > 1000 or abs(mantissa) >= 1 << 63:
      self._fail("a number that is not finite")
    return mantissa * 2.0**exponent

  def _expect(self, value: int, what: str) -> None:
    found = self._integer()
    if found != value:
      self._fail(f"{found} for {what}, which is known as {value}")

  def _integer(self) -> int:
    head = self._take(1)[0]
    value = int.from_bytes(self._take(head & _COUNT), "little")
    return -value if head & _NEGATIVE else value

  def _take(self, count: int) -> bytes:
    found = self._data[self._at : self._at + count]
    if len(found) < count:
      self._fail("its end, where more was expected")
    self._at += count
    return found

  def _fail(self, what: str) -> NoReturn:
    raise ValueError(
      f"{self._name!r} is no face net that dlib stored: at byte {self._at:,} it"
      f" has {what}"
    )
