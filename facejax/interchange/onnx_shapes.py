"""Rules of ONNX for what moves numbers: shapes, slices, padding."""

import numpy as np

from facejax.interchange import (
  onnx_graph,
  onnx_waiting,
  onnx_writer,
  operations,
)


def reshape(
  writer: onnx_writer.GraphWriter, operation: operations.Operation
) -> onnx_writer.Result:
  value = onnx_writer.only(operation)
  x, before, after = writer.tensor(value), value.shape, operation.output.shape
  if not x.is_plain and len(after) == 2 and after[0] is before[0] is None:
    sizes = tuple(size for size in before[1:] if size is not None)
    if x.order[0] == 0 and len(sizes) == len(before) - 1:
      return onnx_waiting.Flattened(x, sizes)
  return reshaped(writer, writer.graph.plain(x), after, before)


def reshaped(
  writer: onnx_writer.GraphWriter,
  x: onnx_graph.GraphTensor,
  shape: tuple[int | None, ...],
  before: tuple[int | None, ...] | None = None,
) -> onnx_graph.GraphTensor:
  if shape == before:
    return x
  if shape.count(None) > 1:
    raise NotImplementedError("two axes that depend on the batch")
  sizes = np.array([-1 if size is None else size for size in shape])
  order = onnx_graph.plain_order(len(shape))
  return writer.graph.add("Reshape", x.name, sizes, order=order)


def broadcast(
  writer: onnx_writer.GraphWriter, operation: operations.Operation
) -> onnx_writer.Result:
  value, after = onnx_writer.only(operation), operation.output.shape
  kept = operation.params["broadcast_dimensions"]
  expanded = tuple(
    value.shape[kept.index(axis)] if axis in kept else 1
    for axis in range(len(after))
  )
  if expanded != after:
    raise NotImplementedError(f"copies of {value.shape} as {after}")
  return reshaped(writer, writer.plain(value), after, value.shape)


def transpose(
  writer: onnx_writer.GraphWriter, operation: operations.Operation
) -> onnx_writer.Result:
  x = writer.tensor(onnx_writer.only(operation))
  after = list(operation.params["permutation"])
  return onnx_graph.GraphTensor(x.name, tuple(map(after.index, x.order)))


def _cut(writer, x, begin, end, step, axes) -> onnx_graph.GraphTensor:
  bounds = [np.array(bound) for bound in (begin, end, x.places(axes), step)]
  return writer.graph.add("Slice", x.name, *bounds, order=x.order)


def cut(
  writer: onnx_writer.GraphWriter, operation: operations.Operation
) -> onnx_writer.Result:
  value, params = onnx_writer.only(operation), operation.params
  begin, end = params["start_indices"], params["limit_indices"]
  steps = params["strides"] or (1,) * value.rank
  axes = [
    axis
    for axis, size in enumerate(value.shape)
    if size is not None
    and (begin[axis], end[axis], steps[axis]) != (0, size, 1)
  ]
  if value.shape != operation.output.shape and not axes:
    raise NotImplementedError("a slice of the batch")
  if not axes:
    return writer.tensor(value)
  first, last, step = (
    [bounds[axis] for axis in axes] for bounds in (begin, end, steps)
  )
  return _cut(writer, writer.tensor(value), first, last, step, axes)


def reverse(
  writer: onnx_writer.GraphWriter, operation: operations.Operation
) -> onnx_writer.Result:
  x, axes = (
    writer.tensor(onnx_writer.only(operation)),
    operation.params["dimensions"],
  )
  count, before_first = len(axes), np.iinfo(np.int64).min
  return _cut(
    writer, x, [-1] * count, [before_first] * count, [-1] * count, axes
  )


def pad(
  writer: onnx_writer.GraphWriter, operation: operations.Operation
) -> onnx_writer.Result:
  fill, widths = operation.inputs[1], operation.params["padding_config"]
  x = writer.tensor(onnx_writer.only(operation))
  if any(low < 0 or high < 0 or inner for low, high, inner in widths):
    raise NotImplementedError("padding that cuts, or between elements")
  assert isinstance(fill, np.ndarray)
  laid = [widths[axis] for axis in x.order]
  pads = np.array([[low for low, *_ in laid], [high for _, high, _ in laid]])
  return writer.graph.add("Pad", x.name, pads.reshape(-1), fill, order=x.order)


def concatenate(
  writer: onnx_writer.GraphWriter, operation: operations.Operation
) -> onnx_writer.Result:
  if any(isinstance(x, np.ndarray) for x in operation.inputs):
    raise NotImplementedError("a constant beside values in a concatenation")
  axis = writer.order(operation.inputs).index(operation.params["dimension"])
  return writer.elementwise("Concat", operation.inputs, axis=axis)


def window_sum(
  writer: onnx_writer.GraphWriter, operation: operations.Operation
) -> onnx_writer.Result:
  """Sums over windows along one axis, as shifted copies."""
  value, params = onnx_writer.only(operation), operation.params
  sizes = params["window_dimensions"]
  axes = [axis for axis, size in enumerate(sizes) if size > 1]
  others = (*params["window_strides"], *params["base_dilation"])
  if len(axes) != 1 or any(
    n != 1 for n in (*others, *params["window_dilation"])
  ):
    raise NotImplementedError("sums over windows along more than one axis")
  (axis,), x = axes, writer.tensor(value)
  length, (low, high) = value.shape[axis], params["padding"][axis]
  assert length is not None
  place, rank = x.order.index(axis), value.rank
  pads = np.zeros((2, rank), np.int64)
  pads[:, place] = low, high
  x = writer.graph.add("Pad", x.name, pads.reshape(-1), order=x.order)
  last = length + low + high - sizes[axis]
  parts = [
    _cut(writer, x, [i], [i + last + 1], [1], [axis])
    for i in range(sizes[axis])
  ]
  return writer.graph.add("Sum", *(p.name for p in parts), order=x.order)
