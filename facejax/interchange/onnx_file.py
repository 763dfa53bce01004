"""ONNX files that clients of ArcFace take as they are.

One input "data" [batch, 3, height, width], RGB, already as (x - 127.5) / 127.5;
one output "embedding" [batch, dim]; the batch may be of any size.
"""

import os
import pathlib
from collections.abc import Callable, Mapping

import jax
import numpy as np

from facejax.interchange import onnx_graph, onnx_rules, onnx_writer, operations
from facejax.runtime import extras

with extras.needed():
  import onnx
  from onnx import helper

INPUT, OUTPUT = "data", "embedding"
# Channels second, by JAX's numbering of [batch, height, width, channels].
_IMAGES = (0, 3, 1, 2)
_MOST_BYTES = 2**31 - 1


def build(
  function: Callable[[jax.Array], jax.Array],
  image_size: tuple[int, int],
  *,
  name: str,
  version: str,
  notes: Mapping[str, str],
  opset: int = onnx_graph.OPSET,
) -> onnx.ModelProto:
  """The model of a net.

  Args:
    function: float32 images [batch, height, width, 3], normalised, to float32
      [batch, dim].
    image_size: height and width.
    name: of the net.
    version: of this software.
    notes: kept in the file beside the graph.
    opset: version of ONNX's operators; runtimes read their own and all before.

  Raises:
    ValueError: if there is no such opset, if the net has a primitive that no
      rule writes, or the file would be larger than ONNX files can be.
  """
  check_opset(opset)
  height, width = image_size
  steps = operations.prelu(operations.trace(function, (height, width, 3)))
  graph = onnx_graph.Graph(opset)
  writer = onnx_writer.GraphWriter(graph, onnx_rules.RULES)
  writer.put(steps.argument, onnx_graph.GraphTensor(INPUT, _IMAGES))
  try:
    for operation in steps.operations:
      writer.write(operation)
  except NotImplementedError as error:
    raise ValueError(f"net {name!r} cannot be an ONNX file: {error}") from None
  result = writer.plain(steps.result)
  graph.nodes.append(
    helper.make_node("Identity", [result.name], [OUTPUT], name=OUTPUT)
  )
  size = sum(len(constant.raw_data) for constant in graph.constants)
  if size > _MOST_BYTES - 2**20:
    raise ValueError(
      f"the weights take {size / 2**30:.1f} GiB, and an ONNX file ends at 2:"
      " export this net as stablehlo or safetensors"
    )
  kind = onnx.TensorProto.FLOAT
  opsets = [helper.make_opsetid("", opset)]
  value = helper.make_tensor_value_info
  model = helper.make_model(
    helper.make_graph(
      graph.nodes,
      name,
      [value(INPUT, kind, [operations.BATCH, 3, height, width])],
      [value(OUTPUT, kind, [operations.BATCH, steps.result.shape[1]])],
      graph.constants,
    ),
    opset_imports=opsets,
    ir_version=helper.find_min_ir_version_for(opsets),
    producer_name="facejax",
    producer_version=version,
  )
  helper.set_model_props(model, dict(notes))
  onnx.checker.check_model(model, full_check=True)
  return model


def check_opset(opset: int) -> None:
  """Refuses versions of ONNX's operators that are not written here.

  Raises:
    ValueError: with those that are, and with the newest that the installed
      onnx knows.
  """
  newest = min(onnx_graph.OPSETS[-1], onnx.defs.onnx_opset_version())
  if not onnx_graph.OPSETS[0] <= opset <= newest:
    raise ValueError(
      f"--opset {opset}: choose one of {onnx_graph.OPSETS[0]} to {newest}"
      f" (onnx {onnx.__version__})"
    )


def write(path: pathlib.Path, model: onnx.ModelProto) -> None:
  path.write_bytes(model.SerializeToString(deterministic=True))


def run(path: str | os.PathLike[str], images: np.ndarray) -> np.ndarray:
  """What onnxruntime makes of uint8 RGB images [n, height, width, 3].

  As a client would: the file is read anew, and images are normalised here.
  """
  with extras.needed():
    import onnxruntime
  session = onnxruntime.InferenceSession(
    os.fspath(path), providers=["CPUExecutionProvider"]
  )
  pixels = (images.astype(np.float32).transpose(0, 3, 1, 2) - 127.5) / 127.5
  (embeddings,) = session.run(None, {session.get_inputs()[0].name: pixels})
  return np.asarray(embeddings)
