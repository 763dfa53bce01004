"""Files of embeddings for TensorBoard's projector."""

import os
import pathlib
import shutil

import numpy as np
from PIL import Image

from facejax.data import sources
from facejax.runs import folder, results
from facejax.runtime import distributed, tensorboard, text_lines

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
  than 2,000 images every so many is taken. Process 0 writes; others do nothing.

  Args:
    run: the folder of the run.
    name: of the result.
    vectors: of length 1, [images, dim].
    source: the images.
    indices: which of the source each vector is of, [images].
    step: training steps of the net.
  """
  stem = results.stem(name)
  target = pathlib.Path(run, folder.TENSORBOARD, "embeddings", stem)
  if not distributed.primary():
    return target
  shutil.rmtree(target, ignore_errors=True)
  rows = np.arange(0, len(vectors), -(-len(vectors) // _MOST))
  labels, names = np.asarray(source.labels), source.class_names
  table = []
  for index in indices[rows].tolist():
    person = text_lines.printable(str(names[int(labels[index])]))
    table.append(
      [_cell(person), _cell(text_lines.printable(source.name(index)))]
    )
  pictures = np.stack([_square(source[int(i)]) for i in indices[rows]])
  # The writer leaves the end of its sprite as it finds it in memory.
  ignored = np.errstate(over="ignore", invalid="ignore")
  with ignored, tensorboard.writer(target) as writer:
    writer.add_embedding(
      np.asarray(vectors[rows], np.float32),
      metadata=table,
      metadata_header=["person", "image"],
      label_img=pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255,
      global_step=step,
      tag="embeddings",
    )
  return target


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
