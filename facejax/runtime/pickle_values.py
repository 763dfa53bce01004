"""The names that packs of images are pickled with, and what stands for them.

A pickle of bytes and arrays asks for a handful of functions of numpy and of
Python. None of them is ever called: what they would make is made here, as
plain values.
"""

import dataclasses
import math
from typing import Any

# The sizes of the types of numpy that images and labels are kept in.
_SIZES = {"b1": 1, "u1": 1, "i4": 4, "i8": 8}
_LATIN = ("latin1", "latin-1")


class UnpickleError(ValueError):
  """The pickle is damaged, or holds more than data."""


@dataclasses.dataclass(eq=False)
class Array:
  """What a pickle says of an array of numpy.

  Attributes:
    dtype: "b1", "u1", "i4" or "i8"; all little-endian. Empty until known.
    shape: Its shape.
    data: Its elements, in C order.
  """

  dtype: str = ""
  shape: tuple[int, ...] = ()
  data: bytes = b""


@dataclasses.dataclass(frozen=True)
class Dtype:
  """A type of numpy, such as "u1"."""

  name: str


@dataclasses.dataclass(frozen=True)
class Name:
  """Stands for something that the pickle would import."""

  name: str


class Maker:
  """Makes what the functions that a pickle names would make."""

  def __init__(self, room: int):
    """Takes the most bytes that may be made of text."""
    # Bytes that Python 3 writes for Python 2 come as text. Each is written
    # once, but a hostile file could ask for the same ones again and again.
    self._room = room

  def call(self, called: Any, arguments: Any) -> Any:
    """Returns what calling a name returns."""
    if not isinstance(called, Name) or not isinstance(arguments, tuple):
      raise UnpickleError("calls something other than a known name")
    if called.name not in _CALLS:
      raise UnpickleError(f"calls {called.name}, which is no function")
    return _CALLS[called.name](self, *arguments)

  def _encode(self, text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or _text(encoding) not in _LATIN:
      raise UnpickleError("encodes something other than latin-1 text")
    self._room -= len(text)
    if self._room < 0:
      raise UnpickleError("makes more bytes than it holds")
    return text.encode("latin-1")

  def _bytearray(self, value: Any = b"", *encoding: Any) -> bytes:
    return value if isinstance(value, bytes) else self._encode(value, *encoding)

  def _dtype(self, name: Any, *_: Any) -> Dtype:
    short = _text(name).lstrip("|<")
    if short not in _SIZES:
      raise UnpickleError(
        f"has an array of numpy type {short[:40]!r}; packs of images have"
        f" {', '.join(_SIZES)}"
      )
    return Dtype(short)

  def _reconstruct(self, kind: Any, *_: Any) -> Array:
    if kind != Name("ndarray"):
      raise UnpickleError("makes an array of a class that is not numpy's own")
    return Array()

  def _frombuffer(self, data: Any, dtype: Any, shape: Any, _: Any) -> Array:
    return _fill(Array(), data, dtype, shape)

  def _scalar(self, dtype: Any, data: Any) -> bool | int:
    return integers(_fill(Array(), data, dtype, (1,)))[0]


_CALLS = {
  "encode": Maker._encode,
  "bytearray": Maker._bytearray,
  "dtype": Maker._dtype,
  "_reconstruct": Maker._reconstruct,
  "_frombuffer": Maker._frombuffer,
  "scalar": Maker._scalar,
}
# Exact names only: whoever allows all of a module allows too much.
_NAMES = {
  ("_codecs", "encode"),
  ("builtins", "bytearray"),
  ("__builtin__", "bytearray"),
  ("numpy", "ndarray"),
  ("numpy", "dtype"),
  ("numpy.core.multiarray", "_reconstruct"),
  ("numpy.core.multiarray", "scalar"),
  ("numpy.core.numeric", "_frombuffer"),
  ("numpy._core.multiarray", "_reconstruct"),
  ("numpy._core.multiarray", "scalar"),
  ("numpy._core.numeric", "_frombuffer"),
}


def find(module: Any, name: Any) -> Name:
  """Returns what stands for a name.

  Raises:
    UnpickleError: It is none of those that packs of images are written with.
  """
  known = isinstance(module, str) and isinstance(name, str)
  if known and (module, name) in _NAMES:
    return Name(name)
  shown = f"{module[:80]}.{name[:80]}" if known else "something without a name"
  raise UnpickleError(
    f"asks for {shown}, which no pack of images needs; nothing was run"
  )


def build(made: Any, state: Any) -> None:
  """Gives an array that was just made its content."""
  if isinstance(made, Dtype):
    if not isinstance(state, tuple) or _text(state[1]) not in ("|", "<"):
      raise UnpickleError("has an array that is not little-endian")
  elif isinstance(made, Array) and not made.dtype:
    _, shape, dtype, _, data = state
    _fill(made, data, dtype, shape)
  else:
    raise UnpickleError("sets the state of something other than a new array")


def integers(array: Array) -> list[bool] | list[int]:
  """Returns the elements of an array."""
  if array.dtype == "b1":
    return [value != 0 for value in array.data]
  size, signed = _SIZES[array.dtype], array.dtype.startswith("i")
  return [
    int.from_bytes(array.data[at : at + size], "little", signed=signed)
    for at in range(0, len(array.data), size)
  ]


def _fill(array: Array, data: Any, dtype: Any, shape: Any) -> Array:
  if not isinstance(dtype, Dtype) or not isinstance(data, bytes):
    raise UnpickleError("has an array whose elements are not plain numbers")
  if not isinstance(shape, tuple) or not all(
    isinstance(side, int) and 0 <= side <= len(data) for side in shape[:33]
  ):
    raise UnpickleError("has an array larger than the bytes that it brings")
  if len(shape) > 32 or math.prod(shape) * _SIZES[dtype.name] != len(data):
    raise UnpickleError(
      f"has an array of shape {shape[:4]} and type {dtype.name} in"
      f" {len(data)} bytes"
    )
  array.dtype, array.shape, array.data = dtype.name, shape, data
  return array


def _text(value: Any) -> str:
  """Text of Python 3, or of Python 2, where it is bytes."""
  if isinstance(value, bytes):
    return value.decode("ascii")
  if not isinstance(value, str):
    raise UnpickleError("has something other than text where text belongs")
  return value
