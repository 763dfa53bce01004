"""A function as a flat list of operations: what writers of other formats read.

JAX traces the function for a batch of unknown size. Calls within calls are
inlined, and what follows from constants alone, the weights, is computed.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

# The name of the only size that is not known.
BATCH = "batch"
# Where operations keep the program that they call.
_CALLED = ("jaxpr", "call_jaxpr")


@dataclasses.dataclass(eq=False)
class Value:
  """What an operation makes, or the argument of the function.

  Attributes:
    shape: its sizes; None is that of the batch, or a multiple of it.
    maker: the operation; None for the argument.
    uses: how many operations, or results, take it.
  """

  shape: tuple[int | None, ...]
  maker: "Operation | None" = None
  uses: int = 0

  @property
  def rank(self) -> int:
    return len(self.shape)


Operand: TypeAlias = Value | np.ndarray


@dataclasses.dataclass(eq=False)
class Operation:
  """One primitive of JAX.

  Attributes:
    name: such as "add" or "conv_general_dilated".
    inputs: values, or constants.
    params: as JAX has them.
    output: what it makes.
  """

  name: str
  inputs: Sequence[Operand]
  params: Mapping[str, Any]
  output: Value


@dataclasses.dataclass(frozen=True)
class Operations:
  """A function of one argument with one result, in the order of its steps."""

  argument: Value
  operations: tuple[Operation, ...]
  result: Value


def trace(
  function: Callable[[jax.Array], jax.Array], shape: tuple[int, ...]
) -> Operations:
  """Traces a function of float32 [batch, *shape].

  Args:
    function: one array in, one array out.
    shape: of one item of the batch.

  >>> program = trace(lambda x: jnp.exp(x * jnp.sqrt(4.0)), (3,))
  >>> [operation.name for operation in program.operations]
  ['mul', 'exp']
  >>> program.result.shape
  (None, 3)
  """
  (batch,) = jax.export.symbolic_shape(BATCH)
  like = jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
  closed = jax.make_jaxpr(function)(like)
  argument = Value((None, *shape))
  operations: list[Operation] = []
  (result,) = _inline(closed.jaxpr, closed.consts, [argument], operations)
  if not isinstance(result, Value):
    raise ValueError("the result does not depend on the argument")
  program = Operations(argument, tuple(operations), result)
  return dataclasses.replace(program, operations=needed(program))


def needed(program: Operations) -> tuple[Operation, ...]:
  """The operations that the result depends on; counts the uses anew."""
  for operation in program.operations:
    operation.output.uses = 0
  program.argument.uses, program.result.uses = 0, 1
  kept = []
  for operation in reversed(program.operations):
    if not operation.output.uses:
      continue
    kept.append(operation)
    for operand in operation.inputs:
      if isinstance(operand, Value):
        operand.uses += 1
  return tuple(reversed(kept))


def prelu(program: Operations) -> Operations:
  """Writes max(x, 0) + a min(x, 0) as one operation "prelu" of x and a."""
  operations = []
  for operation in program.operations:
    operands = _prelu_operands(operation)
    if operands is not None:
      operation = dataclasses.replace(
        operation, name="prelu", inputs=operands, params={}
      )
      operation.output.maker = operation
    operations.append(operation)
  changed = dataclasses.replace(program, operations=tuple(operations))
  return dataclasses.replace(changed, operations=needed(changed))


def _prelu_operands(operation: Operation) -> tuple[Value, np.ndarray] | None:
  if operation.name != "add":
    return None
  for upper, scaled in _both_ways(operation):
    top, product = _made_by(upper, "max"), _made_by(scaled, "mul")
    for slope, lower in _both_ways(product):
      bottom = _made_by(lower, "min")
      if top is None or bottom is None or not isinstance(slope, np.ndarray):
        continue
      (x, zero), (y, zero_too) = top.inputs, bottom.inputs
      if x is y and _is_zero(zero) and _is_zero(zero_too):
        assert isinstance(x, Value)
        return x, slope
  return None


def _both_ways(
  operation: Operation | None,
) -> Iterator[tuple[Operand, Operand]]:
  if operation is not None:
    first, second = operation.inputs
    yield first, second
    yield second, first


def _made_by(operand: Operand, name: str) -> Operation | None:
  maker = operand.maker if isinstance(operand, Value) else None
  return maker if maker is not None and maker.name == name else None


def _is_zero(operand: Operand) -> bool:
  return isinstance(operand, np.ndarray) and not operand.any()


def _inline(
  jaxpr: core.Jaxpr,
  consts: Sequence[Any],
  arguments: Sequence[Operand],
  operations: list[Operation],
) -> list[Operand]:
  """Adds the operations of a program; returns what its results stand for."""
  found: dict[core.Var, Operand] = {}
  found.update(zip(jaxpr.constvars, map(np.asarray, consts), strict=True))
  found.update(zip(jaxpr.invars, arguments, strict=True))

  def read(atom: Any) -> Operand:
    if isinstance(atom, core.Literal):
      return np.asarray(atom.val)
    return found[atom]

  for equation in jaxpr.eqns:
    inputs = [read(atom) for atom in equation.invars]
    called = _called(equation, inputs)
    if called is not None:
      outputs = _inline(*called, operations)
    elif all(isinstance(operand, np.ndarray) for operand in inputs):
      outputs = _compute(equation, inputs)
    else:
      outputs = [_add(equation, inputs, operations)]
    found.update(zip(equation.outvars, outputs, strict=True))
  return [read(atom) for atom in jaxpr.outvars]


def _called(
  equation: Any, inputs: Sequence[Operand]
) -> tuple[core.Jaxpr, Sequence[Any], Sequence[Operand]] | None:
  """The program that an operation calls, its constants and its arguments."""
  params = equation.params
  called = next((params[name] for name in _CALLED if name in params), None)
  if equation.primitive.name == "cond" and isinstance(inputs[0], np.ndarray):
    called, inputs = params["branches"][int(inputs[0])], inputs[1:]
  if isinstance(called, core.ClosedJaxpr):
    return called.jaxpr, called.consts, inputs
  if isinstance(called, core.Jaxpr):
    return called, (), inputs
  return None


def _compute(equation: Any, inputs: Sequence[Any]) -> list[np.ndarray]:
  if equation.primitive.name == "platform_index":
    # What is done on any platform comes last.
    return [np.array(len(equation.params["platforms"]) - 1)]
  sizes = equation.outvars[0].aval.shape
  if not all(isinstance(size, int) for size in sizes):
    if equation.primitive.name != "broadcast_in_dim":
      raise ValueError(f"{equation.primitive.name} depends on the batch size")
    # Left to the operation that takes it, which broadcasts as numpy does.
    (constant,), shape = inputs, [1] * len(sizes)
    for axis, to in enumerate(equation.params["broadcast_dimensions"]):
      shape[to] = constant.shape[axis]
    return [constant.reshape(shape)]
  found = equation.primitive.bind(*inputs, **equation.params)
  found = found if equation.primitive.multiple_results else [found]
  return [np.asarray(value) for value in found]


def _add(
  equation: Any, inputs: Sequence[Operand], operations: list[Operation]
) -> Value:
  (variable,) = equation.outvars
  shape = tuple(
    size if isinstance(size, int) else None for size in variable.aval.shape
  )
  output = Value(shape)
  name = equation.primitive.name
  output.maker = Operation(name, inputs, equation.params, output)
  operations.append(output.maker)
  return output
