"""Reads pickles as data: nothing that they name is imported or called.

A pickle is a program for a small stack machine. Python's machine imports and
calls whatever the program names. This one knows only the operations and names
that bytes, numbers, arrays and lists of them are written with, and refuses
everything else.

What it takes in memory and time is bounded by the size of the pickle: a length
is believed only if so many bytes follow.

References:
  The operations: Lib/pickletools.py of Python.
"""

import pickle
import pickletools
import re
import struct
from collections.abc import Callable
from typing import Any

from facejax.runtime import pickle_values

# Beside the bytes of an image a pack takes up to some fifty operations for it.
_MIN_STEPS = 1_000_000
_BYTES_PER_STEP = 16
_MAX_PROTOCOL = 5


def read(data: bytes) -> Any:
  """Returns what a pickle describes.

  Args:
    data: The pickle, of protocol 0 to 5, written by Python 2 or 3. Strings of
      Python 2 are taken for bytes.

  Returns:
    None, bool, int, bytes, str, or a list or tuple of such; a `pickled.Array`
    for an array of numpy. A list may contain itself.

  Raises:
    pickled.UnpickleError: It ends early, is malformed, or holds anything else.

  >>> read(pickle.dumps(([b"jpeg", b"png"], [True])))
  ([b'jpeg', b'png'], [True])
  """
  return Machine(data).read()


class Machine:
  """The stack, the marks in it, and the values kept for later.

  A machine for other pickles than packs of images says anew what `find`,
  `call` and `build` mean, and which `actions` there are.

  Attributes:
    kind: what the pickles describe, for messages.
    place: how far the data were read.

  Args:
    data: the pickle, and what may follow it.
    place: where it begins.
  """

  kind = "pack of images"

  def __init__(self, data: bytes, place: int = 0):
    self.place = place
    self.stack: list[Any] = []
    self.marks: list[int] = []
    self.memo: dict[int, Any] = {}
    self._maker = pickle_values.Maker(room=len(data))
    self._data = data

  @property
  def actions(self) -> dict[bytes, Callable[[Any], Any]]:
    """What each operation does, but for those that only push a value."""
    return ACTIONS

  def find(self, module: Any, name: Any) -> Any:
    """What stands for something that the pickle would import."""
    return pickle_values.find(module, name)

  def call(self, called: Any, arguments: Any) -> Any:
    """What calling a name returns."""
    return self._maker.call(called, arguments)

  def build(self, made: Any, state: Any) -> None:
    """Gives something that was just made its content."""
    pickle_values.build(made, state)

  def read(self) -> Any:
    """What the pickle describes.

    Raises:
      pickled.UnpickleError: see the function of this name.
    """
    try:
      return self.run()
    except pickle_values.UnpickleError:
      raise
    except (ValueError, TypeError, LookupError) as error:
      raise pickle_values.UnpickleError(
        f"is a damaged pickle: before byte {self.place}, {error}"
      ) from None

  def run(self) -> Any:
    actions = self.actions
    for _ in range(_MIN_STEPS + len(self._data) // _BYTES_PER_STEP):
      code = self.take(1)
      if code == pickle.STOP:
        return self.stack.pop()
      if code in _NUMBERS:
        self.stack.append(self.number(_NUMBERS[code]))
      elif code in _COUNTED:
        form, meaning = _COUNTED[code]
        self.stack.append(meaning(self.take(self.number(form))))
      elif code in _LINES:
        self.stack.append(_LINES[code](self.line()))
      elif code in _CONSTANTS:
        self.stack.append(_CONSTANTS[code])
      elif code in actions:
        actions[code](self)
      else:
        raise pickle_values.UnpickleError(
          f"uses the operation {_operation(code)}, which no {self.kind}"
          " needs; nothing was run"
        )
    raise pickle_values.UnpickleError(
      f"has more operations than a {self.kind.split()[0]} needs"
    )

  def take(self, size: int) -> bytes:
    if not 0 <= size <= len(self._data) - self.place:
      raise pickle_values.UnpickleError(
        f"ends early: byte {self.place} announces {size} bytes, and"
        f" {len(self._data) - self.place} follow"
      )
    self.place += size
    return self._data[self.place - size : self.place]

  def line(self) -> bytes:
    end = self._data.find(b"\n", self.place)
    if end < 0:
      raise pickle_values.UnpickleError(f"ends early, after byte {self.place}")
    return self.take(end + 1 - self.place)[:-1]

  def number(self, form: str) -> int:
    return struct.unpack(form, self.take(struct.calcsize(form)))[0]

  def last(self, count: int) -> list[Any]:
    """Takes values off the stack; the oldest comes first."""
    if not 0 <= count <= len(self.stack):
      raise pickle_values.UnpickleError("takes more values than there are")
    kept = len(self.stack) - count
    values = self.stack[kept:]
    del self.stack[kept:]
    return values

  def since_mark(self) -> list[Any]:
    return self.last(len(self.stack) - self.marks.pop())

  def push(self, value: Any) -> None:
    self.stack.append(value)

  def keep(self, key: int) -> None:
    self.memo[key] = self.stack[-1]

  def extend(self, values: list[Any]) -> None:
    if not isinstance(self.stack[-1], list):
      raise pickle_values.UnpickleError(
        "appends to something other than a list"
      )
    self.stack[-1].extend(values)


def _start(machine: Machine) -> None:
  protocol = machine.number("<B")
  if protocol > _MAX_PROTOCOL:
    raise pickle_values.UnpickleError(
      f"is a pickle of protocol {protocol}; write it with {_MAX_PROTOCOL} or"
      " lower"
    )


def _build(machine: Machine) -> None:
  made, state = machine.last(2)
  machine.build(made, state)
  machine.push(made)


def _operation(code: bytes) -> str:
  names = {op.code: op.name for op in pickletools.opcodes}
  return names.get(code.decode("latin-1"), repr(code))


def _truth_or_number(line: bytes) -> bool | int:
  return line == b"01" if line in (b"00", b"01") else int(line)


def _quoted(line: bytes) -> bytes:
  """What `repr` of Python 2 wrote."""
  if not _QUOTED.fullmatch(line):
    raise pickle_values.UnpickleError(
      "has a string that is not quoted as it should"
    )
  return line[1:-1].decode("unicode-escape").encode("latin-1")


def _signed(data: bytes) -> int:
  return int.from_bytes(data, "little", signed=True)


def _utf8(data: bytes) -> str:
  return str(data, "utf-8", "surrogatepass")


_QUOTED = re.compile(
  rb"""(['"])(?:(?!\1)[^\\\n]|\\(?:x[0-9a-f]{2}|[nrt\\'"]))*+\1""", re.DOTALL
)
_CONSTANTS = {
  pickle.NONE: None,
  pickle.NEWTRUE: True,
  pickle.NEWFALSE: False,
  pickle.EMPTY_TUPLE: (),
}
# Integers, by how they are stored.
_NUMBERS = {pickle.BININT: "<i", pickle.BININT1: "<B", pickle.BININT2: "<H"}
# Bytes after their length: how that is stored, and what they stand for.
_COUNTED: dict[bytes, tuple[str, Callable[[bytes], Any]]] = {
  pickle.SHORT_BINSTRING: ("<B", bytes),
  pickle.BINSTRING: ("<i", bytes),
  pickle.SHORT_BINBYTES: ("<B", bytes),
  pickle.BINBYTES: ("<I", bytes),
  pickle.BINBYTES8: ("<Q", bytes),
  pickle.BYTEARRAY8: ("<Q", bytes),
  pickle.SHORT_BINUNICODE: ("<B", _utf8),
  pickle.BINUNICODE: ("<I", _utf8),
  pickle.BINUNICODE8: ("<Q", _utf8),
  pickle.LONG1: ("<B", _signed),
  pickle.LONG4: ("<i", _signed),
}
# Text up to the end of the line.
_LINES: dict[bytes, Callable[[bytes], Any]] = {
  pickle.INT: _truth_or_number,
  pickle.LONG: lambda line: int(line.rstrip(b"L")),
  pickle.STRING: _quoted,
  pickle.UNICODE: lambda line: str(line, "raw-unicode-escape"),
}
ACTIONS: dict[bytes, Callable[[Any], Any]] = {
  pickle.PROTO: _start,
  # Frames only help reading from a stream.
  pickle.FRAME: lambda m: m.number("<Q"),
  pickle.MARK: lambda m: m.marks.append(len(m.stack)),
  pickle.EMPTY_LIST: lambda m: m.push([]),
  pickle.LIST: lambda m: m.push(m.since_mark()),
  pickle.APPEND: lambda m: m.extend(m.last(1)),
  pickle.APPENDS: lambda m: m.extend(m.since_mark()),
  pickle.TUPLE: lambda m: m.push(tuple(m.since_mark())),
  pickle.TUPLE1: lambda m: m.push(tuple(m.last(1))),
  pickle.TUPLE2: lambda m: m.push(tuple(m.last(2))),
  pickle.TUPLE3: lambda m: m.push(tuple(m.last(3))),
  pickle.PUT: lambda m: m.keep(int(m.line())),
  pickle.BINPUT: lambda m: m.keep(m.number("<B")),
  pickle.LONG_BINPUT: lambda m: m.keep(m.number("<I")),
  pickle.MEMOIZE: lambda m: m.keep(len(m.memo)),
  pickle.GET: lambda m: m.push(m.memo[int(m.line())]),
  pickle.BINGET: lambda m: m.push(m.memo[m.number("<B")]),
  pickle.LONG_BINGET: lambda m: m.push(m.memo[m.number("<I")]),
  pickle.GLOBAL: lambda m: m.push(m.find(_utf8(m.line()), _utf8(m.line()))),
  pickle.STACK_GLOBAL: lambda m: m.push(m.find(*m.last(2))),
  pickle.REDUCE: lambda m: m.push(m.call(*m.last(2))),
  pickle.BUILD: _build,
}
