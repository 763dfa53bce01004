"""How many bytes the kernels of a compiled GPU program read and write."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from facejax.runtime import program_text

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

# The instructions of a computation, by name.
_Place = Mapping[str, program_text.Instruction]


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


def kernels(program: str) -> Iterator[Kernel]:
  """The kernels of a program, from its text after optimisation.

  A kernel reads each of its operands once and writes its results once, as if
  there were no caches. Of an array that it takes rows out of, only those rows
  count; of one that it writes rows into, only those rows.
  """
  text = program_text.ProgramText(program)
  # The program itself first, then what it runs.
  for loop, runs in text.times.items():
    for one in text.computations[loop].values():
      if one.opcode not in _FREE and not one.opcode.endswith("-done"):
        yield Kernel(one.name, *_bytes(text, one), runs, loop)


def _bytes(
  text: program_text.ProgramText, one: program_text.Instruction
) -> tuple[int, int]:
  """What a kernel reads and writes in one run."""
  if one.opcode == "fusion":
    inside = text.computations[one.called[0]]
    given = [i for i in inside.values() if i.opcode == "parameter"]
    root = inside[text.roots[one.called[0]]]
  else:
    # The same rules for an operation that stands alone.
    given = list(dict.fromkeys(text.operands_of(one)))
    inside = {i.name: i for i in (*given, one)}
    root = one
  return sum(_read(inside, i) for i in given), _written(inside, root)


def _read(inside: _Place, value: program_text.Instruction) -> int:
  """Bytes of a value that a computation reads."""
  whole, rows = program_text.size_of(value.type), 0
  for user in inside.values():
    if value.name not in user.operands:
      continue
    if user.opcode in _SLICES and user.operands[0] == value.name:
      # The same rows, if several take some.
      rows = max(rows, program_text.size_of(user.type))
    elif user.opcode == "bitcast":
      rows = max(rows, _read(inside, user))
    elif user.opcode in _WRITES and user.operands[0] == value.name:
      # Written into, not read; unless it is named as what is new, too.
      rows = max(rows, whole if value.name in user.operands[1:] else 0)
    elif user.opcode != "tuple":
      return whole
  return min(rows, whole)


def _written(inside: _Place, root: program_text.Instruction) -> int:
  """Bytes of a computation's results."""
  if root.opcode == "tuple":
    return sum(_written(inside, inside[part]) for part in root.operands)
  if root.opcode == "bitcast" and root.operands[0] in inside:
    return _written(inside, inside[root.operands[0]])
  if root.opcode in _WRITES:
    new = root.operands[_WRITES[root.opcode]]
    return program_text.size_of(inside[new].type)
  return 0 if root.opcode == "parameter" else program_text.size_of(root.type)
