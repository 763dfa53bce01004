"""Files of embeddings for TensorBoard's projector."""

import os
import pathlib
import shutil

import numpy as np
import tensorboardX
from PIL import Image

from facejax.data import images, sources
from facejax.runs import results

_MOST = 2000
_SIDE = 48


def write(
  run: str | os.PathLike[str],
  name: str,
  vectors: np.ndarray,
  source: sources.Source,
  indices: np.ndarray,
  *,
  step: int,
) -> pathlib.Path:
  """Writes tensorboard/embeddings/NAME: vectors, people, and thumbnails.

  `tensorboard --logdir RUN/tensorboard` shows them under "Projector". Of more
  than 2,000 images every so many is taken.

  Args:
    run: the folder of the run.
    name: of the result.
    vectors: of length 1, [images, dim].
    source: the images.
    indices: which of the source each vector is of, [images].
    step: training steps of the net.
  """
  stem = results.file_name(name).removesuffix(".json")
  folder = pathlib.Path(run, "tensorboard", "embeddings", stem)
  shutil.rmtree(folder, ignore_errors=True)
  rows = np.arange(0, len(vectors), -(-len(vectors) // _MOST))
  labels, names = np.asarray(source.labels), source.class_names
  table = []
  for index in indices[rows].tolist():
    person = images.printable(str(names[int(labels[index])]))
    table.append([_cell(person), _cell(images.printable(source.name(index)))])
  pictures = np.stack([_square(source[int(i)]) for i in indices[rows]])
  # The writer leaves the end of its sprite as it finds it in memory.
  ignored = np.errstate(over="ignore", invalid="ignore")
  with ignored, tensorboardX.SummaryWriter(str(folder)) as writer:
    writer.add_embedding(
      np.asarray(vectors[rows], np.float32),
      metadata=table,
      metadata_header=["person", "image"],
      label_img=pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255,
      global_step=step,
      tag="embeddings",
    )
  return folder


def _square(image: np.ndarray) -> np.ndarray:
  picture = Image.fromarray(np.asarray(image))
  picture.thumbnail((_SIDE, _SIDE))
  canvas = Image.new("RGB", (_SIDE, _SIDE))
  left, top = (_SIDE - picture.width) // 2, (_SIDE - picture.height) // 2
  canvas.paste(picture, (left, top))
  return np.asarray(canvas)


def _cell(text: str) -> str:
  """Text without what ends a cell of a table."""
  return " ".join(text.split())
