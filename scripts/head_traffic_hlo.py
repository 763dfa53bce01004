"""How many bytes the kernels of a compiled GPU program read and write."""

import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

# `%name = TYPE opcode(operands), attributes`; ROOT before what is returned.
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_ARRAY = re.compile(r"(\w+?)(\d+)(?:e\w+)?\[([\d,]*)\]|pred\[([\d,]*)\]")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
# What starts no kernel: names of values, and the frames of other computations.
_FREE = frozenset(
  (
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "call",
    "conditional",
    "after-all",
    "opt-barrier",
    "iota",
    "partition-id",
    "replica-id",
  )
)
_SLICES = ("dynamic-slice", "slice", "gather")
_WRITES = {"dynamic-update-slice": 1, "scatter": 2}  # the operand that is new


class Kernel(NamedTuple):
  """A kernel of the program, and how often a step runs it.

  Attributes:
    name: the compiler's.
    read: bytes a run.
    written: likewise.
    runs: a step.
    loop: the computation that it stands in.
  """

  name: str
  read: int
  written: int
  runs: int
  loop: str

  @property
  def total(self) -> int:
    """Bytes a step."""
    return (self.read + self.written) * self.runs


@dataclasses.dataclass
class _Instruction:
  name: str
  shape: str
  opcode: str
  operands: list[str]
  attributes: str


@dataclasses.dataclass
class _Computation:
  instructions: dict[str, _Instruction]
  root: str = ""

  @functools.cached_property
  def users(self) -> dict[str, list[_Instruction]]:
    """Of each value, who reads it."""
    found: dict[str, list[_Instruction]] = {}
    for instruction in self.instructions.values():
      for name in set(instruction.operands):
        found.setdefault(name, []).append(instruction)
    return found

  @functools.cached_property
  def parameters(self) -> list[_Instruction]:
    """In the order of the operands of who calls it."""
    found = [i for i in self.instructions.values() if i.opcode == "parameter"]
    return sorted(found, key=lambda i: int(i.attributes.split(")")[0]))


def kernels(program: str) -> list[Kernel]:
  """The kernels of a program, from its text after optimisation.

  A kernel reads each of its operands once and writes its results once, as if
  there were no caches. Of an array that it takes rows out of, only those rows
  count; of one that it writes rows into, only those rows.
  """
  computations, entry = _parse(program)
  return list(_kernels(computations, entry, 1))


def _kernels(
  computations: dict[str, _Computation], name: str, runs: int
) -> Iterator[Kernel]:
  computation = computations[name]
  for instruction in computation.instructions.values():
    called = _called(instruction)
    if instruction.opcode == "while":
      trips = _TRIPS.search(instruction.attributes)
      turns = int(trips[1]) if trips else 1
      yield from _kernels(computations, called["body"], runs * turns)
    elif instruction.opcode == "call":
      yield from _kernels(computations, called["to_apply"], runs)
    elif instruction.opcode not in _FREE and not instruction.opcode.endswith(
      "-done"
    ):
      read, written = _bytes(computations, computation, instruction, called)
      yield Kernel(instruction.name, read, written, runs, name)


def _bytes(
  computations: dict[str, _Computation],
  computation: _Computation,
  instruction: _Instruction,
  called: dict[str, str],
) -> tuple[int, int]:
  """What a kernel reads and writes in one run."""
  if instruction.opcode == "fusion":
    inside = computations[called["calls"]]
    read = sum(_read(inside, p.name, p.shape) for p in inside.parameters)
    return read, _written(inside, inside.root)
  # The same rules for an operation that stands alone.
  alone = _Computation({instruction.name: instruction}, instruction.name)
  for name in instruction.operands:
    alone.instructions[name] = computation.instructions[name]
  read = sum(
    _read(alone, name, computation.instructions[name].shape)
    for name in set(instruction.operands)
  )
  return read, _written(alone, instruction.name)


def _read(computation: _Computation, name: str, shape: str) -> int:
  """Bytes of a value that a computation reads."""
  whole, rows = size(shape), 0
  for user in computation.users.get(name, []):
    if user.opcode in _SLICES and user.operands[0] == name:
      rows = max(rows, size(user.shape))  # the same rows, if several take some
    elif user.opcode == "bitcast":
      rows = max(rows, _read(computation, user.name, user.shape))
    elif user.opcode in _WRITES and user.operands[0] == name:
      # Written into, not read; unless it is named as what is new, too.
      rows = max(rows, whole if name in user.operands[1:] else 0)
    elif user.opcode != "tuple":
      return whole
  return min(rows, whole)


def _written(computation: _Computation, name: str) -> int:
  """Bytes of a computation's results."""
  root = computation.instructions[name]
  if root.opcode == "tuple":
    return sum(_written(computation, part) for part in root.operands)
  if root.opcode == "bitcast" and root.operands[0] in computation.instructions:
    return _written(computation, root.operands[0])
  if root.opcode in _WRITES:
    new = root.operands[_WRITES[root.opcode]]
    return size(computation.instructions[new].shape)
  return 0 if root.opcode == "parameter" else size(root.shape)


def size(shape: str) -> int:
  """Bytes of a shape as HLO writes it.

  >>> size("(f32[2,3]{1,0}, pred[4], bf16[])")
  30
  """
  total = 0
  for kind, bits, dims, flags in _ARRAY.findall(shape):
    count = 1
    for length in (dims or flags).split(","):
      count *= int(length or 1)
    total += count * (int(bits) // 8 if kind else 1)
  return total


def _called(instruction: _Instruction) -> dict[str, str]:
  """Computations that an instruction names: body, calls, to_apply."""
  named = re.findall(
    r"\b(body|calls|to_apply)=%?([\w.\-]+)", instruction.attributes
  )
  return dict(named)


def _parse(program: str) -> tuple[dict[str, _Computation], str]:
  """Its computations by name, and the name of the first to run."""
  computations: dict[str, _Computation] = {}
  entry, current = "", _Computation({})
  for line in program.splitlines():
    if head := _HEAD.match(line):
      current = computations[head[2]] = _Computation({})
      entry = head[2] if head[1] else entry
    elif found := _LINE.match(line):
      root, name, shape, opcode, rest = found.groups()
      # Operands end at the first bracket: none of them holds one here.
      inside, _, attributes = rest.partition(")")
      operands = re.findall(r"%([\w.\-]+)", inside)
      if opcode in ("parameter", "constant"):
        attributes = rest
      current.instructions[name] = _Instruction(
        name, shape, opcode, operands, attributes
      )
      current.root = name if root else current.root
  return computations, entry
