"""Writes a program of JAX as a graph of ONNX, operation by operation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from facejax.interchange import onnx_graph, onnx_waiting, operations

Result: TypeAlias = onnx_graph.GraphTensor | onnx_waiting.Waiting

_SAME = ("stop_gradient", "copy", "copy_p", "optimization_barrier")
# Of one or more values and constants, element by element.
_ELEMENTWISE = {
  "add": "Add",
  "add_any": "Add",
  "sub": "Sub",
  "mul": "Mul",
  "div": "Div",
  "max": "Max",
  "min": "Min",
  "pow": "Pow",
  "exp": "Exp",
  "log": "Log",
  "sqrt": "Sqrt",
  "tanh": "Tanh",
  "erf": "Erf",
  "abs": "Abs",
  "neg": "Neg",
  "logistic": "Sigmoid",
  "lt": "Less",
  "le": "LessOrEqual",
  "gt": "Greater",
  "ge": "GreaterOrEqual",
  "eq": "Equal",
}


class GraphWriter:
  """Writes the operations of a program, one after the other.

  Args:
    graph: what they are added to.
    rules: by the name of a primitive: what takes the writer and an operation
      and returns what stands for its result.
  """

  def __init__(self, graph: onnx_graph.Graph, rules: "Mapping[str, Rule]"):
    self.graph, self._rules = graph, rules
    self._found: dict[operations.Value, Result] = {}

  def put(self, value: operations.Value, result: Result) -> None:
    """Says what stands for a value."""
    self._found[value] = result

  def tensor(self, value: operations.Value) -> onnx_graph.GraphTensor:
    """What stands for a value, written if it was still waiting."""
    result = self._found[value]
    if not isinstance(result, onnx_graph.GraphTensor):
      result = self._found[value] = result.write(self.graph)
    return result

  def result(self, value: operations.Value) -> Result:
    """What stands for a value, as it is."""
    return self._found[value]

  def plain(self, operand: operations.Operand) -> onnx_graph.GraphTensor:
    """Likewise, or a constant, with axes as JAX numbers them."""
    if isinstance(operand, np.ndarray):
      name = self.graph.constant(operand)
      return onnx_graph.GraphTensor(name, onnx_graph.plain_order(operand.ndim))
    return self.graph.plain(self.tensor(operand))

  def write(self, operation: operations.Operation) -> None:
    """Writes one operation.

    Raises:
      NotImplementedError: if there is no rule for it.
    """
    self.put(operation.output, self._written(operation))

  def _written(self, operation: operations.Operation) -> Result:
    affine = onnx_waiting.takes(operation)
    if affine is not None:
      value, constant = affine
      first = operation.inputs[0] is not value
      return self._waiting(value).then(operation.name, constant, first=first)
    if operation.name in _SAME:
      return self.tensor(only(operation))
    if operation.name in _ELEMENTWISE:
      kind = _ELEMENTWISE[operation.name]
      return self.elementwise(kind, operation.inputs)
    if operation.name not in self._rules:
      raise NotImplementedError(
        f"no rule writes JAX's {operation.name!r} in ONNX yet"
      )
    return self._rules[operation.name](self, operation)

  def _waiting(self, value: operations.Value) -> onnx_waiting.Affine:
    result = self._found[value]
    if isinstance(result, onnx_waiting.Affine) and value.uses == 1:
      return result
    return onnx_waiting.Affine(self.tensor(value))

  def elementwise(
    self, kind: str, operands: Sequence[operations.Operand], **attributes: Any
  ) -> onnx_graph.GraphTensor:
    """Adds a node whose operands are laid out alike."""
    order = self.order(operands)
    if kind in ("Max", "Min") and (clipped := self._clip(kind, operands)):
      return clipped
    inputs = [
      onnx_graph.laid(x, order)
      if isinstance(x, np.ndarray)
      else self.graph.ordered(self.tensor(x), order).name
      for x in operands
    ]
    return self.graph.add(kind, *inputs, order=order, **attributes)

  def order(self, operands: Sequence[operations.Operand]) -> onnx_graph.Order:
    """How the axes of operands lie that are to be laid out alike."""
    tensors = [
      self.tensor(x) for x in operands if isinstance(x, operations.Value)
    ]
    turned = [tensor for tensor in tensors if not tensor.is_plain]
    return (turned or tensors)[0].order

  def _clip(self, kind, operands) -> onnx_graph.GraphTensor | None:
    bounds = [x for x in operands if isinstance(x, np.ndarray) and x.size == 1]
    values = [x for x in operands if isinstance(x, operations.Value)]
    if len(bounds) != 1 or len(values) != 1:
      return None
    x, bound = self.tensor(values[0]), bounds[0].reshape(())
    if kind == "Max" and bound == 0:
      return self.graph.add("Relu", x.name, order=x.order)
    limits = (bound,) if kind == "Max" else ("", bound)
    return self.graph.add("Clip", x.name, *limits, order=x.order)


Rule: TypeAlias = Callable[[GraphWriter, operations.Operation], Result]


def only(operation: operations.Operation) -> operations.Value:
  """The first operand, which is a value and not a constant."""
  value = operation.inputs[0]
  assert isinstance(value, operations.Value)
  return value
