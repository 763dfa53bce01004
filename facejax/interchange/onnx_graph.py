"""A graph of ONNX in the making: nodes, constants, and in what order axes lie.

JAX has channels last, ONNX wants them second. Nothing is turned around for
that: a tensor remembers the order in which its axes lie, and only where an
operation needs another one a Transpose is written.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from facejax.runtime import extras

with extras.needed():
  import onnx
  from onnx import helper, numpy_helper

# Read by every runtime since onnxruntime 1.12.
OPSET = 17
# Before 13 sums have their axes elsewhere. The newest is the last that
# onnxruntime has run the tests' files of.
OPSETS = range(13, 29)

Order: TypeAlias = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class GraphTensor:
  """What a node makes.

  Attributes:
    name: of the value in the graph.
    order: which axis, by JAX's numbering, lies at each place.
  """

  name: str
  order: Order

  @property
  def is_plain(self) -> bool:
    """Whether axes lie as JAX numbers them."""
    return self.order == tuple(range(len(self.order)))

  def places(self, axes: Sequence[int]) -> list[int]:
    """Where axes lie."""
    return [self.order.index(axis) for axis in axes]


class Graph:
  """Collects nodes; their names say what they do and never begin with a capital.

  Clients of the field look at the names of the first nodes, and take a net
  with a "Sub…" and a "Mul…" among them for one that normalises its images.

  Args:
    opset: version of the operators, of `OPSETS`.
  """

  def __init__(self, opset: int = OPSET):
    self.opset = opset
    self.nodes: list[onnx.NodeProto] = []
    self.constants: list[onnx.TensorProto] = []
    self._names: dict[tuple[Any, ...], str] = {}

  def add(
    self,
    kind: str,
    *inputs: str | np.ndarray,
    order: Order,
    **attributes: Any,
  ) -> GraphTensor:
    """Adds a node with one result."""
    names = [
      self.constant(x) if isinstance(x, np.ndarray) else x for x in inputs
    ]
    name = f"{kind.lower()}_{len(self.nodes)}"
    self.nodes.append(
      helper.make_node(kind, names, [name], name=name, **attributes)
    )
    return GraphTensor(name, order)

  def constant(self, array: np.ndarray) -> str:
    """Its name; float32 or int64."""
    array = np.asarray(array, _kind(array))
    small = array.size <= 8
    key = (array.dtype, array.shape, array.tobytes()) if small else ()
    if key in self._names:
      return self._names[key]
    name = f"constant_{len(self.constants)}"
    self.constants.append(numpy_helper.from_array(array, name))
    if small:
      self._names[key] = name
    return name

  def ordered(self, tensor: GraphTensor, order: Order) -> GraphTensor:
    """The same with its axes in another order."""
    if tensor.order == order:
      return tensor
    return self.add(
      "Transpose", tensor.name, order=order, perm=tensor.places(order)
    )

  def plain(self, tensor: GraphTensor) -> GraphTensor:
    """The same with axes as JAX numbers them."""
    return self.ordered(tensor, plain_order(len(tensor.order)))


def plain_order(rank: int) -> Order:
  return tuple(range(rank))


def laid(array: np.ndarray, order: Order) -> np.ndarray:
  """A constant with its axes in an order; numbers alone stay as they are."""
  return array.transpose(order) if array.ndim == len(order) else array


def _kind(array: np.ndarray) -> Any:
  return np.float32 if np.issubdtype(array.dtype, np.floating) else np.int64
