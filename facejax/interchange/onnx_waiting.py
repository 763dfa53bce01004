"""Operations that are not written before it is known what follows them.

BatchNorm reaches the writer as four operations with constants. They are
gathered into one factor and one offset a channel, and where a convolution or a
linear layer comes before, these go into its weights, exactly. A map that is
flattened for a linear layer is not turned around: the rows of its weights are.
"""

import dataclasses
from typing import Any, Self

import numpy as np

from facejax.interchange import onnx_graph as graph_lib
from facejax.interchange import operations


@dataclasses.dataclass(frozen=True)
class Linear:
  """A convolution or linear layer without bias that is not yet written.

  Attributes:
    kind: "Conv", "Gemm" or "MatMul".
    x: name of what it takes.
    weights: as ONNX wants them.
    out: axis of the weights with the output channels.
    order: of the result's axes.
    attributes: of the node.
  """

  kind: str
  x: str
  weights: np.ndarray
  out: int
  order: graph_lib.Order
  attributes: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Affine:
  """scale * base + offset, over the last of JAX's axes; float64."""

  base: graph_lib.GraphTensor | Linear
  scale: np.ndarray = dataclasses.field(default_factory=lambda: np.ones(1))
  offset: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(1))

  def then(self, name: str, constant: np.ndarray, *, first: bool) -> Self:
    """With another operation upon it; `first` puts the constant before."""
    c, scale, offset = constant.astype(np.float64), self.scale, self.offset
    if name == "sub" and first:
      return dataclasses.replace(self, scale=-scale, offset=c - offset)
    if name in ("add", "sub"):
      c = c if name == "add" else -c
      return dataclasses.replace(self, offset=offset + c)
    c = c if name == "mul" else 1 / c
    return dataclasses.replace(self, scale=scale * c, offset=offset * c)

  def write(self, graph: graph_lib.Graph) -> graph_lib.GraphTensor:
    """Writes what is waiting."""
    if isinstance(self.base, graph_lib.GraphTensor):
      return _write_affine(self.base, self.scale, self.offset, graph)
    return _write_linear(self.base, self.scale, self.offset, graph)


@dataclasses.dataclass(frozen=True)
class Flattened:
  """A map [batch, height, width, channels] as one row of numbers an image.

  Attributes:
    base: the map.
    shape: its sizes but for the batch, as JAX numbers them.
  """

  base: graph_lib.GraphTensor
  shape: tuple[int, ...]

  def write(self, graph: graph_lib.Graph) -> graph_lib.GraphTensor:
    """In JAX's order, for whoever else may want it."""
    x = graph.plain(self.base)
    return graph.add("Flatten", x.name, order=(0, 1), axis=1)

  def times(self, weights: np.ndarray, graph: graph_lib.Graph) -> Affine:
    """The product with weights [numbers, outputs], rows as the map lies."""
    order = self.base.order
    maps = weights.reshape(*self.shape, -1)
    axes = [axis - 1 for axis in order[1:]]
    rows = maps.transpose(*axes, len(axes)).reshape(weights.shape)
    x = graph.add("Flatten", self.base.name, order=(0, 1), axis=1)
    return Affine(Linear("Gemm", x.name, rows, out=1, order=(0, 1)))


Waiting = Affine | Flattened


def takes(
  operation: operations.Operation,
) -> tuple[operations.Value, Any] | None:
  """The value and the constant if an operation is one that `then` knows."""
  if operation.name not in ("add", "sub", "mul", "div"):
    return None
  first, second = operation.inputs
  if isinstance(first, operations.Value) and isinstance(second, np.ndarray):
    value, constant = first, second
  elif isinstance(first, np.ndarray) and isinstance(second, operations.Value):
    value, constant = second, first
    if operation.name == "div":
      return None
  else:
    return None
  if constant.size > 1 and constant.size != constant.shape[-1]:
    return None
  if constant.size > 1 and constant.size != value.shape[-1]:
    return None
  return value, constant.reshape(-1)


def _write_linear(
  linear: Linear,
  scale: np.ndarray,
  offset: np.ndarray,
  graph: graph_lib.Graph,
) -> graph_lib.GraphTensor:
  size = linear.weights.shape[linear.out]
  scale, offset = (np.broadcast_to(x, size) for x in (scale, offset))
  wide = [1] * linear.weights.ndim
  wide[linear.out] = -1
  inputs = [linear.x, linear.weights * scale.reshape(wide)]
  bias = bool(offset.any())
  if bias and linear.kind != "MatMul":
    inputs.append(offset)
  made = graph.add(
    linear.kind, *inputs, order=linear.order, **linear.attributes
  )
  if bias and linear.kind == "MatMul":
    return graph.add("Add", made.name, offset, order=linear.order)
  return made


def _write_affine(
  tensor: graph_lib.GraphTensor,
  scale: np.ndarray,
  offset: np.ndarray,
  graph: graph_lib.Graph,
) -> graph_lib.GraphTensor:
  order = tensor.order
  last, size = len(order) - 1, max(scale.size, offset.size)
  scaled, moved = bool((scale != 1).any()), bool(offset.any())
  if scaled and moved and size > 1 and order.index(last) == 1:
    scale, offset = (np.broadcast_to(x, size) for x in (scale, offset))
    return graph.add(
      "BatchNormalization",
      tensor.name,
      *(scale, offset, np.zeros(size), np.ones(size)),
      order=order,
      epsilon=0.0,
    )
  for kind, needed, constant in (
    ("Mul", scaled, scale),
    ("Add", moved, offset),
  ):
    if needed:
      wide = (1,) * last + (-1,)
      laid = graph_lib.laid(constant.reshape(wide), order)
      tensor = graph.add(kind, tensor.name, laid, order=order)
  return tensor
