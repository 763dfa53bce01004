"""Each format that a net is exported to: how it is written, and read again."""

import dataclasses
import pathlib
from collections.abc import Callable

import jax
import numpy as np

import facejax
from facejax.interchange import (
  safetensors_file,
  stablehlo_file,
  state_dicts,
  torch_write,
)
from facejax.models import torch_names
from facejax.runs import card as card_lib
from facejax.runs import net as net_lib

Net = net_lib.TrainedNet


@dataclasses.dataclass(frozen=True)
class Format:
  """One format.

  Attributes:
    suffix: of its files.
    takes: what goes in, with places for height, width, colors and pixels.
    gives: what comes out, with a place for dim.
    lasts: () -> how long the file can be read; more lines of its card.
    write: (net, path, **options), writes the file; the options of ONNX are
      `opset`, others have none.
    embed: (net, path, uint8 RGB images [n, height, width, 3]) -> embeddings
      of what is read from the file, of any length.
  """

  suffix: str
  takes: str
  gives: str
  write: Callable[..., None]
  embed: Callable[[Net, pathlib.Path, np.ndarray], np.ndarray]
  lasts: Callable[[], dict[str, str]] = dict


def check_opset(opset: int) -> None:
  """Refuses a version of ONNX's operators that cannot be written.

  Raises:
    ValueError: with those that can.
    ImportError: without onnx.
  """
  from facejax.interchange import onnx_file  # an extra

  onnx_file.check_opset(opset)


def _write_onnx(net: Net, path: pathlib.Path, **options: int) -> None:
  from facejax.interchange import onnx_file

  model = onnx_file.build(
    net.features,
    net.card.image_size,
    name=net.card.net,
    version=facejax.__version__,
    notes={safetensors_file.CARD: card_lib.to_text(net.card)},
    **options,
  )
  onnx_file.write(path, model)


def _embed_onnx(net: Net, path: pathlib.Path, images: np.ndarray) -> np.ndarray:
  from facejax.interchange import onnx_file

  del net
  return onnx_file.run(path, images)


def _write_stablehlo(net: Net, path: pathlib.Path) -> None:
  stablehlo_file.write(path, net.embed, net.card.image_size)


def _embed_stablehlo(
  net: Net, path: pathlib.Path, images: np.ndarray
) -> np.ndarray:
  del net
  return stablehlo_file.run(path, images)


def _write_safetensors(net: Net, path: pathlib.Path) -> None:
  trees = {"params": net.params, "stats": net.stats}
  notes = {safetensors_file.CARD: card_lib.to_text(net.card)}
  safetensors_file.write(path, trees, notes)


def _embed_safetensors(
  net: Net, path: pathlib.Path, images: np.ndarray
) -> np.ndarray:
  arrays, _ = safetensors_file.read(path)
  like = {"params": net.params, "stats": net.stats}
  trees = safetensors_file.fill(like, arrays)
  return _embed_with(net, trees["params"], trees["stats"], images)


def _write_torch(net: Net, path: pathlib.Path) -> None:
  arrays = torch_names.to_torch(net.backbone, (net.params, net.stats))
  torch_write.write(path, arrays)


def _embed_torch(
  net: Net, path: pathlib.Path, images: np.ndarray
) -> np.ndarray:
  arrays = state_dicts.read_net(path)
  variables = torch_names.from_torch(net.backbone, arrays)
  return _embed_with(net, *variables, images)


def _embed_with(net: Net, params, stats, images: np.ndarray) -> np.ndarray:
  """Embeddings of weights that were read; they must be those of the net.

  Raises:
    ValueError: if one differs in a single bit.
  """
  before, after = (net.params, net.stats), (params, stats)
  same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), before, after)
  if not jax.tree.all(same):
    raise ValueError("the file does not hold the weights that were written")
  return np.asarray(net.compiled(params, stats, images))


FORMATS = {
  "onnx": Format(
    ".onnx",
    "data: float32 [batch, 3, {height}, {width}], RGB, (x - 127.5) / 127.5",
    "embedding: float32 [batch, {dim}], of any length",
    _write_onnx,
    _embed_onnx,
  ),
  "stablehlo": Format(
    ".stablehlo",
    "uint8 [batch, {height}, {width}, 3], RGB",
    "float32 [batch, {dim}], of length 1",
    _write_stablehlo,
    _embed_stablehlo,
    lasts=stablehlo_file.lasts,
  ),
  "safetensors": Format(
    ".safetensors",
    "weights alone; of a net for images of {height} x {width}, {colors}, {pixels}",
    "embeddings of {dim} numbers",
    _write_safetensors,
    _embed_safetensors,
  ),
  "torch": Format(
    ".pth",
    "weights alone; of a net for float32 [batch, 3, {height}, {width}],"
    " {colors}, {pixels}",
    "float32 [batch, {dim}], of any length",
    _write_torch,
    _embed_torch,
  ),
}
