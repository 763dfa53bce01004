"""How each primitive of JAX is written in ONNX.

A net with a primitive that has no rule is refused by the primitive's name.
"""

from collections.abc import Sequence

import numpy as np

from facejax.interchange import (
  onnx_graph,
  onnx_shapes,
  onnx_waiting,
  onnx_writer,
  operations,
)


def _prelu(
  writer: onnx_writer.GraphWriter, operation: operations.Operation
) -> onnx_writer.Result:
  x, slope = writer.tensor(onnx_writer.only(operation)), operation.inputs[1]
  assert isinstance(slope, np.ndarray)
  slope = onnx_graph.laid(slope, x.order)
  # ONNX broadcasts the slope to the value, without the axis of the batch.
  slope = slope[0] if slope.ndim == len(x.order) else slope.reshape(1)
  return writer.graph.add("PRelu", x.name, slope, order=x.order)


def _convolution(
  writer: onnx_writer.GraphWriter, operation: operations.Operation
) -> onnx_writer.Result:
  params, weights = operation.params, operation.inputs[1]
  numbers = params["dimension_numbers"]
  if not isinstance(weights, np.ndarray) or params["batch_group_count"] != 1:
    raise NotImplementedError("a convolution without constant weights")
  if any(factor != 1 for factor in params["lhs_dilation"]):
    raise NotImplementedError("a transposed convolution")
  x = writer.graph.ordered(
    writer.tensor(onnx_writer.only(operation)), numbers.lhs_spec
  )
  begin, end = zip(*params["padding"], strict=True)
  return onnx_waiting.Affine(
    onnx_waiting.Linear(
      "Conv",
      x.name,
      weights.transpose(numbers.rhs_spec),
      out=0,
      order=numbers.out_spec,
      attributes={
        "strides": params["window_strides"],
        "pads": [*begin, *end],
        "dilations": params["rhs_dilation"],
        "group": params["feature_group_count"],
      },
    )
  )


def _product(
  writer: onnx_writer.GraphWriter, operation: operations.Operation
) -> onnx_writer.Result:
  first, second = operation.inputs
  (left, right), (left_batch, right_batch) = operation.params[
    "dimension_numbers"
  ]
  if isinstance(second, np.ndarray) and second.ndim == 2 and not left_batch:
    waiting = isinstance(first, operations.Value) and writer.result(first)
    if isinstance(waiting, onnx_waiting.Flattened):
      return waiting.times(second, writer.graph)
    x = writer.plain(first)
    rank = len(x.order)
    if left == (rank - 1,) and right == (0,):
      kind = "Gemm" if rank == 2 else "MatMul"
      return onnx_waiting.Affine(
        onnx_waiting.Linear(kind, x.name, second, out=1, order=x.order)
      )
  # Operands as [batch…, free, contracted] and [batch…, contracted, free].
  a = _matrix(writer, first, left_batch, left, last=True)
  b = _matrix(writer, second, right_batch, right, last=False)
  rank = len(left_batch) + 2
  made = writer.graph.add("MatMul", a, b, order=onnx_graph.plain_order(rank))
  return onnx_shapes.reshaped(writer, made, operation.output.shape)


def _matrix(
  writer: onnx_writer.GraphWriter,
  operand: operations.Operand,
  batch: Sequence[int],
  contracted: Sequence[int],
  *,
  last: bool,
) -> str:
  """A value with its contracted axes together, after or before the others."""
  shape = operand.shape
  free = [i for i in range(len(shape)) if i not in (*batch, *contracted)]
  groups = (free, contracted) if last else (contracted, free)
  order = (*batch, *groups[0], *groups[1])
  sizes = [*(shape[i] for i in batch), *(_size(shape, g) for g in groups)]
  if isinstance(operand, np.ndarray):
    return writer.graph.constant(operand.transpose(order).reshape(sizes))
  x = writer.graph.ordered(writer.tensor(operand), order)
  if len(free) == len(contracted) == 1:
    return x.name
  return onnx_shapes.reshaped(writer, x, tuple(sizes)).name


def _size(shape: Sequence[int | None], axes: Sequence[int]) -> int | None:
  sizes = [shape[axis] for axis in axes]
  return None if None in sizes else int(np.prod([s or 0 for s in sizes] or [1]))


def _reduce(
  writer: onnx_writer.GraphWriter, operation: operations.Operation
) -> onnx_writer.Result:
  x, axes = writer.tensor(onnx_writer.only(operation)), operation.params["axes"]
  rest = [axis for axis in x.order if axis not in axes]
  order = tuple(sorted(rest).index(axis) for axis in rest)
  places = x.places(axes)
  if operation.name == "reduce_sum":
    return writer.graph.add(
      "ReduceSum", x.name, np.array(places), order=order, keepdims=0
    )
  kind = {"reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}[operation.name]
  if writer.graph.opset < 18:
    return writer.graph.add(kind, x.name, order=order, axes=places, keepdims=0)
  return writer.graph.add(
    kind, x.name, np.array(places), order=order, keepdims=0
  )


def _select(
  writer: onnx_writer.GraphWriter, operation: operations.Operation
) -> onnx_writer.Result:
  condition, otherwise, chosen = operation.inputs
  return writer.elementwise("Where", (condition, chosen, otherwise))


def _square(
  writer: onnx_writer.GraphWriter, operation: operations.Operation
) -> onnx_writer.Result:
  return writer.elementwise("Mul", [onnx_writer.only(operation)] * 2)


def _integer_power(
  writer: onnx_writer.GraphWriter, operation: operations.Operation
) -> onnx_writer.Result:
  power = np.array(operation.params["y"], np.float32)
  return writer.elementwise("Pow", [onnx_writer.only(operation), power])


def _inverse_root(
  writer: onnx_writer.GraphWriter, operation: operations.Operation
) -> onnx_writer.Result:
  root = writer.elementwise("Sqrt", [onnx_writer.only(operation)])
  return writer.graph.add("Reciprocal", root.name, order=root.order)


def _convert(
  writer: onnx_writer.GraphWriter, operation: operations.Operation
) -> onnx_writer.Result:
  if not np.issubdtype(operation.params["new_dtype"], np.floating):
    raise NotImplementedError("values that are not of a floating type")
  return writer.tensor(onnx_writer.only(operation))


RULES: dict[str, onnx_writer.Rule] = {
  "prelu": _prelu,
  "conv_general_dilated": _convolution,
  "dot_general": _product,
  "reshape": onnx_shapes.reshape,
  "squeeze": onnx_shapes.reshape,
  "expand_dims": onnx_shapes.reshape,
  "broadcast_in_dim": onnx_shapes.broadcast,
  "transpose": onnx_shapes.transpose,
  "reduce_sum": _reduce,
  "reduce_max": _reduce,
  "reduce_min": _reduce,
  "slice": onnx_shapes.cut,
  "rev": onnx_shapes.reverse,
  "pad": onnx_shapes.pad,
  "concatenate": onnx_shapes.concatenate,
  "select_n": _select,
  "reduce_window_sum": onnx_shapes.window_sum,
  "square": _square,
  "integer_pow": _integer_power,
  "rsqrt": _inverse_root,
  "convert_element_type": _convert,
}
