"""Reads weights of elsewhere, to become the folder of a run."""

import os
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from facejax.interchange import recognition, safetensors_file
from facejax.models import torch_names
from facejax.runs import card as card_lib
from facejax.runs import imported
from facejax.runs import net as net_lib
from facejax.runtime import text_lines


def read_names(path: str | os.PathLike[str], count: int) -> list[str]:
  """The names of classes from a text file, one a line in their order.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: if there are not as many as class weights.
  """
  names = [row.fields[0] for row in text_lines.rows(path, separator="\n")]
  if len(names) != count:
    raise ValueError(
      f"{os.fspath(path)!r} names {len(names):,} classes, and there are"
      f" {count:,} class weights (--prototypes): one name a line, in their order"
    )
  return names


def own_card(path: str | os.PathLike[str]) -> card_lib.Card | None:
  """The card inside of a .safetensors file that `facejax.export` wrote.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: if it or its card is damaged.
  """
  if not os.fspath(path).endswith(".safetensors"):
    return None
  _, notes = safetensors_file.read(path)
  if safetensors_file.CARD not in notes:
    return None
  try:
    return card_lib.of_text(notes[safetensors_file.CARD])
  except ValueError as error:
    raise ValueError(f"{os.fspath(path)!r}: {error}") from None


def read_own(
  path: str | os.PathLike[str], card: card_lib.Card
) -> imported.ImportedWeights:
  """The weights of such a file."""
  arrays, _ = safetensors_file.read(path)
  shapes = jax.eval_shape(net_lib.build(card).init, jax.random.key(0))
  like = dict(zip(("params", "stats"), shapes, strict=True))
  try:
    return imported.ImportedWeights(**safetensors_file.fill(like, arrays))
  except ValueError as error:
    raise ValueError(f"{os.fspath(path)!r}: {error}") from None


def infer_dim(
  net: str, image_size: tuple[int, int], arrays: Mapping[str, np.ndarray]
) -> int:
  """The size of the embeddings, as the last layer of a state dict has it.

  Raises:
    ValueError: if that layer is missing.
  """
  layer = recognition.torch_layers(net, image_size)[-1].torch
  for name in (f"{layer}.weight", f"{layer}.running_mean"):
    if name in arrays and arrays[name].ndim:
      return arrays[name].shape[0]
  raise ValueError(
    f"there is no '{layer}.weight', the last layer of net {net!r}: this is"
    " another net, or its names begin with something that --prefix leaves off."
    f" It has {', '.join(list(arrays)[:5])}, …"
  )


def classifier(
  card: card_lib.Card, arrays: Mapping[str, np.ndarray]
) -> list[str]:
  """Arrays beside the net that are the weights of classes, with their bias.

  These are no part of the net, and embeddings need none of them.
  """
  others = torch_names.unknown(net_lib.build(card), arrays)
  matrices = {
    name: arrays[name].shape
    for name in others
    if arrays[name].ndim == 2 and card.embedding_dim in arrays[name].shape
  }
  biases = {
    f"{name.rpartition('.')[0]}.bias": shape for name, shape in matrices.items()
  }
  return [
    name
    for name in others
    if name in matrices
    or (name in biases and arrays[name].size in biases[name])
  ]


def read_state_dict(
  card: card_lib.Card,
  arrays: Mapping[str, np.ndarray],
  *,
  ignore: Sequence[str] = (),
) -> imported.ImportedWeights:
  """Weights from a state dict in the field's names.

  Raises:
    ValueError: listing the tensors that are missing, unknown, or of another
      shape; or naming one that is not finite.
  """
  for name, array in arrays.items():
    if not np.isfinite(array.astype(np.float32)).all():
      raise ValueError(f"{name!r} has numbers that are not finite")
  net = net_lib.build(card)
  return imported.ImportedWeights(
    *torch_names.from_torch(net, arrays, ignore=ignore)
  )
