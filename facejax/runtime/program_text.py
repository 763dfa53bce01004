"""What a compiled program says of itself: loops, collectives, copies, cycles.

Reads the text of an optimised program (`jax.stages.Compiled.as_text`), whose
form is XLA's own and may change between versions: what is not understood is
left out, not guessed.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Sequence

import jax
import numpy as np

_KINDS = (
  "all-gather",
  "all-reduce",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)
_BITS = {
  **{"pred": 8, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "bf16": 16, "f16": 16},
  **{"s32": 32, "u32": 32, "f32": 32, "s64": 64, "u64": 64, "f64": 64},
  **{"f8e4m3fn": 8, "f8e5m2": 8, "s4": 4, "u4": 4},
}
# `%name (parameters) -> result {`, the first line of a computation.
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{\s*$")
# `%name = type opcode(operands), attributes`; a type may be a tuple.
_LINE = re.compile(
  r"^\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([a-z][\w\-]*)\((.*)$"
)
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a program.

  Attributes:
    name: of its result.
    type: such as "f32[8,128]{1,0}", or a tuple of types.
    opcode: such as "fusion".
    rest: operands and attributes.
    computation: where it stands.
  """

  name: str
  type: str
  opcode: str
  rest: str
  computation: str

  @property
  def called(self) -> list[str]:
    """Computations that it names, such as the body of a loop."""
    return re.findall(
      r"(?:body|condition|calls|to_apply)=%?([\w.\-]+)", self.rest
    )

  @property
  def operands(self) -> list[str]:
    """Names of the values that it is given."""
    # They end at the first bracket: none of them holds one.
    return re.findall(r"%([\w.\-]+)", self.rest.partition(")")[0])


@dataclasses.dataclass(frozen=True)
class Collective:
  """Like messages of a program.

  Attributes:
    kind: such as "all-reduce".
    axis: of the mesh, "data", "model" or "data, model".
    count: how often a step has one.
    size: bytes of all of them, of the larger of what goes in and comes out.
    in_loop: whether they stand in a loop, once a block.
  """

  kind: str
  axis: str
  count: int
  size: int
  in_loop: bool


class ProgramText:
  """A program, taken apart.

  Attributes:
    computations: by name, the instructions of each by theirs, in order.
    roots: by name of a computation, that of the value that it results in.
    times: how often a step runs each computation that is not inside a fusion.

  >>> one = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda i, x: x @ x, x))
  >>> text = one.lower(jax.ShapeDtypeStruct((4, 4), "float32"))
  >>> sorted({*ProgramText(text.compile().as_text()).times.values()})
  [1, 3]
  """

  def __init__(self, text: str):
    self.computations: dict[str, dict[str, Instruction]] = {}
    self.roots: dict[str, str] = {}
    entry = computation = ""
    for line in text.splitlines():
      if head := _HEAD.match(line):
        computation = head[2]
        self.computations[computation] = {}
        entry = computation if head[1] else entry
      elif computation and (found := _LINE.match(line)):
        name, kind, opcode, rest = found.groups()
        one = Instruction(name, kind, opcode, rest, computation)
        self.computations[computation][name] = one
        if line.lstrip().startswith("ROOT "):
          self.roots[computation] = name
    self.times = self._count(entry)

  @property
  def instructions(self) -> Iterator[Instruction]:
    """Of all computations."""
    for computation in self.computations.values():
      yield from computation.values()

  def operands_of(self, one: Instruction) -> list[Instruction]:
    """The instructions that made what one is given."""
    place = self.computations[one.computation]
    return [place[name] for name in one.operands if name in place]

  def _count(self, entry: str) -> dict[str, int]:
    times = {entry: 1}
    waiting = [entry]
    while waiting:
      place = waiting.pop()
      for one in self.computations.get(place, {}).values():
        for name, count in self._runs(one):
          times[name] = times.get(name, 0) + count * times[place]
          waiting.append(name)
    return times

  def _runs(self, one: Instruction) -> Iterable[tuple[str, int]]:
    """Computations that an instruction runs, and how often."""
    if one.opcode == "while":
      body, condition = (
        re.findall(rf"{word}=%?([\w.\-]+)", one.rest)[0]
        for word in ("body", "condition")
      )
      known = re.findall(r'"known_trip_count":\{"n":"(\d+)"', one.rest)
      # A counter from 0 is compared with a constant of the condition.
      known = known or [
        number
        for line in self.computations.get(condition, {}).values()
        if line.opcode == "constant" and "[]" in line.type
        for number in re.findall(r"^(\d+)\)", line.rest)
      ]
      yield body, int(known[0]) if len(known) == 1 else 1
    elif one.opcode in ("call", "async-start"):
      yield from ((name, 1) for name in one.called)
    elif one.opcode == "conditional":
      # Whichever branch is taken; counted as if all were.
      branches = re.findall(r"branch_computations=\{([^}]*)\}", one.rest)
      names = branches[0].split(",") if branches else []
      names += re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", one.rest)
      yield from ((name.strip().lstrip("%"), 1) for name in names)

  def cycles(self) -> int:
    """Cycles of a step as a TPU's compiler expects them; 0 where it is mute."""
    total = 0
    for one in self.instructions:
      if found := _CYCLES.search(one.rest):
        total += int(found[1]) * self.times.get(one.computation, 0)
    return total

  def collectives(self, mesh: jax.sharding.Mesh) -> list[Collective]:
    """What crosses the devices in a step, like with like, largest first."""
    sums: dict[tuple[str, str, bool], tuple[int, int]] = {}
    for one in self.instructions:
      kind = one.opcode.removesuffix("-start")
      times = self.times.get(one.computation, 0)
      if kind not in _KINDS or not times:
        continue
      key = kind, _axis(one.rest, mesh), times > 1
      count, size = sums.get(key, (0, 0))
      sums[key] = count + times, size + times * self._moved(one)
    found = [
      Collective(kind, axis, *numbers, in_loop=loop)
      for (kind, axis, loop), numbers in sums.items()
    ]
    return sorted(found, key=lambda one: -one.size)

  def _moved(self, one: Instruction) -> int:
    """Bytes of a message: the larger of its operands and its result."""
    given = sum(size_of(operand.type) for operand in self.operands_of(one))
    result = size_of(one.type)
    if one.opcode.endswith("-start"):
      # Its result holds the operands too.
      result -= given
    return max(given, result)

  def rewritten(self, shape: Sequence[int]) -> list[Instruction]:
    """Copies, transposes and conversions of whole arrays [shape].

    What an in-place update should not have: it moves the array once more.
    """
    wanted = sorted(shape)
    found = []
    for one in self.instructions:
      arrays = [
        sorted(int(n) for n in dims.split(",") if n)
        for _, dims in _SHAPE.findall(one.type)
      ]
      if wanted not in arrays or one.computation not in self.times:
        continue
      root = one.opcode
      if root == "fusion":
        name = next(filter(self.roots.get, one.called), "")
        root = self.computations[name][self.roots[name]].opcode if name else ""
      if root in ("copy", "copy-start", "transpose", "convert"):
        found.append(one)
    return found

  def products(self) -> list[tuple[str, ...]]:
    """The types of the operands of each matrix product and convolution."""
    found = []
    for one in self.instructions:
      if one.opcode in ("dot", "convolution"):
        types = [operand.type for operand in self.operands_of(one)]
        found.append(tuple(kind.partition("[")[0] for kind in types))
    return found


def size_of(text: str) -> int:
  """Bytes of all arrays that a type names.

  >>> size_of("(f32[8,128]{1,0}, bf16[16])")
  4128
  """
  total = 0
  for kind, dims in _SHAPE.findall(text):
    numbers = [int(n) for n in dims.split(",") if n]
    total += _BITS.get(kind, 0) * math.prod(numbers) // 8
  return total


def _axis(rest: str, mesh: jax.sharding.Mesh) -> str:
  """Which axes of the mesh a message crosses; "?" if that is not to be told."""
  first = _first_group(rest, mesh.size)
  ids = np.arange(mesh.size).reshape(mesh.devices.shape)
  model = len(ids[0])
  groups = {
    tuple(ids.ravel()): "data, model" if 1 < model < mesh.size else "",
    tuple(ids[:, 0]): "data",
    tuple(ids[0]): "model",
  }
  return groups.get(tuple(first), "?")


def _first_group(rest: str, size: int) -> list[int]:
  """The devices of the first of the groups that an instruction names."""
  if found := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
    return [int(n) for n in found[1].split(",")]
  if found := re.search(
    r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", rest
  ):
    dims = [int(n) for n in found[3].split(",")]
    ids = np.arange(math.prod(dims)).reshape(dims)
    if found[4]:
      ids = ids.transpose([int(n) for n in found[4].split(",")])
    return ids.reshape(int(found[1]), int(found[2]))[0].tolist()
  if found := re.search(r"replica_groups=mesh\[([^\]]+)\] \{([^}]*)\}", rest):
    axes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
    ids = np.arange(math.prod(map(int, axes.values())))
    ids = ids.reshape([int(n) for n in axes.values()])
    wanted = re.findall(r"'(\w+)'", found[2])
    index = [slice(None) if name in wanted else 0 for name in axes]
    return ids[tuple(index)].ravel().tolist()
  return list(range(size))
